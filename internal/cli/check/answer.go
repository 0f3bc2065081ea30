package check

import (
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// VerifyAnswer is what `hallmark verify --json` prints, and what the text is made
// of. docs/json.md, "verify", says the same.
type VerifyAnswer struct {
	Ref      string           `json:"ref"` // as the call named it
	Subject  evidence.Subject `json:"subject"`
	Allowed  bool             `json:"allowed"`
	Reasons  []policy.Reason  `json:"reasons,omitempty"` // why not
	Warnings []policy.Reason  `json:"warnings,omitempty"`
	Found    []foundEvidence  `json:"found"`            // everything that is attached
	Pin      []string         `json:"pin,omitempty"`    // commands that demand exactly what was found
	Want     string           `json:"want,omitempty"`   // predicate type of the wanted attestation
	Index    evidence.Digest  `json:"index,omitempty"`  // that lists the subject, with --platform
	Images   []imageAnswer    `json:"images,omitempty"` // of an index, where they were judged, too
	Steps    []gate.Step      `json:"steps"`            // how the policy came to its decision
	// What the evidence that counts protects against; only when allowed.
	*assess.Assessment
}

// imageAnswer is the answer about an image of an index.
type imageAnswer struct {
	Platform string          `json:"platform,omitempty"`
	Digest   evidence.Digest `json:"digest"`
	Allowed  bool            `json:"allowed"`
	Signers  []string        `json:"signers,omitempty"` // whose evidence counts
	Reasons  []policy.Reason `json:"reasons,omitempty"`
}

// foundEvidence is one thing that was found. What it says of itself is there
// only if it was verified.
type foundEvidence struct {
	Where    evidence.Location `json:"where"`
	Format   string            `json:"format"`
	Verified bool              `json:"verified"`
	Counts   bool              `json:"counts"`            // meets every demand of the call
	As       string            `json:"as,omitempty"`      // the signer that it counts for
	Reasons  []policy.Reason   `json:"reasons,omitempty"` // why it was not verified
	Note     string            `json:"note,omitempty"`    // why it was not read

	// About is what it signs, where that is not the subject: the index that lists it, or
	// an attestation manifest.
	About evidence.Digest `json:"about,omitempty"`
	// Kind is whose signature it is, as buildx's policies name it.
	Kind attestation.SignatureKind `json:"kind,omitempty"`
	// TrustPolicy is the statement of Notation's that judged a Notary Project signature.
	TrustPolicy *policy.TrustPolicy `json:"trustPolicy,omitempty"`

	PredicateType string               `json:"predicateType,omitempty"` // absent: a plain signature of a file
	Signer        *evidence.Signer     `json:"signer,omitempty"`
	Certificate   *verify.Certificate  `json:"certificate,omitempty"` // absent: a bare key signed
	Times         []evidence.Timestamp `json:"times,omitempty"`
	Log           []verify.LogEntry    `json:"log,omitempty"`
	// LogUnchecked: there are log entries and no trust root to check them with.
	LogUnchecked bool              `json:"logUnchecked,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// answer is the answer about arg. demanded: the call, or a pin, says who must have signed.
func (o *verifyOptions) answer(arg string, q gate.Requirements, r gate.Result, demanded bool) *VerifyAnswer {
	answer := &VerifyAnswer{Ref: arg, Subject: r.Subject, Allowed: r.Decision.Allowed, Reasons: r.Decision.Reasons,
		Warnings: r.Decision.Warnings, Want: q.AttestationType, Found: []foundEvidence{}, Steps: r.Steps}
	e := assess.Evidence{Threshold: q.Threshold}
	for _, t := range r.Tried {
		if t.Fact != nil {
			if cmd := o.pin(arg, q, *t.Fact); !demanded && !answer.Allowed && cmd != "" && !slices.Contains(answer.Pin, cmd) {
				answer.Pin = append(answer.Pin, cmd)
			}
		}
		if t.Counts {
			e.Counted = append(e.Counted, *t.Fact)
		}
		f := newFound(t)
		if by := coveredBy(t, r); by != "" {
			f.Note = "statements of the builder, covered by a signature of " + by + "; --attestation demands them"
		}
		answer.Found = append(answer.Found, f)
	}
	answer.Index = r.Index
	for _, i := range r.Images {
		answer.Images = append(answer.Images, imageAnswer{Platform: i.Platform, Digest: i.Subject.Digest, Allowed: i.Decision.Allowed, Signers: signersThatCount(i.Tried), Reasons: i.Decision.Reasons})
	}
	switch {
	case answer.Allowed && len(e.Counted) > 0:
		answer.Assessment = assessment(e, r)
	case answer.Allowed && len(r.Images) > 0:
		answer.Assessment = protectsAll(q, r.Images)
	}
	return answer
}

// signersThatCount are whose evidence met every demand, each once.
func signersThatCount(tried []gate.Tried) []string {
	var names []string
	for _, t := range tried {
		if t.Counts && !slices.Contains(names, t.Fact.Signer.String()) {
			names = append(names, t.Fact.Signer.String())
		}
	}
	return names
}

// coveredBy is who signed what holds an attestation manifest's statements: that
// manifest, or the index that lists it. "" for all else, and where nobody did.
func coveredBy(t gate.Tried, r gate.Result) string {
	if t.Item.Format != collect.FormatBuildKit || t.Item.Err != nil || t.Fact != nil {
		return ""
	}
	for _, s := range r.Tried {
		if s.Covers != "" && s.Covers == t.Item.Where.Digest {
			return s.Verified.Signer().String()
		}
	}
	for _, i := range r.Inside {
		for _, f := range i.Attestations {
			if f.Where.Digest == t.Item.Where.Digest {
				return f.Signer.String()
			}
		}
	}
	return ""
}

// protectsAll is what the evidence of all images protects against: what is shown of each.
func protectsAll(q gate.Requirements, images []gate.ImageResult) *assess.Assessment {
	var all *assess.Assessment
	for _, i := range images {
		e := assess.Evidence{Threshold: q.Threshold}
		for _, t := range i.Tried {
			if t.Counts {
				e.Counted = append(e.Counted, *t.Fact)
			}
		}
		if len(e.Counted) == 0 {
			return nil
		}
		one := assessment(e, i.Result)
		if all == nil {
			all = one
			continue
		}
		for k, p := range one.Protections {
			if !p.Shown && all.Protections[k].Shown {
				all.Protections[k] = p
			}
		}
		if one.SLSA.BuildLevel < all.SLSA.BuildLevel {
			all.SLSA = one.SLSA
		}
	}
	return all
}

// nothingFound tells "nothing is there" from "what is there does not do": of an
// index also that something of it is signed.
func (v *VerifyAnswer) nothingFound() bool {
	some := slices.ContainsFunc(v.Images, func(i imageAnswer) bool { return i.Allowed }) ||
		slices.ContainsFunc(v.Found, func(f foundEvidence) bool { return f.Counts })
	return !some && nothingFound(policy.Decision{Reasons: v.Reasons})
}

// assessment is what the evidence protects against. Attestations count under the
// name of a signer whom the call wants; what anybody else attests is as good as
// unsigned. Of an index the image whose build is known the least decides.
func assessment(e assess.Evidence, r gate.Result) *assess.Assessment {
	wanted := func(facts []policy.Fact, unsigned []evidence.Statement) assess.Evidence {
		out := e
		out.Attestations, out.Unsigned = nil, slices.Clone(unsigned)
		for _, f := range facts {
			if slices.ContainsFunc(e.Counted, func(c policy.Fact) bool { return c.Signer.String() == f.Signer.String() }) {
				out.Attestations = append(out.Attestations, f)
			} else {
				out.Unsigned = append(out.Unsigned, evidence.Statement{PredicateType: f.PredicateType, Predicate: f.Predicate})
			}
		}
		return out
	}
	best := assess.Of(wanted(r.Input.Attestations, r.Unsigned))
	var least *assess.Assessment
	for _, i := range r.Inside {
		a := assess.Of(wanted(i.Attestations, i.Unsigned))
		if least == nil || a.SLSA.BuildLevel < least.SLSA.BuildLevel {
			least = &a
		}
	}
	if least != nil && least.SLSA.BuildLevel > best.SLSA.BuildLevel {
		return least
	}
	return &best
}

func isSignature(f policy.Fact) bool {
	return f.PredicateType == "" || f.PredicateType == evidence.PredicateSign
}

func newFound(t gate.Tried) foundEvidence {
	f := foundEvidence{Where: t.Item.Where, Format: t.Item.Format, Counts: t.Counts, As: t.As, Reasons: t.Reasons, Note: t.Item.Note}
	v := t.Verified
	switch {
	case v == nil && t.Fact != nil: // a builder's statement, under the name of who signed what holds it
		signer := t.Fact.Signer
		f.Verified, f.Signer, f.PredicateType, f.Times, f.About = true, &signer, t.Fact.PredicateType, t.Fact.Times, t.Fact.About
		return f
	case v == nil:
		return f
	}
	signer := v.Signer()
	f.Verified, f.Signer, f.PredicateType = true, &signer, v.PredicateType()
	f.Certificate, f.Times, f.Log, f.Annotations = v.Certificate(), v.Times(), v.LogEntries(), v.Annotations()
	if f.About = t.Covers; t.Fact != nil {
		f.About = t.Fact.About
	}
	if f.TrustPolicy = v.TrustPolicy(); f.TrustPolicy == nil {
		k := attestation.Signature{Signer: signer, Format: v.Format(), Times: len(f.Times)}
		if f.Certificate != nil {
			k.CertificateIssuer = f.Certificate.Issuer
		}
		f.Kind = k.Kind()
	}
	f.LogUnchecked = len(f.Log) == 0 && t.Item.Claim != nil && len(t.Item.Claim.LogEntries) > 0
	return f
}

// pin is the command that demands exactly this signer; "" when the call already
// demands somebody, or nothing of the wanted type is there.
func (o *verifyOptions) pin(arg string, q gate.Requirements, f policy.Fact) string {
	wanted := isSignature(f)
	if q.AttestationType != "" {
		wanted = f.PredicateType == q.AttestationType
	}
	if !wanted || q.Demands() || f.Signer.Identity == "" {
		return ""
	}
	words := []string{o.program, "verify", "--identity", f.Signer.Identity, "--issuer", f.Signer.Issuer}
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				words = append(words, flag, v)
			}
		}
	}
	add("--trusted-root", o.trustedRoot)
	add("--attestation", o.attestation)
	add("--policy", o.policies...)
	add("-a", o.annotations...)
	add("--bundle", o.bundle)
	words = append(words, arg)
	for i, w := range words {
		words[i] = cli.ShellQuote(w)
	}
	return strings.Join(words, " ")
}
