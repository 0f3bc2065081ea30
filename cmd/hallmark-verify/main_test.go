package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
)

// What its commands do is tested in cmd/hallmark (testdata/verifier.txtar and
// TestExamples), where the world that they look at is made.

// TestStartUp: a verifier for small machines is small and starts at once.
func TestStartUp(t *testing.T) {
	release.StartUp(t, release.Binary(t, "hallmark-verify"), release.Limits{InitBytes: 620_000, InitAllocs: 5_400, Size: 12e6})
}

// answer runs one call that must succeed, in process, and returns what it prints.
func answer(t *testing.T, argv ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &cli.App{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" }}
	if code := a.Execute(check.Root(a), argv); code != cli.ExitOK {
		t.Fatalf("%v: exit code %d\n%s", argv, code, &stderr)
	}
	return stdout.String()
}

// TestHelp: every command that is not hidden is in --help, which fits a screen;
// each has examples that call this binary, and few flags.
func TestHelp(t *testing.T) {
	t.Parallel()
	a := cli.New("test")
	for _, call := range [][]string{{"--help"}, {"help"}, {}} {
		out := answer(t, call...)
		if n := strings.Count(out, "\n"); n > 24 {
			t.Errorf("%v: %d lines", call, n)
		}
		for _, line := range strings.Split(out, "\n") {
			if len(line) > 80 {
				t.Errorf("%v: %d columns: %s", call, len(line), line)
			}
		}
		for _, c := range check.Root(a).Commands() {
			if !c.Hidden && !strings.Contains(out, "\n  "+c.Name()+" ") {
				t.Errorf("%v does not name %s", call, c.Name())
			}
		}
	}
	for _, c := range check.Root(a).Commands() {
		if !strings.Contains(c.Example, "hallmark-verify "+c.Name()) {
			t.Errorf("%s has no example", c.Name())
		}
		flags := 0
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				flags++
			}
		})
		if flags > 27 { // docs/manual.md says why
			t.Errorf("%s has %d flags", c.Name(), flags)
		}
		if help := answer(t, c.Name(), "--help"); strings.Contains(help, "  --policy ") || strings.Contains(c.Example, "hallmark "+c.Name()) {
			t.Errorf("%s --help offers what this binary does not have:\n%s", c.Name(), help)
		}
	}
}

// TestCompletion: a script for each shell, the one for bash without an error, and
// it is this binary that knows the words.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, first := range map[string]string{
		"bash": "# bash completion V2 for hallmark-verify", "zsh": "#compdef hallmark-verify\n", "fish": "# fish completion for hallmark-verify",
	} {
		if out := answer(t, "completion", shell); !strings.HasPrefix(out, first) || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %.80q", shell, out)
		}
	}
	syntax := exec.Command("bash", "-n")
	syntax.Stdin = strings.NewReader(answer(t, "completion", "bash"))
	if out, err := syntax.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("bash -n: %v\n%s", err, out)
	}
	if out := answer(t, "__complete", "ver"); !strings.HasPrefix(out, "verify\t") || !strings.Contains(out, "\nversion\t") {
		t.Errorf("completing ver: %q", out)
	}
}
