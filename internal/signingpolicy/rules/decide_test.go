package rules_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// load compiles a policy whose package and import stand already.
func load(t testing.TB, text string, more ...string) *rules.Policy {
	t.Helper()
	p, wrongs := rules.Load(folder(text, more...), rules.Options{Obligations: rules.ObligationTypes(), Timeout: time.Minute})
	if wrongs != nil {
		t.Fatalf("%+v", wrongs)
	}
	return p
}

func folder(text string, more ...string) map[string][]byte {
	start := "package hallmark.signing\n\n"
	if strings.Contains(text, "lib.") {
		start += "import data.hallmark.lib\n\n"
	}
	files := map[string][]byte{"signing.rego": []byte(start + text)}
	for i := 0; i+1 < len(more); i += 2 {
		files[more[i]] = []byte(more[i+1])
	}
	return files
}

func decide(t testing.TB, p *rules.Policy, in *input.Document) rules.Decision {
	t.Helper()
	d, err := p.Decide(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if d.Allowed != (len(d.Denials) == 0) {
		t.Errorf("allowed is %v with %+v", d.Allowed, d.Denials)
	}
	return d
}

func codes(reasons []policy.Reason) string {
	var out []string
	for _, r := range reasons {
		if !slices.Contains(out, r.Code) {
			out = append(out, r.Code)
		}
	}
	return strings.Join(out, " ")
}

const yes = "default allow := false\n\nallow if input.git.isAnnotatedTag\n\n"

// TestDecision: rows 80 and 82 of the attack cases, and what is near them.
func TestDecision(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ policy, want, message string }{
		"allowed":               {yes, "", ""},
		"text instead of true":  {`allow := "true" if input.git.isAnnotatedTag`, "POLICY_EVAL", `the string "true"`},
		"one instead of true":   {`allow := 1 if input.git.isAnnotatedTag`, "POLICY_EVAL", "the number 1"},
		"undefined":             {`allow if input.git.isCommitRef`, "POLICY_DENIED", "undefined"},
		"false":                 {`allow := false`, "POLICY_DENIED", "no deny_msg"},
		"conflict":              {"allow if input.git.isAnnotatedTag\n\nallow := false if input.build.push", "POLICY_EVAL", "eval_conflict_error"},
		"runtime error":         {yes + `deny_msg contains "x" if to_number(input.git.ref) > 3`, "POLICY_EVAL", "to_number"},
		"division":              {yes + `warn_msg contains "x" if 1 / input.policy.resets > 3`, "POLICY_EVAL", "divide by zero"},
		"denied all the same":   {yes + `deny_msg contains "frozen" if input.build.push`, "POLICY_DENIED", "frozen"},
		"denied by a list":      {yes + `deny_msg := ["frozen"] if input.build.push`, "POLICY_DENIED", "frozen"},
		"denied by a text":      {yes + `deny_msg := "frozen" if input.build.push`, "POLICY_EVAL", "must be a set of strings"},
		"denied by a number":    {yes + `deny_msg contains 3 if input.build.push`, "POLICY_EVAL", "must be a set of strings"},
		"unknown obligation":    {yes + `obligations contains {"type": "no_push"}`, "POLICY_EVAL", `"no_push" is not known`},
		"obligation of no type": {yes + `obligations contains {"kind": "no-push"}`, "POLICY_EVAL", "without a type"},
		"obligation as text":    {yes + `obligations contains "no-push"`, "POLICY_EVAL", "without a type"},
		"parameter too many":    {yes + `obligations contains {"type": "no-push", "except": "latest"}`, "POLICY_EVAL", "except"},
		"parameter missing":     {yes + `obligations contains {"type": "max-builds"}`, "POLICY_EVAL", "lacks its member max"},
		"parameter 0":           {yes + `obligations contains {"type": "max-builds", "max": 0}`, "POLICY_EVAL", "the number 0"},
		"parameter text":        {yes + `obligations contains {"type": "max-builds", "max": "1"}`, "POLICY_EVAL", `the string "1"`},
		"annotation number":     {yes + `obligations contains {"type": "annotate", "annotations": {"a": 1}}`, "POLICY_EVAL", "annotations"},
		"decision":              {"decision := {\"allow\": true} if input.build.push", "", ""},
		"decision denies":       {`decision := {"allow": true, "deny_msg": ["x"]} if input.build.push`, "POLICY_DENIED", "x"},
		"decision is undefined": {`decision := {"allow": true} if input.git.isCommitRef`, "POLICY_DENIED", "decision is undefined"},
		"decision is true":      {`decision := true if input.build.push`, "POLICY_EVAL", "must be an object"},
		"decision of more":      {`decision := {"allow": true, "denied": ["x"]} if input.build.push`, "POLICY_EVAL", "denied"},
	} {
		d := decide(t, load(t, c.policy), input.Example())
		if codes(d.Denials) != c.want || c.message != "" && !strings.Contains(d.Denials[0].Message, c.message) {
			t.Errorf("%s: %+v, want %s with %q", name, d.Denials, c.want, c.message)
		}
	}
}
