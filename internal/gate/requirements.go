package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
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
	CodeTooOld            = "TOO_OLD"             // signed, longer ago than is wanted or at no proven time
	CodeAttestationPolicy = "ATTESTATION_POLICY"  // attested, and the content is not accepted
	CodeThreshold         = "THRESHOLD"           // signed by fewer than are wanted
)

// StatementPolicy judges one verified in-toto statement. It is safe for
// concurrent use; an error means that ctx ended.
type StatementPolicy interface {
	Check(ctx context.Context, statement []byte) (policy.Decision, error)
}

// Principal is one person or machine that may sign, by all names and keys that
// are theirs: however often they sign, they count once.
type Principal struct {
	Name       string
	Identities []policy.Identity
	Keys       []string // "sha256:…" of the DER SubjectPublicKeyInfo, among the verifier's keys
}

// Requirements is the policy that the flags of a command build. Its zero value
// allows nothing.
type Requirements struct {
	// Principals may sign, and count apart.
	Principals []Principal
	// Identities may sign, too; each signer that matches is a principal.
	Identities []policy.Identity
	// Keys: the verifier's keys may sign that belong to no principal. Nobody says
	// whose they are, so that all of them count as one.
	Keys bool
	// Notary: a Notary Project signature counts that Notation's trust policy for the
	// repository accepts; whose it is that policy says.
	Notary bool
	// Threshold is how many distinct principals must have signed; 0 is 1.
	Threshold int

	Annotations map[string]string // all, on each signature that counts
	MaxAge      time.Duration     // since the earliest trusted time; 0: any age

	// AttestationType demands an attestation of this predicate type (a URI)
	// instead of a signature, which satisfies all AttestationPolicies.
	AttestationType     string
	AttestationPolicies []StatementPolicy

	// Also is an attestation that is demanded besides, by signers that met all the rest;
	// nil: none. A statement in an attestation manifest is none: who signed the index
	// around it vouches for what the build made, and did not say it.
	Also *Attested
	by   []string // principals that Also may be by; nil when it is not what is judged
}

// Attested is an attestation that is demanded.
type Attested struct {
	Type     string // predicate type, a URI
	Policies []StatementPolicy
}

var _ Policy = Requirements{}

// WantsIdentities reports whether a signer with a certificate could meet the
// requirements, so that a trust root is needed to judge one.
func (q Requirements) WantsIdentities() bool {
	return len(q.Identities) > 0 || slices.ContainsFunc(q.Principals, func(p Principal) bool { return len(p.Identities) > 0 })
}

// Demands reports whether the requirements say who must have signed.
func (q Requirements) Demands() bool {
	return len(q.Principals) > 0 || len(q.Identities) > 0 || q.Keys || q.Notary
}

// Check is the early complaint about identities that cannot be demanded and
// thresholds that cannot be met.
func (q Requirements) Check() error {
	m, err := q.matchers()
	if err != nil {
		return err
	}
	most := len(m.named)
	if q.Keys {
		most++
	}
	if q.Notary {
		return nil
	}
	for _, i := range q.Identities {
		if i.SubjectRegexp != "" || i.IssuerRegexp != "" {
			return nil // as many as match
		}
		most++
	}
	if q.Threshold > most {
		return fault.Hint(fault.Usagef("%d signers are wanted and only %d can be told apart", q.Threshold, most), "--signers FILE names several")
	}
	return nil
}

// Verdict is a decision with who counted for it and how it was reached.
type Verdict struct {
	policy.Decision
	Counted []Counted
	Steps   []Step
}

// Counted is one fact that met every demand, and whose it is. Several facts of
// one principal count once.
type Counted struct {
	Place     Place
	Principal string
}

// Place is where a fact stands in the input.
type Place struct {
	Attestation bool // in Attestations, else in Signatures
	Index       int
}

// Step is one question on the way to a decision. One that is not OK ended it.
type Step struct {
	Text string `json:"text"`
	OK   bool   `json:"ok"`
}

// Evaluate is [Requirements.Judge] without the account.
func (q Requirements) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	v, err := q.Judge(ctx, in)
	return v.Decision, err
}

