package sourcepolicy_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestShownOfWhatCannotBeRead: an identifier that is no URL is shown without its secrets, too.
func TestShownOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"http://bob:canary@h:x/a?t=canary", "https://bob:can%ary@h/a?canary", "git://bob:canary@h:x/a"} {
		if got := (sourcepolicy.Source{Identifier: id}).Shown(); strings.Contains(got, "can") || !strings.Contains(got, "h") {
			t.Errorf("%s is shown as %s", id, got)
		}
	}
}

func TestRedactedInput(t *testing.T) {
	t.Parallel()
	url := "https://h/?not=secret"
	in := &sourcepolicy.Input{
		HTTP: &sourcepolicy.HTTP{URL: "http://canary@h/?canary", Query: map[string][]string{"t": {"canary"}}},
		Image: &sourcepolicy.Image{
			Labels: map[string]string{"url": url}, Env: []string{url},
			Attestations: []sourcepolicy.Attestation{{Predicate: []byte(`{"n":12345678901234567890}`)}},
			Provenance:   &sourcepolicy.Provenance{Materials: []sourcepolicy.Input{{HTTP: &sourcepolicy.HTTP{Query: map[string][]string{"t": {"canary"}}}, Material: &sourcepolicy.Material{URI: "https://canary@h/"}}}},
		},
	}
	got, err := in.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"url":"` + url + `"`, `"env":["` + url + `"]`, "12345678901234567890", `"t":["…"]`, `"uri":"https://…@h/"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("without %s: %s", want, got)
		}
	}
	if strings.Contains(string(got), "canary") {
		t.Errorf("%s", got)
	}
	if in.HTTP.Query["t"][0] != "canary" {
		t.Error("the input itself was changed")
	}
}
