package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/registry"
)

// TestCacheOfPrivateSources: it goes only where somebody said no to who has no login, and
// what is not known is no no.
func TestCacheOfPrivateSources(t *testing.T) {
	t.Parallel()
	ref, err := registry.ParseRef("registry.example.com/org/app-cache")
	if err != nil {
		t.Fatal(err)
	}
	outage := errors.New("it does not answer")
	for name, tc := range map[string]struct {
		where  string
		look   []string
		failed [2]error
		want   string // in the error; "" is hidden
		looked bool
	}{
		"a private network":       {where: "it is in a private network"},
		"nobody without a login":  {look: []string{"it shows it to nobody"}, looked: true},
		"everybody":               {looked: true, want: "everybody can read registry.example.com/org/app-cache"},
		"no address":              {failed: [2]error{outage, nil}, want: "does not answer"},
		"no answer":               {failed: [2]error{nil, outage}, looked: true, want: "does not answer"},
		"an answer and an outage": {look: []string{"x"}, failed: [2]error{nil, outage}, looked: true, want: "does not answer"},
	} {
		looked := false
		err := hidden(t.Context(), ref, func(context.Context, registry.Ref) (string, error) { return tc.where, tc.failed[0] },
			func(context.Context) ([]string, error) { looked = true; return tc.look, tc.failed[1] })
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || looked != tc.looked {
			t.Errorf("%s: %v, looked: %t", name, err, looked)
		}
	}
}