// Judge finds the facts that meet all requirements, or says how far it came.
func (q Requirements) Judge(ctx context.Context, in policy.Input) (Verdict, error) {
	m, err := q.matchers()
	if err != nil {
		return Verdict{}, err
	}
	j := &judgement{q: q, in: in, what: "signature", from: in.Signatures}
	if q.AttestationType != "" {
		j.what, j.from = q.AttestationType+" attestation", in.Attestations
	}
	for i, f := range j.from {
		inside, ofIndex := f.Format == evidence.FormatBuildKit, f.About != "" && q.AttestationType != ""
		if q.by != nil && inside || q.by == nil && ofIndex && !inside {
			continue
		}
		if q.AttestationType == "" || f.PredicateType == q.AttestationType {
			j.left = append(j.left, candidate{place: Place{q.AttestationType != "", i}, fact: f})
		}
	}
	switch {
	case len(j.left) == 0:
		j.deny("a verified "+j.what+" is there", j.nothing())
	case m.empty():
		j.deny("the call says who must have signed", policy.Reason{Code: CodeNotPinned,
			Message: fmt.Sprintf("the call does not say whose %s it wants; found: %s", j.what, signers(j.left)),
			Hint:    "say who must have signed, with an identity and its issuer or with a key"})
	default:
		j.passed("a verified %s is there: %d", j.what, len(j.left))
		if err := j.narrow(ctx, m); err != nil {
			return Verdict{}, err
		}
	}
	if !j.verdict.Allowed || q.Also == nil {
		return j.verdict, nil
	}
	besides := q
	besides.Also, besides.Annotations, besides.MaxAge = nil, nil, 0
	besides.AttestationType, besides.AttestationPolicies = q.Also.Type, q.Also.Policies
	besides.by = []string{}
	for _, c := range j.verdict.Counted {
		besides.by = append(besides.by, c.Principal)
	}
	also, err := besides.Judge(ctx, in)
	if err != nil {
		return Verdict{}, err
	}
	also.Steps = append(j.verdict.Steps, also.Steps...)
	also.Warnings = append(j.verdict.Warnings, also.Warnings...)
	if also.Allowed {
		also.Counted = append(j.verdict.Counted, also.Counted...)
	}
	return also, nil
}

// judgement is one evaluation: candidates that are left, and the account.
type judgement struct {
	q       Requirements
	in      policy.Input
	what    string
	from    []policy.Fact
	left    []candidate
	verdict Verdict
}

type candidate struct {
	place     Place
	fact      policy.Fact
	principal string
}

func (j *judgement) passed(format string, args ...any) {
	j.verdict.Steps = append(j.verdict.Steps, Step{Text: fmt.Sprintf(format, args...), OK: true})
}

func (j *judgement) deny(step string, reasons ...policy.Reason) {
	j.verdict.Steps = append(j.verdict.Steps, Step{Text: step})
	for _, r := range reasons {
		r.Subject = cmp.Or(r.Subject, subject(j.in))
		j.verdict.Reasons = append(j.verdict.Reasons, r)
	}
}

// narrow asks one question after the other about the candidates that are left.
func (j *judgement) narrow(ctx context.Context, m matchers) error {
	found := j.left
	why := j.signed(m)
	if len(j.left) == 0 {
		j.deny("by who is wanted: "+m.String(), why...)
		return nil
	}
	j.passed("by who is wanted: %s", signers(j.left))
	if len(j.q.Annotations) > 0 {
		matched := j.left
		if j.keep(func(f policy.Fact) bool { return annotatedWith(f, j.q.Annotations) }); len(j.left) == 0 {
			j.deny("with the annotations "+pairs(j.q.Annotations), policy.Reason{Code: CodeAnnotation,
				Message: fmt.Sprintf("no %s by %s has the annotations %s; found %s", j.what, m, pairs(j.q.Annotations), foundAnnotations(matched))})
			return nil
		}
		j.passed("with the annotations %s", pairs(j.q.Annotations))
	}
	if j.q.MaxAge > 0 {
		matched := j.left
		if j.keep(func(f policy.Fact) bool { return young(f, j.in.Now, j.q.MaxAge) }); len(j.left) == 0 {
			j.deny("not older than "+j.q.MaxAge.String(), policy.Reason{Code: CodeTooOld, Message: tooOld(j.what, matched, j.in.Now, j.q.MaxAge),
				Hint: "ask the signer to sign again"})
			return nil
		}
		j.passed("not older than %s", j.q.MaxAge)
	}
	if err := j.content(ctx); err != nil || len(j.left) == 0 {
		return err
	}
	j.count(found, why)
	return nil
}

// signed keeps the facts whose signer is wanted, each with its principal.
func (j *judgement) signed(m matchers) []policy.Reason {
	var kept []candidate
	var ambiguous, others []string
	for _, c := range j.left {
		names := m.principals(c.fact)
		switch {
		case len(names) == 0:
		case len(names) == 1 && j.q.by != nil && !slices.Contains(j.q.by, names[0]):
			others = append(others, fmt.Sprintf("%s may sign, and did not sign the rest that is demanded", c.fact.Signer))
		case len(names) == 1:
			c.principal = names[0]
			kept = append(kept, c)
		default:
			ambiguous = append(ambiguous, fmt.Sprintf("%s may be %s or %s, and so counts as neither", c.fact.Signer, names[0], names[1]))
		}
	}
	why := []policy.Reason{{Code: CodeWrongIdentity, Message: fmt.Sprintf("%s by %s; wanted %s", j.what, signers(j.left), m)}}
	for _, a := range append(ambiguous, others...) {
		why = append(why, policy.Reason{Code: CodeWrongIdentity, Message: a})
	}
	j.left = kept
	return why
}

