package rules_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const shipped = "../../../docs/policies/signing"

// TestShippedPolicies: each compiles and is in the one layout, lint finds nothing in it,
// and its tests pass, come to each line, and notice when any part of any rule is gone.
func TestShippedPolicies(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		n++
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			files, wrongs, err := rules.ReadFolder(filepath.Join(shipped, e.Name()))
			if err != nil || wrongs != nil {
				t.Fatal(err, wrongs)
			}
			if _, wrongs := rules.Load(files, rules.Options{Obligations: rules.ObligationTypes()}); wrongs != nil {
				t.Fatalf("%+v", wrongs)
			}
			for _, f := range rules.Lint(files) {
				t.Errorf("lint: %s %v (%s)", f.Subject, f, f.Hint)
			}
			for name, text := range files {
				if filepath.Ext(name) != ".rego" {
					continue
				}
				if formatted, err := rego.Format(name, text); err != nil || string(formatted) != string(text) {
					t.Errorf("%s is not formatted: %v\n%s", name, err, formatted)
				}
			}
			results, coverage, wrongs, err := rules.Test(t.Context(), files, nil)
			if err != nil || wrongs != nil {
				t.Fatalf("%v %+v", err, wrongs)
			}
			for _, r := range results {
				if !r.Passed {
					t.Errorf("%s:%d %s: not true; %v %v", r.File, r.Line, r.Name, r.Reason, r.Printed)
				}
			}
			for _, c := range coverage {
				if len(c.NotCovered) > 0 {
					t.Errorf("%s: no test comes to %v", c.File, c.NotCovered)
				}
			}
			if t.Failed() {
				return
			}
			survivors, mutants, wrongs, err := rules.Survivors(t.Context(), files)
			if err != nil || wrongs != nil || mutants < 2 {
				t.Fatalf("%d mutants, %v %+v", mutants, err, wrongs)
			}
			for _, m := range survivors {
				t.Errorf("%s:%d: no test notices that this is gone: %s", m.File, m.Line, m.What)
			}
			t.Logf("%d tests, %d mutants", len(results), mutants)
		})
	}
	if n != 10 {
		t.Errorf("%d policies", n)
	}
}
