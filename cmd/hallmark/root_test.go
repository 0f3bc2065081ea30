package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

// A flag whose variable is not set is a mistake in the call, whatever kind of text
// or list it takes: to go on without it would demand less than was written.
func TestEmptyFlags(t *testing.T) {
	t.Parallel()
	for _, call := range [][]string{
		{"verify", "--identity", "", "app"},
		{"verify", "--key=", "app"},
		{"verify", "--key", "a.pub", "--key", "", "app"},
		{"build", ".", "--ref", "v1", "--platform", ""},
		{"build", ".", "--ref", "v1", "--platform", "linux/amd64", "--platform", ","},
		{"convert", "--key", "", "app"},
	} {
		var out bytes.Buffer
		a := &app{&cli.App{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Env: func(string) string { return "" }}}
		if code := run(call, a); code != cli.ExitUsage || !strings.Contains(out.String(), "is given without a value\n") {
			t.Errorf("%v: exit code %d\n%s", call, code, &out)
		}
	}
}
