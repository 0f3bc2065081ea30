// Package rules is the Rego side of the signing policy: it compiles a policy's folder,
// decides about an [input.Document], finds traps in a policy's text, runs its tests, and
// has the ready policies that a repository starts from. docs/signing-policy-rules.md is
// its manual.
//
// What is wrong with a policy is a reason with code POLICY_COMPILE; what goes wrong while
// it is evaluated is a denial with code POLICY_EVAL. Nothing here reads keys or
// repositories: what the document says was verified before.
package rules

import (
	"context"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// File names of a policy's folder.
const (
	RulesFile = "signing.rego"
	DataFile  = "data.json"
	// Alias is the file of the proposal from which the signing policy grew
	// (docker/github-builder#203), by its path in the repository. It stands for RulesFile.
	Alias = ".docker/github-builder.rego"
)

// Options of Load.
type Options struct {
	// Obligations are the types that the caller enforces; any other one denies. See
	// [ObligationTypes].
	Obligations []string
	Timeout     time.Duration     // of one evaluation, default 2 s
	Print       func(line string) // receives print(); nil drops it
}

// Obligation is a condition of an allowed decision that the caller must meet.
type Obligation = rego.Obligation

// ObligationTypes are all types of obligations: no-push, record-vsa, require-tsa,
// max-builds, annotate and notify.
func ObligationTypes() []string { return rego.ObligationTypes() }

// Decision is what a policy answers. The zero Decision denies.
type Decision struct {
	Allowed bool
	// Denials say why not; empty when allowed. First what conditions of the library did
	// not hold, with the code of each (QUORUM_MISSING, TAG_SIGNER, …), then what the policy
	// itself says (POLICY_DENIED), or why it could not decide (POLICY_EVAL,
	// INPUT_INCOMPLETE).
	Denials     []policy.Reason
	Warnings    []string     // warn_msg, also of a denial
	Obligations []Obligation // of an allowed decision
}

// Policy is a compiled policy. It is safe for concurrent use.
type Policy struct {
	files map[string][]byte
	set   *rego.Set
}

// Load compiles the files of a policy, by name: signing.rego, or the alias' path, other
// *.rego files of the same package beside it, and data.json, which may be missing.
// *_test.rego files are left out. Reasons, with code POLICY_COMPILE and "file:line" as
// their subject, say what is wrong with it; the policy is nil then.
func Load(files map[string][]byte, o Options) (*Policy, []policy.Reason) {
	return nil, []policy.Reason{{Code: rego.CodeCompile, Message: "not there yet"}}
}

// ReadFolder reads a policy's folder for Load and Test: *.rego with tests, and data.json;
// other files are left alone. Reasons have code POLICY_COMPILE (no rules, too large); an
// error means that the folder cannot be read.
func ReadFolder(dir string) (map[string][]byte, []policy.Reason, error) { return nil, nil, nil }

// Decide evaluates the policy. An error means that ctx ended.
func (p *Policy) Decide(ctx context.Context, in *input.Document) (Decision, error) {
	return Decision{}, nil
}

// Step is what became of one rule: see [rego.Step].
type Step = rego.Step

// Explain evaluates the policy once more and says what became of each of its rules.
func (p *Policy) Explain(ctx context.Context, in *input.Document) ([]Step, error) { return nil, nil }

// Digest is "sha256:…" of [Policy.Bundle]: what a record names and approvals bind.
func (p *Policy) Digest() string { return "" }

// Bundle is the policy in its canonical form, which a store keeps under its digest: a tar
// of its files (not of its tests) in the order of their names. The alias' file is
// signing.rego in it.
func (p *Policy) Bundle() []byte { return nil }

// OpenBundle are the files of a bundle. What is not byte for byte what Bundle makes of
// them is refused.
func OpenBundle(bundle []byte) (map[string][]byte, error) { return nil, nil }

// Lint names traps in the policy's text: see [Lint].
func (p *Policy) Lint() []policy.Reason { return nil }

// Lint names what in a policy's text is a trap, without compiling it: each finding has a
// code LINT_…, "file:line" as its subject, and what to write instead as its hint. Parse
// errors are findings with code POLICY_COMPILE.
func Lint(files map[string][]byte) []policy.Reason { return nil }

// TestResult is what became of one test rule.
type TestResult struct {
	Package, Name, File string
	Line                int
	Passed              bool
	Reason              *policy.Reason // why it could not be evaluated; nil when it was
	Printed             []string
	Duration            time.Duration
}

// Coverage is which lines of a file the tests came to.
type Coverage = rego.Coverage

// Test runs the policy's tests: the rules test_… of its *_test.rego files, with
// "with input as …". match nil runs all. Reasons as of Load; an error means that ctx ended.
func Test(ctx context.Context, files map[string][]byte, match func(name string) bool) ([]TestResult, []Coverage, []policy.Reason, error) {
	return nil, nil, nil, nil
}

// Ready are the names of the policies that a repository can start from: solo, team,
// strict, open.
func Ready() []string { return []string{"solo", "team", "strict", "open"} }

// ReadyFiles are the files of a ready policy: signing.rego, signing_test.rego and, where
// it reads one, data.json with placeholders. Nil for a name that is none.
func ReadyFiles(name string) map[string][]byte { return nil }
