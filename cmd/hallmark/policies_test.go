package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

// shippedPolicies is where the policies are that docs/policy.md describes.
const shippedPolicies = "../../docs/policies"

// TestShippedPolicies: each policy has tests, which pass and come to each of its
// lines; lint finds nothing in it, it is in the one layout, and docs/policy.md names it.
func TestShippedPolicies(t *testing.T) {
	t.Parallel()
	var answer policyTestAnswer
	if err := json.Unmarshal([]byte(answerOf(t, "policy", "test", shippedPolicies, "--coverage", "--json")), &answer); err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.Lines {
		if len(c.NotCovered) > 0 {
			t.Errorf("%s: no test comes to %v", c.File, c.NotCovered)
		}
	}
	tested := map[string]int{}
	for _, r := range answer.Tests {
		tested[filepath.Base(r.Policy)]++
	}
	files, err := filepath.Glob(shippedPolicies + "/*.rego")
	if err != nil || len(files) < 30 {
		t.Fatal(files, err)
	}
	documented := readDocument(t, "../../docs/policy.md")
	for _, f := range files {
		name := filepath.Base(f)
		if isPolicyTest(name) {
			continue
		}
		if tested[name] < 2 { // an allowed one and its near miss
			t.Errorf("%s has %d tests", name, tested[name])
		}
		if !strings.Contains(documented, "`"+name+"`") {
			t.Errorf("docs/policy.md does not name %s", name)
		}
	}
	if out := answerOf(t, "policy", "lint", shippedPolicies); !strings.HasPrefix(out, "ok: ") {
		t.Error(out)
	}
	var stdout, stderr bytes.Buffer
	a := &app{&cli.App{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" }}}
	if code := run([]string{"policy", "fmt", "--check", shippedPolicies}, a); code != cli.ExitOK {
		t.Errorf("not formatted:\n%s%s", &stdout, &stderr)
	}
}

// scriptPolicies is the verb "policies DIR": the shipped policies, copied there.
func scriptPolicies(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: policies DIR")
	}
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(shippedPolicies)))
}
