package clusterimage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeNoPolicy      = "NO_MATCHING_POLICY" // no policy matches the image
	CodeStatic        = "STATIC_FAIL"        // a static authority says fail
	CodeNoSignatures  = "NO_SIGNATURES"      // nothing signed was found
	CodeWrongIdentity = "WRONG_IDENTITY"     // signed, by somebody else
	CodeNoAttestation = "NO_ATTESTATION"     // no verified attestation of the type
	CodeAttestation   = "ATTESTATION_POLICY" // an attestation does not satisfy its policy
)

// Facts are what verified under one trust.
type Facts struct {
	Signatures   []policy.Fact
	Attestations []policy.Fact   // with Statement
	Rejected     []policy.Reason // why other claims did not verify
	Missing      error           // evidence that is there and could not be fetched; a denial is not certain then
}

// Prover verifies the evidence of one image. It is asked only for what a policy
// needs, so static policies cost no look-up. An error means could not find out.
type Prover interface {
	Facts(ctx context.Context, t Trust) (Facts, error)
}

// Evaluate decides on one image, whose digest is resolved. An error means that
// no policy denied but at least one could not be decided.
func (s *Set) Evaluate(ctx context.Context, img policy.Image, prove Prover) (policy.Decision, error) {
	name := FullName(img.Host, img.Repo, string(img.Digest))
	matching := s.Matching(name)
	if len(matching) == 0 {
		return policy.Deny(s.noPolicy(img, name)), nil
	}
	d := policy.Decision{Allowed: true}
	var undecided []error
	for _, p := range matching {
		one, err := p.evaluate(ctx, name, prove)
		if ctx.Err() != nil {
			return policy.Decision{}, ctx.Err()
		}
		d.Warnings = append(d.Warnings, one.Warnings...)
		switch {
		case err != nil && p.Warn:
			d.Warnings = append(d.Warnings, policy.Reason{Code: "UNDECIDED", Message: "policy " + p.Name + " (mode warn): " + err.Error(), Subject: name})
		case err != nil:
			undecided = append(undecided, fmt.Errorf("policy %s: %w", p.Name, err))
		case p.Warn:
			d.Warnings = append(d.Warnings, one.Reasons...)
		case !one.Allowed:
			d.Allowed = false
			d.Reasons = append(d.Reasons, one.Reasons...)
		}
	}
	if d.Allowed && len(undecided) > 0 {
		return policy.Decision{}, errors.Join(undecided...)
	}
	return d, nil
}

