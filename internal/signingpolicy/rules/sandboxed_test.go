package rules_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "policy-process" {
		if err := rules.ServeSandbox(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func sandboxed(t *testing.T, w *sandbox.Worker, files map[string][]byte, o rules.Options) *rules.Policy {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	p, wrongs, err := rules.LoadSandboxed(t.Context(), w, files, o)
	if err != nil || wrongs != nil {
		t.Fatalf("%v %+v", err, wrongs)
	}
	return p
}

// TestSandboxed: a process says what would be said here, about the ready policies and about
// policies that fail.
func TestSandboxed(t *testing.T) {
	t.Parallel()
	w := sandbox.New("policy-process")
	defer w.Close()
	policies := map[string]map[string][]byte{}
	for _, name := range rules.Ready() {
		policies[name] = rules.ReadyFiles(name)
	}
	for name, text := range map[string]string{
		"a text":      `allow := "true" if input.git.isAnnotatedTag`,
		"conflict":    "allow if input.git.isAnnotatedTag\n\nallow := false if input.build.push",
		"error":       yes + `deny_msg contains "x" if to_number(input.git.ref) > 3`,
		"decision":    `decision := {"allow": true, "deny_msg": ["x"], "warn_msg": ["y"]} if input.build.push`,
		"undefined":   `decision := {"allow": true} if input.git.isCommitRef`,
		"obligations": yes + `obligations contains {"type": "max-builds", "max": 3}`,
		"unknown one": yes + `obligations contains {"type": "wait"}`,
		"prints":      "default allow := false\n\nallow if {\n\tprint(\"hello\")\n\tinput.git.isAnnotatedTag\n}",
	} {
		policies[name] = folder(text)
	}
	incomplete, unsigned := input.Example(), input.Example()
	incomplete.Approvals, unsigned.Git.Tag.Signer = nil, nil
	for name, files := range policies {
		var here, there []string
		var mu sync.Mutex
		options := func(to *[]string) rules.Options {
			return rules.Options{Obligations: rules.ObligationTypes(), Timeout: time.Minute, Print: func(line string) {
				mu.Lock()
				defer mu.Unlock()
				*to = append(*to, line)
			}}
		}
		p, wrongs := rules.Load(files, options(&here))
		if wrongs != nil {
			t.Fatal(wrongs)
		}
		q := sandboxed(t, w, files, options(&there))
		if p.Digest() != q.Digest() {
			t.Errorf("%s: another digest", name)
		}
		for what, in := range map[string]*input.Document{"release": input.Example(), "unsigned": unsigned, "incomplete": incomplete} {
			want, got := decide(t, p, in), decide(t, q, in)
			if !reflect.DeepEqual(want, got) {
				t.Errorf("%s, %s: %+v\nwant %+v", name, what, got, want)
			}
			steps, err := p.Explain(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			again, err := q.Explain(t.Context(), in)
			if err != nil || len(again) != len(steps) {
				t.Errorf("%s, %s: %v %+v\nwant %+v", name, what, err, again, steps)
			}
		}
		if !reflect.DeepEqual(here, there) || name == "prints" && len(here) == 0 {
			t.Errorf("%s: printed %q, want %q", name, there, here)
		}
	}
	if _, wrongs, err := rules.LoadSandboxed(t.Context(), w, folder(yes+`deny_msg contains "x" if input.git.isAnotatedTag`), rules.Options{}); err != nil || codes(wrongs) != "POLICY_COMPILE" || wrongs[0].Subject != "signing.rego:7" || wrongs[0].Hint == "" {
		t.Errorf("%v %+v", err, wrongs)
	}
}

// TestSandboxedBreaches: a process that does not keep its bounds denies, and the next
// decision has another one.
func TestSandboxedBreaches(t *testing.T) {
	t.Parallel()
	w := sandbox.New("policy-process")
	defer w.Close()
	good := sandboxed(t, w, folder(yes), rules.Options{})
	// A set that grows in one comprehension: the process has 256 MiB.
	numbers := "n := split(\"" + strings.Repeat("1234567890 ", 400) + "\", \" \")\n\n"
	hog := sandboxed(t, w, folder(numbers+yes+"deny_msg contains \"x\" if count([x | some i, _ in n; some j, _ in n; some k, _ in n; x := sprintf(\"%4000d-%d-%d\", [i, j, k])]) == 0"), rules.Options{})
	if d := decide(t, hog, input.Example()); codes(d.Denials) != "POLICY_EVAL" {
		t.Errorf("%+v", d)
	}
	if d := decide(t, good, input.Example()); !d.Allowed {
		t.Errorf("%+v", d)
	}
	// One that is killed forgets, and is told again.
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first := decide(t, good, input.Example())
	second := decide(t, good, input.Example())
	if !second.Allowed || !first.Allowed && codes(first.Denials) != "POLICY_EVAL" {
		t.Errorf("%+v %+v", first, second)
	}
}
