// Package sorted sorts lists of structures where they are short and seldom sorted.
//
// slices.SortFunc is compiled anew for each type, 10 to 16 KB each, which was a tenth of a
// megabyte for every eight lists in a program that must stay small. This is 0.3 KB a type, and slower by
// two calls for each comparison.
package sorted

import "sort"

// Func sorts list by compare, which is as of [slices.SortFunc]. What is equal keeps its order.
func Func[T any](list []T, compare func(a, b T) int) {
	sort.Stable(&byFunc[T]{list, compare})
}

type byFunc[T any] struct {
	list    []T
	compare func(a, b T) int
}

func (s *byFunc[T]) Len() int           { return len(s.list) }
func (s *byFunc[T]) Less(i, j int) bool { return s.compare(s.list[i], s.list[j]) < 0 }
func (s *byFunc[T]) Swap(i, j int)      { s.list[i], s.list[j] = s.list[j], s.list[i] }
