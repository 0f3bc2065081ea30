package sourcepolicy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

const explained = `package docker

default allow := false

allow if input.local

allow if {
	input.image.repo == "alpine"
	input.image.tag != "latest"
	small(input.image.tag)
}

small(tag) if count(tag) < 5

allow if {
	some v in ["a", "b"]
	input.image.labels.team == v
}

deny_msg contains "why" if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
`

// TestTrace: of each rule that was come to, whether it had a value, and if not the
// condition that did not hold, with what it saw. Nothing is fetched for it.
func TestTrace(t *testing.T) {
	t.Parallel()
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(explained)}}, sourcepolicy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := sourcepolicy.ParseSource("alpine:3.20.1")
	if err != nil {
		t.Fatal(err)
	}
	known := sourcepolicy.Facts{Config: &sourcepolicy.ImageConfiguration{Labels: map[string]string{"team": "c"}}}
	ctx, trace := rego.WithTrace(t.Context())
	d, err := sourcepolicy.NewSet(p).Evaluate(ctx, sourcepolicy.Request{Source: src, Known: known})
	if err != nil || d.Allowed || len(d.Asked) > 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	var got []string
	for _, s := range trace.Steps(d.Input) {
		row := fmt.Sprintf("%d %s", s.Line, s.Rule)
		switch {
		case s.Default:
			row += " by default"
		case s.True:
			row += " true"
		default:
			row += fmt.Sprintf(" not at %d: %s", s.At, s.Text)
		}
		for _, v := range s.Saw {
			row += fmt.Sprintf(" [%s = %s]", v.Ref, v.Value)
		}
		got = append(got, row)
	}
	want := []string{
		"3 allow by default",
		"5 allow not at 5: input.local [input.local = undefined]",
		`7 allow not at 10: small(input.image.tag) [input.image.tag = "3.20.1"]`,
		"13 small not at 13: count(tag) < 5",
		`15 allow not at 17: input.image.labels.team == v [input.image.labels.team = "c"]`,
		"20 deny_msg true",
		"22 decision true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff + strings.Join(got, "\n"))
	}
}
