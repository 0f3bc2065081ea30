package gate

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of a Requirements policy (docs/reasons.md).
const (
	CodeNotSigned         = "NOT_SIGNED"          // no verified signature
	CodeNoAttestation     = "NO_ATTESTATION"      // no verified attestation of the type
	CodeNotPinned         = "IDENTITY_NOT_PINNED" // the call does not say who must have signed
	CodeWrongIdentity     = "WRONG_IDENTITY"      // signed, by somebody else
	CodeAnnotation        = "ANNOTATION_MISMATCH" // signed, without the annotations
	CodeAttestationPolicy = "ATTESTATION_POLICY"  // attested, and the content is not accepted
)

// StatementPolicy judges one verified in-toto statement. It is safe for
// concurrent use; an error means that ctx ended.
type StatementPolicy interface {
	Check(ctx context.Context, statement []byte) (policy.Decision, error)
}

// Requirements is the policy that the flags of a command build. Its zero value
// allows nothing.
type Requirements struct {
	Identities  []policy.Identity // any of these
	Keys        bool              // a signature by one of the verifier's keys is enough
	Annotations map[string]string // all, on one signature

	// AttestationType demands an attestation of this predicate type (a URI)
	// instead of a signature, which satisfies all AttestationPolicies.
	AttestationType     string
	AttestationPolicies []StatementPolicy
}

var _ Policy = Requirements{}

// Check is the early complaint about identities that cannot be demanded.
func (q Requirements) Check() error {
	_, err := q.matchers()
	return err
}

func (q Requirements) matchers() ([]policy.Matcher, error) {
	var out []policy.Matcher
	for _, i := range q.Identities {
		m, err := i.Compile()
		if err != nil {
			return nil, fault.Usagef("%w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// Evaluate finds one fact that meets all requirements, or says how far it came.
func (q Requirements) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	matchers, err := q.matchers()
	if err != nil {
		return policy.Decision{}, err
	}
	facts, what := in.Signatures, "signature"
	if q.AttestationType != "" {
		facts, what = ofType(in.Attestations, q.AttestationType), q.AttestationType+" attestation"
	}
	switch {
	case len(facts) == 0:
		return policy.Deny(q.nothing(what, in)), nil
	case len(matchers) == 0 && !q.Keys:
		return policy.Deny(policy.Reason{Code: CodeNotPinned, Subject: subject(in),
			Message: fmt.Sprintf("the call does not say whose %s it wants; found: %s", what, signers(facts)),
			Hint:    "say who must have signed, with an identity and its issuer or with a key",
		}), nil
	}
	matched := q.matching(facts, matchers)
	if len(matched) == 0 {
		return policy.Deny(policy.Reason{Code: CodeWrongIdentity, Subject: subject(in),
			Message: fmt.Sprintf("%s by %s; wanted %s", what, signers(facts), q.wanted())}), nil
	}
	annotated := annotatedWith(matched, q.Annotations)
	if len(annotated) == 0 {
		return policy.Deny(policy.Reason{Code: CodeAnnotation, Subject: subject(in),
			Message: fmt.Sprintf("no %s by %s has the annotations %s; found %s", what, q.wanted(), pairs(q.Annotations), foundAnnotations(matched))}), nil
	}
	if len(q.AttestationPolicies) == 0 {
		return policy.Decision{Allowed: true}, nil
	}
	return q.content(ctx, annotated)
}

func (q Requirements) nothing(what string, in policy.Input) policy.Reason {
	r := policy.Reason{Code: CodeNotSigned, Subject: subject(in), Message: "there is no " + what}
	others := len(in.Attestations)
	if q.AttestationType != "" {
		r.Code = CodeNoAttestation
		others += len(in.Signatures)
	}
	if in.Image != nil {
		r.Message += " of " + in.Image.Ref
	}
	if others > 0 {
		r.Message += "; other verified evidence is there and does not count as one"
	}
	return r
}

func ofType(facts []policy.Fact, predicateType string) []policy.Fact {
	var out []policy.Fact
	for _, f := range facts {
		if f.PredicateType == predicateType {
			out = append(out, f)
		}
	}
	return out
}

func (q Requirements) matching(facts []policy.Fact, matchers []policy.Matcher) []policy.Fact {
	var out []policy.Fact
	for _, f := range facts {
		ok := q.Keys && f.Signer.Identity == "" && f.Signer.Key != ""
		for _, m := range matchers {
			ok = ok || m.Match(f.Signer)
		}
		if ok {
			out = append(out, f)
		}
	}
	return out
}

func annotatedWith(facts []policy.Fact, want map[string]string) []policy.Fact {
	var out []policy.Fact
	for _, f := range facts {
		ok := true
		for k, v := range want {
			have, there := f.Annotations[k]
			ok = ok && there && have == v
		}
		if ok {
			out = append(out, f)
		}
	}
	return out
}

// content wants one attestation that passes every policy.
func (q Requirements) content(ctx context.Context, facts []policy.Fact) (policy.Decision, error) {
	var failed policy.Decision
	for _, f := range facts {
		one := policy.Decision{Allowed: true}
		for _, p := range q.AttestationPolicies {
			d, err := p.Check(ctx, f.Statement)
			if err != nil {
				return policy.Decision{}, err
			}
			one.Allowed = one.Allowed && d.Allowed
			one.Reasons = append(one.Reasons, d.Reasons...)
			one.Warnings = append(one.Warnings, d.Warnings...)
		}
		if one.Allowed {
			return one, nil
		}
		for _, r := range one.Reasons {
			r.Subject = f.Where.Ref
			failed.Reasons = append(failed.Reasons, r)
		}
		failed.Warnings = append(failed.Warnings, one.Warnings...)
	}
	if len(failed.Reasons) == 0 {
		failed.Reasons = []policy.Reason{{Code: CodeAttestationPolicy, Message: "no attestation satisfies the policy"}}
	}
	return failed, nil
}

func (q Requirements) wanted() string {
	var names []string
	for _, i := range q.Identities {
		names = append(names, i.String())
	}
	if q.Keys {
		names = append(names, "the given key")
	}
	return strings.Join(names, " or ")
}

func subject(in policy.Input) string {
	if in.Image == nil {
		return ""
	}
	return string(in.Image.Digest)
}

// maxNamed bounds how many signers one sentence names.
const maxNamed = 10

func signers(facts []policy.Fact) string {
	var names []string
	seen := map[string]bool{}
	for _, f := range facts {
		if n := f.Signer.String(); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	if n := len(names); n > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d others", n-maxNamed)
	}
	return strings.Join(names, ", ")
}

func foundAnnotations(facts []policy.Fact) string {
	var all []string
	for _, f := range facts {
		if len(all) == maxNamed {
			break
		}
		all = append(all, pairs(f.Annotations))
	}
	return strings.Join(all, "; ")
}

func pairs(m map[string]string) string {
	if len(m) == 0 {
		return "none"
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for i, k := range keys {
		keys[i] = k + "=" + m[k]
	}
	return strings.Join(keys, ", ")
}
