package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// What registries, certificates and policies say reaches the terminal in errors
// and reasons. It must not move the cursor, reorder text or add lines.
func TestForeignTextIsPlain(t *testing.T) {
	t.Parallel()
	const foreign = "linux\x1b[2J\x1b[1;1H\u202eallowed\u0085\x07\r\nDENIED"
	var out bytes.Buffer
	a := &cli.App{Stderr: &out}
	_ = a.Deny(policy.Decision{Reasons: []policy.Reason{{Code: "X", Message: foreign, Hint: foreign}}})
	a.Exit(context.Background(), fault.Hint(fault.Usagef("there are %s", foreign), "not %s", foreign))
	if n := strings.Count(out.String(), "\n"); n != 4 {
		t.Errorf("%d lines", n)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e\u0085\x07\r") {
		t.Errorf("%q", out.String())
	}
}

// TestNoKeyIsSaid: an argument that is a key, and not the name of one, is in no message.
func TestNoKeyIsSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"bad flag syntax: -----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----: no": "bad flag syntax: …",
		"-----BEGIN": "…",
		"does not start with a PEM block, -----begin": "does not start with a PEM block, -----begin",
	} {
		if got := cli.OneLine(text); got != want {
			t.Errorf("%q is said as %q", text, got)
		}
	}
}
