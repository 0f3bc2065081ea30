package review

import "bytes"

// maxEdits is up to how many differing lines the shortest script is looked for. Beyond,
// lines are compared without their order.
const maxEdits = 4000

// lines is how many lines were added and removed: the fewest with which the one text
// becomes the other (Myers 1986), of which only the number is wanted.
func lines(before, after []byte) (added, removed int) {
	a, b := number(before, after)
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return m, n
	}
	d, ok := edits(a, b)
	if !ok {
		return unordered(a, b)
	}
	// d = added + removed, and m - n = added - removed.
	return (d + m - n) / 2, (d + n - m) / 2
}

// number gives the same number to the same line.
func number(before, after []byte) (a, b []int) {
	known := map[string]int{}
	of := func(text []byte) (out []int) {
		for len(text) > 0 {
			line := text
			if i := bytes.IndexByte(text, '\n'); i >= 0 {
				line = text[:i+1]
			}
			text = text[len(line):]
			n, ok := known[string(line)]
			if !ok {
				n = len(known)
				known[string(line)] = n
			}
			out = append(out, n)
		}
		return out
	}
	return of(before), of(after)
}

func edits(a, b []int) (int, bool) {
	n, m := len(a), len(b)
	most := min(n+m, maxEdits)
	reached := make([]int, 2*most+3) // by diagonal: how far one comes
	for d := 0; d <= most; d++ {
		for k := -d; k <= d; k += 2 {
			at := most + 1 + k
			x := reached[at-1] + 1
			if k == -d || k != d && reached[at-1] < reached[at+1] {
				x = reached[at+1]
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			if reached[at] = x; x >= n && x-k >= m {
				return d, true
			}
		}
	}
	return 0, false
}

func unordered(a, b []int) (added, removed int) {
	count := map[int]int{}
	for _, line := range a {
		count[line]++
	}
	for _, line := range b {
		count[line]--
	}
	for _, n := range count {
		added, removed = added+max(-n, 0), removed+max(n, 0)
	}
	return added, removed
}
