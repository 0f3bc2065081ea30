package rules

import (
	"encoding/json"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// Lint names traps in the policy's text: see [Lint].
func (p *Policy) Lint() []policy.Reason { return Lint(p.files) }

// Lint names what in a policy's text is a trap, without compiling it: each finding has a
// code LINT_…, "file:line" as its subject, and what to write instead as its hint. What
// does not parse is a finding with code POLICY_COMPILE. Tests are not looked at.
func Lint(files map[string][]byte) []policy.Reason {
	signing := &rego.SigningLint{Nullable: input.Nullable}
	rules := map[string][]byte{}
	for name, text := range files {
		if bundleName(name) != DataFile {
			rules[name] = text
		} else if json.Unmarshal(text, &signing.Data) != nil {
			return []policy.Reason{wrong(name, "must hold one JSON object")}
		}
	}
	found, err := rego.Lint(rules, rego.LintOptions{Optional: input.Optional, Signing: signing})
	if err != nil {
		return mistakes(err)
	}
	return found
}
