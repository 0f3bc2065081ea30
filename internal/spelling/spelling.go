// Package spelling finds the name that was probably meant, for errors about
// names that do not exist.
package spelling

// Nearest is the known name most like written, "" when none is like it.
func Nearest(written string, known []string) string {
	best, distance := "", len(written)/2+1
	for _, name := range known {
		if n := editDistance(written, name); n < distance {
			best, distance = name, n
		}
	}
	return best
}

// Hint is "; did you mean NAME?", "" when no known name is like written.
func Hint(written string, known []string) string {
	if name := Nearest(written, known); name != "" {
		return "; did you mean " + name + "?"
	}
	return ""
}

// editDistance is the number of letters to insert, delete, change or swap with
// their neighbour to make one name the other (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 { // no name of ours
		return 64
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 0
			if lower(a[i-1]) != lower(b[j-1]) {
				change = 1
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