// Matching is the policies whose globs match a full name, in the order given.
func (s *Set) Matching(name string) []*Policy {
	var out []*Policy
	for _, p := range s.Policies {
		for _, g := range p.globs {
			if g.Match(name) {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

func (s *Set) noPolicy(img policy.Image, name string) policy.Reason {
	r := policy.Reason{Code: CodeNoPolicy, Message: "no matching policies: no ClusterImagePolicy matches " + name, Subject: name}
	byTag := strings.SplitN(name, "@", 2)[0] + ":" + img.Tag
	for _, p := range s.Policies {
		for _, g := range p.globs {
			if img.Tag != "" && g.Match(byTag) {
				r.Hint = fmt.Sprintf("the glob %s of policy %s names a tag; images are matched as name@digest, so name the repository and end with @**", g, p.Name)
				return r
			}
		}
	}
	return r
}

// evaluate asks the authorities until one is satisfied or, for the policy's own rule,
// all of them.
func (p *Policy) evaluate(ctx context.Context, name string, prove Prover) (policy.Decision, error) {
	var failed policy.Decision
	var undecided []error
	matches := map[string]match{}
	for i := range p.Authorities {
		a := &p.Authorities[i]
		d, m, err := a.evaluate(ctx, prove)
		if err != nil {
			undecided = append(undecided, fmt.Errorf("authority %s: %w", a.Name, err))
			continue
		}
		for j := range d.Reasons {
			d.Reasons[j].Message = "policy " + p.Name + ", authority " + a.Name + ": " + d.Reasons[j].Message
			d.Reasons[j].Subject = name
		}
		for j := range d.Warnings {
			d.Warnings[j].Message = "policy " + p.Name + ", authority " + a.Name + ": " + d.Warnings[j].Message
		}
		if d.Allowed && p.Rule == nil {
			return d, nil
		}
		if d.Allowed {
			matches[a.Name] = m
			failed.Warnings = append(failed.Warnings, d.Warnings...)
			continue
		}
		failed.Reasons = append(failed.Reasons, d.Reasons...)
		failed.Warnings = append(failed.Warnings, d.Warnings...)
	}
	if len(matches) > 0 {
		d, err := p.ruled(ctx, name, matches)
		if err != nil || d.Allowed {
			d.Warnings = append(failed.Warnings, d.Warnings...)
			return d, err
		}
		failed.Reasons = append(failed.Reasons, d.Reasons...)
	}
	if len(undecided) > 0 {
		return failed, errors.Join(undecided...)
	}
	return failed, nil
}

func (a *Authority) evaluate(ctx context.Context, prove Prover) (policy.Decision, match, error) {
	if a.Static != nil {
		return a.Static.decide(), match{Static: true}, nil
	}
	t := Trust{Key: a.Key}
	if a.Keyless != nil {
		t.Root = a.Keyless.TrustRootRef
	}
	facts, err := prove.Facts(ctx, t)
	if err != nil {
		return policy.Decision{}, match{}, err
	}
	if a.BundlesOnly {
		facts.Signatures, facts.Attestations = bundles(facts.Signatures), bundles(facts.Attestations)
	}
	d, m := a.signature(facts), match{}
	if len(a.Attestations) > 0 {
		if d, m.Attestations, err = a.attested(ctx, facts); err != nil {
			return policy.Decision{}, match{}, err
		}
	} else {
		m.Signatures = a.matched(facts.Signatures)
	}
	if !d.Allowed && facts.Missing != nil {
		return policy.Decision{}, match{}, facts.Missing
	}
	return d, m, nil
}

// bundles are the facts that came in Sigstore bundles.
func bundles(facts []policy.Fact) []policy.Fact {
	var out []policy.Fact
	for _, f := range facts {
		switch f.Format {
		case evidence.FormatBundle01, evidence.FormatBundle02, evidence.FormatBundle03:
			out = append(out, f)
		}
	}
	return out
}

func (s *Static) decide() policy.Decision {
	if s.Pass {
		return policy.Decision{Allowed: true}
	}
	text := "disallowed by static policy"
	if s.Message != "" {
		text += ": " + s.Message
	}
	return policy.Deny(policy.Reason{Code: CodeStatic, Message: text})
}

// accepts reports whether the authority vouches through this fact's signer.
func (a *Authority) accepts(f policy.Fact) bool {
	if a.Key != nil {
		return f.Signer.Identity == "" && f.Signer.Key == a.Key.Fingerprint
	}
	for _, m := range a.Keyless.Identities {
		if m.Match(f.Signer) {
			return true
		}
	}
	return false
}

// wanted says whom the authority accepts.
func (a *Authority) wanted() string {
	if a.Key != nil {
		return "key " + a.Key.Fingerprint
	}
	names := make([]string, 0, len(a.Keyless.Identities))
	for _, m := range a.Keyless.Identities {
		names = append(names, m.String())
	}
	return strings.Join(names, " or ")
}

func (a *Authority) signature(facts Facts) policy.Decision {
	for _, f := range facts.Signatures {
		if a.accepts(f) {
			return policy.Decision{Allowed: true}
		}
	}
	if len(facts.Signatures) > 0 {
		return policy.Deny(policy.Reason{Code: CodeWrongIdentity, Message: "signed by " + signers(facts.Signatures) + "; wanted " + a.wanted()})
	}
	if len(facts.Rejected) > 0 {
		return rejected("no valid signature", facts.Rejected)
	}
	return policy.Deny(policy.Reason{Code: CodeNoSignatures, Message: "no signatures found; wanted one by " + a.wanted()})
}

// attested demands each attestation; one statement that satisfies it is enough.
func (a *Authority) attested(ctx context.Context, facts Facts) (policy.Decision, map[string][]matchedFact, error) {
	d := policy.Decision{Allowed: true}
	matches := map[string][]matchedFact{}
	for i := range a.Attestations {
		want := &a.Attestations[i]
		one, counted, err := a.attestation(ctx, want, facts)
		if err != nil {
			return policy.Decision{}, nil, err
		}
		matches[want.Name] = a.matched(counted)
		d.Allowed = d.Allowed && one.Allowed
		for _, r := range one.Reasons {
			r.Message = "attestation " + want.Name + ": " + r.Message
			d.Reasons = append(d.Reasons, r)
		}
		for _, w := range one.Warnings {
			w.Message = "attestation " + want.Name + ": " + w.Message
			d.Warnings = append(d.Warnings, w)
		}
	}
	return d, matches, nil
}

// attestation also returns the facts that satisfy what is wanted.
func (a *Authority) attestation(ctx context.Context, want *Attestation, facts Facts) (policy.Decision, []policy.Fact, error) {
	var strangers, counted []policy.Fact
	var passed policy.Decision
	var failed policy.Decision
	for _, f := range facts.Attestations {
		if f.PredicateType != want.PredicateType {
			continue
		}
		if !a.accepts(f) {
			strangers = append(strangers, f)
			continue
		}
		d := policy.Decision{Allowed: true}
		if want.Policy != nil {
			var err error
			if d, err = want.Policy.Check(ctx, f.Statement); err != nil {
				return policy.Decision{}, nil, err
			}
		}
		if d.Allowed {
			if counted == nil {
				passed = d
			}
			counted = append(counted, f)
			continue
		}
		failed.Reasons = append(failed.Reasons, d.Reasons...)
		failed.Warnings = append(failed.Warnings, d.Warnings...)
	}
	switch {
	case len(counted) > 0:
		return passed, counted, nil
	case len(failed.Reasons) > 0:
		return failed, nil, nil
	case len(strangers) > 0:
		return policy.Deny(policy.Reason{Code: CodeWrongIdentity, Message: want.PredicateType + " is attested by " + signers(strangers) + "; wanted " + a.wanted()}), nil, nil
	case len(facts.Rejected) > 0:
		return rejected("no valid "+want.PredicateType, facts.Rejected), nil, nil
	}
	text := "no attestation of type " + want.PredicateType + " found; wanted one by " + a.wanted()
	return policy.Deny(policy.Reason{Code: CodeNoAttestation, Message: text}), nil, nil
}

// maxNamed bounds how many signers or rejected claims one answer names.
const maxNamed = 5

func signers(facts []policy.Fact) string {
	var names []string
	seen := map[string]bool{}
	for _, f := range facts {
		if n := f.Signer.String(); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d others", len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}

// rejected says why claims did not verify, under their own codes. Their hints are
// about flags of a command, which a cluster does not have.
func rejected(what string, reasons []policy.Reason) policy.Decision {
	var d policy.Decision
	seen := map[string]bool{}
	for _, r := range reasons {
		text := what + ": " + r.Message
		if seen[r.Code+text] || len(d.Reasons) == maxNamed {
			continue
		}
		seen[r.Code+text] = true
		d.Reasons = append(d.Reasons, policy.Reason{Code: r.Code, Message: text})
	}
	return d
}