func (j *judgement) keep(ok func(policy.Fact) bool) {
	var kept []candidate
	for _, c := range j.left {
		if ok(c.fact) {
			kept = append(kept, c)
		}
	}
	j.left = kept
}

// content wants attestations that pass every policy.
func (j *judgement) content(ctx context.Context) error {
	if len(j.q.AttestationPolicies) == 0 {
		return nil
	}
	var kept []candidate
	var failed, warnings []policy.Reason
	for _, c := range j.left {
		one := policy.Decision{Allowed: true}
		for _, p := range j.q.AttestationPolicies {
			d, err := p.Check(ctx, c.fact.Statement)
			if err != nil {
				return err
			}
			one.Allowed = one.Allowed && d.Allowed
			one.Reasons = append(one.Reasons, d.Reasons...)
			one.Warnings = append(one.Warnings, d.Warnings...)
		}
		if one.Allowed {
			kept = append(kept, c)
			j.verdict.Warnings = append(j.verdict.Warnings, one.Warnings...)
			continue
		}
		for _, r := range one.Reasons {
			r.Subject = c.fact.Where.Ref
			failed = append(failed, r)
		}
		warnings = append(warnings, one.Warnings...)
	}
	if j.left = kept; len(kept) > 0 {
		j.passed("its content passes the policy")
		return nil
	}
	if len(failed) == 0 {
		failed = []policy.Reason{{Code: CodeAttestationPolicy, Message: "no attestation satisfies the policy"}}
	}
	j.verdict.Warnings = warnings
	j.deny("its content passes the policy", failed...)
	return nil
}

// count wants enough distinct principals among what is left.
func (j *judgement) count(found []candidate, others []policy.Reason) {
	want := max(j.q.Threshold, 1)
	var names []string
	for _, c := range j.left {
		if !slices.Contains(names, c.principal) {
			names = append(names, c.principal)
		}
		j.verdict.Counted = append(j.verdict.Counted, Counted{c.place, c.principal})
	}
	step := fmt.Sprintf("by at least %d distinct signers: %d", want, len(names))
	if len(names) >= want {
		j.passed("%s", step)
		j.verdict.Allowed = true
		return
	}
	message := fmt.Sprintf("%d distinct signers are wanted and %d counts: %s", want, len(names), list(names))
	if len(names) > 1 {
		message = fmt.Sprintf("%d distinct signers are wanted and %d count: %s", want, len(names), list(names))
	}
	if twice := len(j.left) - len(names); twice > 0 {
		message += fmt.Sprintf("; %d more by the same count no further", twice)
	}
	if rest := len(found) - len(j.left); rest > 0 {
		message += fmt.Sprintf("; %d others do not meet the demands", rest)
	}
	reasons := []policy.Reason{{Code: CodeThreshold, Message: message, Hint: "ask another of the signers to sign"}}
	j.deny(step, append(reasons, others[1:]...)...)
}

func (j *judgement) nothing() policy.Reason {
	r := policy.Reason{Code: CodeNotSigned, Message: "there is no " + j.what}
	others := len(j.in.Attestations)
	if j.q.AttestationType != "" {
		r.Code = CodeNoAttestation
		others += len(j.in.Signatures)
	}
	if j.in.Image != nil {
		r.Message += " of " + j.in.Image.Ref
	}
	if others > 0 {
		r.Message += "; other verified evidence is there and does not count as one"
	}
	if len(j.in.Attestations) > 0 {
		r.Hint = "what is attested is demanded with --attestation " + typeName(j.in.Attestations[0].PredicateType)
	} else if j.q.AttestationType != "" && len(j.in.Signatures) > 0 {
		r.Hint = "a signature is demanded without --attestation"
	}
	return r
}

// typeName is the short name of a predicate type that has one.
func typeName(uri string) string {
	for name, u := range evidence.PredicateTypes {
		if u == uri {
			return name
		}
	}
	return uri
}

// young reports whether the signature is proven to be no older than allowed. The
// earliest trusted time counts: what existed then was not made later.
func young(f policy.Fact, now time.Time, most time.Duration) bool {
	t, ok := earliest(f)
	return ok && now.Sub(t) <= most
}

func earliest(f policy.Fact) (time.Time, bool) {
	if len(f.Times) == 0 {
		return time.Time{}, false
	}
	return slices.MinFunc(f.Times, func(a, b evidence.Timestamp) int { return a.At.Compare(b.At) }).At, true
}

func tooOld(what string, left []candidate, now time.Time, most time.Duration) string {
	var newest time.Time
	for _, c := range left {
		if t, ok := earliest(c.fact); ok && t.After(newest) {
			newest = t
		}
	}
	if newest.IsZero() {
		return fmt.Sprintf("no trusted time says when the %s was made, and it may be %s old at most", what, most)
	}
	return fmt.Sprintf("the newest %s is of %s, %s ago; it may be %s old at most", what, newest.UTC().Format(time.RFC3339), now.Sub(newest).Truncate(time.Second), most)
}
