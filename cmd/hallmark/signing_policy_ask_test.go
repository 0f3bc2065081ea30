package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

// TestInterview: what somebody answers is what the flags would have said, and an answer
// that cannot be is asked for again.
func TestInterview(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, who := range []string{"alice", "bob", "hsm"} {
		if err := os.WriteFile(filepath.Join(dir, who), []byte(gitrepo.NewKey(t, "ed25519", 0).Public), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		answers  string
		given    signingInitOptions
		want     signingInitOptions
		refusals []string
		err      bool
	}{
		"nobody":          {answers: "\n"},
		"the end at once": {answers: ""},
		"one":             {answers: "alice\nDIR/alice\n\n\n\n", want: signingInitOptions{people: []string{"alice"}}},
		"two and an HSM": {answers: "alice\nDIR/alice\nbob\nDIR/bob\n\nrel\nDIR/hsm\n\ny\nstrict\n1\n",
			want: signingInitOptions{people: []string{"alice", "bob"}, machines: []string{"rel"}, protection: []string{"rel=hsm"}, ready: "strict", approvals: 1}},
		"mistakes": {answers: "Alice A\nalice\nDIR/none\nDIR/alice\nalice\nbob\nDIR/bob\n\nbob\n\nbest\nopen\n3\nmany\n2\n",
			want:     signingInitOptions{people: []string{"alice", "bob"}, ready: "open", approvals: 2},
			refusals: []string{"a name is up to 64", "no such file", "alice is named already", "bob is named already", "want one of them", "want a number from 1 to 2"}},
		"flags said it": {answers: "alice\nDIR/alice\nbob\nDIR/bob\n\n", given: signingInitOptions{machines: []string{"rel"}, ready: "team", approvals: 1},
			want: signingInitOptions{people: []string{"alice", "bob"}, machines: []string{"rel"}, ready: "team", approvals: 1}},
		"the end instead of a key": {answers: "alice\n", err: true, refusals: []string{"want NAME=KEYS"}},
	} {
		var said bytes.Buffer
		a := newApp()
		a.Stdin, a.Stderr = strings.NewReader(strings.ReplaceAll(c.answers, "DIR", dir)), &said
		got := c.given
		if err := a.interview(t.Context()).people(&got); (err != nil) != c.err {
			t.Errorf("%s: %v\n%s", name, err, &said)
		}
		names := func(list []string) []string {
			var out []string
			for _, one := range list {
				who, _, _ := strings.Cut(one, "=")
				out = append(out, who)
			}
			return out
		}
		if !c.err && (!slices.Equal(names(got.people), c.want.people) || !slices.Equal(names(got.machines), c.want.machines) ||
			!slices.Equal(got.protection, c.want.protection) || got.ready != c.want.ready || got.approvals != c.want.approvals) {
			t.Errorf("%s: %+v\n%s", name, got, &said)
		}
		for _, text := range c.refusals {
			if !strings.Contains(said.String(), text) {
				t.Errorf("%s: %q is not said:\n%s", name, text, &said)
			}
		}
	}
}

// TestInterviewInterrupted: Ctrl-C ends a question that nobody answers.
func TestInterviewInterrupted(t *testing.T) {
	t.Parallel()
	silent, hold := io.Pipe()
	defer hold.Close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := newApp()
	a.Stdin, a.Stderr = silent, io.Discard
	if err := a.interview(ctx).people(&signingInitOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
