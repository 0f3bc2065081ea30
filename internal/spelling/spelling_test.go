package spelling_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"platforms", "push", "output", "meta-tags"}
	for written, want := range map[string]string{
		"platfroms":             "platforms",
		"Push":                  "push",
		"ouput":                 "output",
		"metatags":              "meta-tags",
		"meta_tags":             "meta-tags",
		"zzzz":                  "",
		"":                      "",
		strings.Repeat("p", 99): "",
	} {
		if got := spelling.Nearest(written, known); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
	if got := spelling.Hint("pusch", known); got != "; did you mean push?" {
		t.Error(got)
	}
	if got := spelling.Hint("x", nil); got != "" {
		t.Error(got)
	}
}
