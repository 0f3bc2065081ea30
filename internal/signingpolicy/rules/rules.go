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
	_ "embed"
	"slices"
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
	files  map[string][]byte
	engine engine
}

// engine evaluates a compiled policy: here ([rego.Set]), or in a process of its own.
type engine interface {
	DecideValue(ctx context.Context, doc map[string]any, now time.Time) (rego.Answer, error)
	Trace(ctx context.Context, doc map[string]any, now time.Time) ([]rego.Step, []rego.Unmet, error)
}

//go:embed lib.rego
var library []byte

// Load compiles the files of a policy, by name: signing.rego, or the alias, other *.rego
// files of the same package beside it, and data.json, which may be missing. *_test.rego
// files are left out. Reasons, with code POLICY_COMPILE and "file:line" as their subject,
// say what is wrong with it; the policy is nil then.
func Load(files map[string][]byte, o Options) (*Policy, []policy.Reason) {
	own, _, wrongs := split(files)
	if wrongs != nil {
		return nil, wrongs
	}
	set, err := rego.CompileSet(own, config(o))
	if err != nil {
		return nil, mistakes(err)
	}
	return &Policy{files: own, engine: set}, nil
}

func config(o Options) rego.SetConfig {
	return rego.SetConfig{
		Options: rego.Options{Query: rego.SigningQuery, Timeout: o.Timeout, Obligations: o.Obligations, Print: o.Print},
		Library: library, Schema: input.Schema(), OnePackage: true,
	}
}

// Decide evaluates the policy. A document that [input.Check] finds wanting is denied
// before any rule is asked. An error means that ctx ended.
func (p *Policy) Decide(ctx context.Context, in *input.Document) (Decision, error) {
	doc, incomplete := in.Value()
	if len(incomplete) > 0 {
		return Decision{Denials: incomplete}, nil
	}
	now, err := in.Now.Time()
	if err != nil {
		return Decision{}, err // Value has looked at it
	}
	d, err := p.engine.DecideValue(ctx, doc, now)
	if err != nil {
		return Decision{}, err
	}
	out := Decision{Allowed: d.Allowed, Denials: d.Reasons, Obligations: d.Obligations}
	for _, w := range d.Warnings {
		out.Warnings = append(out.Warnings, w.Message)
	}
	if reasons := badParameters(d.Obligations); len(reasons) > 0 {
		out.Allowed, out.Denials, out.Obligations = false, reasons, nil
	}
	if !out.Allowed && decided(out.Denials) {
		unmet, err := p.unmet(ctx, in, doc, d.Allow)
		if err != nil {
			return Decision{}, err
		}
		if len(unmet) > 0 && d.Silent {
			out.Denials = nil // that allow is false is no reason beside those
		}
		out.Denials = append(unmet, out.Denials...)
	}
	return out, nil
}

// decided reports whether the policy said no, and did not merely fail to say yes.
func decided(reasons []policy.Reason) bool {
	return !slices.ContainsFunc(reasons, func(r policy.Reason) bool { return r.Code != rego.CodeDenied })
}

// Step is what became of one rule: see [rego.Step].
type Step = rego.Step

// Explain evaluates the policy once more and says what became of each of its rules, in
// the order of the lines; nil for a document that is not complete. An error means that
// ctx ended.
func (p *Policy) Explain(ctx context.Context, in *input.Document) ([]Step, error) {
	doc, incomplete := in.Value()
	if len(incomplete) > 0 {
		return nil, nil
	}
	now, err := in.Now.Time()
	if err != nil {
		return nil, err
	}
	steps, _, err := p.engine.Trace(ctx, doc, now)
	return steps, err
}
