package sorted_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// FuzzFunc: the standard library says what must come out, also of equals.
func FuzzFunc(f *testing.F) {
	f.Add([]byte("a short list"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, keys []byte) {
		type item struct {
			key byte
			at  int
		}
		var list []item
		for i, k := range keys {
			list = append(list, item{k % 8, i})
		}
		want := slices.Clone(list)
		byKey := func(a, b item) int { return cmp.Compare(a.key, b.key) }
		slices.SortStableFunc(want, byKey)
		sorted.Func(list, byKey)
		if !slices.Equal(list, want) {
			t.Errorf("%v, want %v", list, want)
		}
	})
}
