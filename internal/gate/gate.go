// Package gate is the one pipeline from a subject to a decision: collect what is
// attached to it, verify that under the trust, let a policy judge what verified.
// Every command and server that says yes or no goes through it.
//
// It knows policies only through one method, so it links neither Rego nor CUE.
// Nothing that was not verified reaches a policy. A denial is a Decision with
// reasons; an error means that the gate could not find out. Both fail closed.
package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Policy judges verified facts. It is safe for concurrent use. An error means
// that it could not decide. One that has a method Judge, as [Requirements] has,
// is asked for its account, too.
type Policy interface {
	Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error)
}

// Request is a question about an image.
type Request struct {
	Repo     *registry.Repository // of the image
	Ref      registry.Ref         // as the user named it
	Verifier *verify.Verifier     // holds the trust
	Policy   Policy
	Now      func() time.Time // default time.Now
	Collect  collect.Options  // limits

	// Platform asks about one image of an index instead, OS/ARCH[/VARIANT].
	Platform string
	// Images asks about the images of an index, too.
	Images Coverage
	// OfIndex is a predicate type whose attestations count for the images of the index
	// that they are about, too; "" for none.
	OfIndex string
	// Statements are the predicate types of BuildKit's unsigned statements that are
	// read and count as attestations where a verified signature covers them. None:
	// what an index lists is not looked at for their sake.
	Statements []string
}

// Coverage says which manifests of an index must meet the policy. A signature of
// an index covers the images that it lists, never the other way round.
type Coverage int

const (
	CoverIndex Coverage = iota // the index itself
	CoverAny                   // each image, by signatures of its own or of the index
	CoverAll                   // the index and each image, each by signatures of its own
)

// Result is the answer with everything that led to it.
type Result struct {
	Subject  evidence.Subject // what was judged, with its resolved digest
	Index    evidence.Digest  // that lists the subject, when it was chosen by its platform
	Input    policy.Input     // what the policy saw
	Decision policy.Decision
	Steps    []Step               // how the policy came to its decision; nil when it does not tell
	Tried    []Tried              // what was found, each with its fate
	Unsigned []evidence.Statement // about the subject, covered by no verified signature
	Images   []ImageResult        // of an index, when they were judged, too
	Inside   []Inside             // of an index that was judged alone: what its images' builders say
}

// Inside is what BuildKit's statements say about an image of an index that was
// judged itself. It is no part of the policy's input.
type Inside struct {
	Image        evidence.Digest
	Platform     string
	Attestations []policy.Fact        // covered by a verified signature
	Unsigned     []evidence.Statement // by none
}

// ImageResult is the answer about an image of an index.
type ImageResult struct {
	Platform string // "" when the index does not say
	Result
}

// Tried is one found item. Fact is set when it verified and is a signature or
// attestation, Verified already when it verified.
type Tried struct {
	Item     collect.Item
	Verified *verify.Verified
	Fact     *policy.Fact
	Place    Place           // of Fact in the input
	Counts   bool            // meets every demand of the policy
	As       string          // the principal that it counts for
	Covers   evidence.Digest // the attestation manifest that it signs, instead of the image
	Reasons  []policy.Reason // why it was not verified; empty for what is only listed
}

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeNotASignature = "NOT_A_SIGNATURE"    // verified, but no signature of an image
	CodeTooMany       = "TOO_MANY_REFERRERS" // more is attached than is read
)

// BlobRequest is a question about a file.
type BlobRequest struct {
	Name     string          // as the user named it
	Artifact verify.Artifact // its digests
	Items    []collect.Item  // bundles
	Verifier *verify.Verifier
	Policy   Policy
	Now      func() time.Time // default time.Now
	// AnyBuilder takes provenance whatever builder it names: the caller asks only who
	// signed, and believes nothing of what it says.
	AnyBuilder bool
}

// Blob decides about a file and the bundles that were given for it. A plain
// signature over the file counts as well as a signed statement about it.
func Blob(ctx context.Context, r BlobRequest) (Result, error) {
	if len(r.Artifact.Digests) == 0 {
		return Result{}, fmt.Errorf("verify %s: it has no digest", r.Name)
	}
	digest := r.Artifact.Digests[0]
	in := policy.Input{Kind: "blob", Now: now(r.Now).UTC(), Image: &policy.Image{Ref: r.Name, Digest: digest}}
	tried := verifyItems(&in, r)
	return decide(ctx, r.Policy, Result{Subject: evidence.Subject{Name: r.Name, Digest: digest}, Input: in, Tried: tried})
}

func now(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}

// Evidence is what was collected for one image; it is verified as often as there
// are trusts to verify it under.
type Evidence struct {
	repo  *registry.Repository
	ref   registry.Ref
	desc  ocispec.Descriptor
	found *collect.Collection

	mu   sync.Mutex // of all below, and of found's items: images of one index share its evidence
	read map[digest.Digest]readStatement
}

// Gather resolves the image once and collects what is attached to it.
func Gather(ctx context.Context, repo *registry.Repository, ref registry.Ref, o collect.Options) (*Evidence, error) {
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return Attached(ctx, repo, ref, desc, o)
}

// Attached collects what is attached to an image that is resolved already.
func Attached(ctx context.Context, repo *registry.Repository, ref registry.Ref, desc ocispec.Descriptor, o collect.Options) (*Evidence, error) {
	found, err := collect.Collect(ctx, repo, desc, o)
	if err != nil {
		return nil, err
	}
	return &Evidence{repo: repo, ref: ref, desc: desc, found: found, read: map[digest.Digest]readStatement{}}, nil
}

// items is what was found so far.
func (e *Evidence) items() []collect.Item {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.found.Items
}

// Extend looks for what cosign stored under tags of old, once, and says how much there
// was. It is for when what else was found does not satisfy the policy.
func (e *Evidence) Extend(ctx context.Context) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.found.Extend(ctx))
}

// Digest is the digest of the image.
func (e *Evidence) Digest() evidence.Digest { return evidence.Digest(e.desc.Digest) }

func (e *Evidence) subject() evidence.Subject {
	return evidence.Subject{Name: e.ref.Name(), Digest: e.Digest(), MediaType: e.desc.MediaType, Size: e.desc.Size}
}

// artifact is what claims must be about. Of what the image's descriptor says, which
// a Notary signature signs whole, an attestation manifest has only the digest here.
func (e *Evidence) artifact(d evidence.Digest) verify.Artifact {
	a := verify.Image(d)
	a.Repository = e.ref.Name()
	if d == e.Digest() {
		a.MediaType, a.Size = e.desc.MediaType, e.desc.Size
	}
	return a
}

// imageOf is the image in the shape that policies read.
func imageOf(ref registry.Ref, digest evidence.Digest) *policy.Image {
	return &policy.Image{Ref: ref.String(), Host: ref.Host, Repo: ref.Repository, Tag: ref.Tag, Digest: digest}
}

// Verify verifies everything under one trust, at now.
func (e *Evidence) Verify(v *verify.Verifier, now time.Time) (policy.Input, []Tried) {
	in := policy.Input{Kind: "image", Now: now.UTC(), Image: imageOf(e.ref, e.Digest())}
	items := e.items()
	tried := make([]Tried, 0, len(items))
	for _, item := range items {
		t := Tried{Item: item}
		switch {
		case item.Err != nil:
			t.Reasons = []policy.Reason{itemReason(item)}
		case item.Claim != nil && item.Subject != "" && item.Subject != e.Digest():
			t.below(e.artifact(item.Subject), v)
		case item.Claim != nil:
			t.claim(&in, e.artifact(e.Digest()), v, false)
		}
		tried = append(tried, t)
	}
	return in, tried
}

// verifyItems fills in.Signatures and in.Attestations with what verified.
func verifyItems(in *policy.Input, r BlobRequest) []Tried {
	tried := make([]Tried, 0, len(r.Items))
	for _, item := range r.Items {
		t := Tried{Item: item}
		switch {
		case item.Err != nil:
			t.Reasons = []policy.Reason{itemReason(item)}
		case item.Claim != nil:
			t.claim(in, r.Artifact, r.Verifier, r.AnyBuilder)
		}
		tried = append(tried, t)
	}
	return tried
}

func itemReason(item collect.Item) policy.Reason {
	r := policy.Reason{Code: verify.Malformed, Message: item.Err.Error(), Subject: item.Where.Ref}
	var many *registry.TooManyReferrersError
	if errors.As(item.Err, &many) {
		r.Code = CodeTooMany
	}
	return r
}

// verify verifies the item's claim.
func (t *Tried) verify(a verify.Artifact, v *verify.Verifier) bool {
	verified, reasons := v.Claim(t.Item.Claim, a)
	if verified != nil && len(reasons) == 0 {
		t.Verified = verified
		return true
	}
	for _, r := range reasons {
		r.Subject = t.Item.Where.Ref
		t.Reasons = append(t.Reasons, r)
	}
	if len(t.Reasons) == 0 {
		t.Reasons = []policy.Reason{{Code: verify.Malformed, Message: "the claim did not verify", Subject: t.Item.Where.Ref}}
	}
	return false
}

// below verifies a claim about an attestation manifest of the image. It is no
// signature of the image: it covers the statements in that manifest.
func (t *Tried) below(a verify.Artifact, v *verify.Verifier) {
	if t.verify(a, v) && t.Verified.IsSignature() {
		t.Covers = t.Item.Subject
	}
}

// claim verifies the item's claim and sorts it: a file may also be signed by a
// plain signature; everything with a statement that is no signature is an attestation.
func (t *Tried) claim(in *policy.Input, a verify.Artifact, v *verify.Verifier, anyBuilder bool) {
	if !t.verify(a, v) {
		return
	}
	verified := t.Verified
	fact := verified.Fact(t.Item.Where)
	switch kind := verified.Kind(); {
	case verified.IsSignature(), kind == verify.KindMessage && in.Kind != "image":
		t.Place = Place{Index: len(in.Signatures)}
		in.Signatures = append(in.Signatures, fact)
	case kind == verify.KindAttestation:
		fact.Statement = t.Item.Claim.Envelope.Payload
		if why := assess.CheckBuilder(fact); why != nil && !anyBuilder {
			t.Reasons = []policy.Reason{*why}
			return
		}
		t.Place = Place{Attestation: true, Index: len(in.Attestations)}
		in.Attestations = append(in.Attestations, fact)
	default:
		t.Reasons = []policy.Reason{{Code: CodeNotASignature, Message: "a plain signature over the manifest's bytes is no signature of an image", Subject: t.Item.Where.Ref}}
		return
	}
	t.Fact = &fact
}

// decide asks the policy and explains a denial for want of evidence with what
// was found and did not count.
func decide(ctx context.Context, p Policy, r Result) (Result, error) {
	v, err := judge(ctx, p, r.Input)
	if err != nil {
		return r, err
	}
	r.Decision, r.Steps = v.Decision, v.Steps
	for _, c := range v.Counted {
		for i := range r.Tried {
			if t := &r.Tried[i]; t.Fact != nil && t.Place == c.Place {
				t.Counts, t.As = true, c.Principal
			}
		}
	}
	if r.Decision.Allowed {
		return r, nil
	}
	for _, t := range r.Tried {
		if t.Item.Err != nil && fault.KindOf(t.Item.Err) == fault.Unreachable {
			return r, t.Item.Err // it may be the very evidence that is missing
		}
	}
	r.Decision.Reasons = hintCovered(Explain(r.Decision.Reasons, Rejected(r.Tried)), r.Tried)
	r.Decision.Reasons = append(r.Decision.Reasons, unsupported(r)...)
	return r, nil
}

// unsupported is the provenance that was left out for the builder that it names, and that
// a denial does not speak of yet: somebody may have been wanted whose it was.
func unsupported(r Result) []policy.Reason {
	var out []policy.Reason
	for _, why := range Rejected(r.Tried) {
		said := func(have policy.Reason) bool { return have == why }
		if why.Code == assess.CodeBuilder && !slices.ContainsFunc(r.Decision.Reasons, said) && len(out) < maxExplained {
			out = append(out, why)
		}
	}
	return out
}

// hintCovered tells who finds no signature of the image that its attestation
// manifests are signed, as docker/github-builder signs.
func hintCovered(reasons []policy.Reason, tried []Tried) []policy.Reason {
	i := slices.IndexFunc(tried, func(t Tried) bool { return t.Covers != "" })
	if i < 0 {
		return reasons
	}
	for k := range reasons {
		if reasons[k].Code == CodeNotSigned && reasons[k].Hint == "" {
			reasons[k].Hint = fmt.Sprintf("what its builder attests is signed by %s: demand that, with --attestation slsaprovenance1", tried[i].Verified.Signer())
		}
	}
	return reasons
}

func judge(ctx context.Context, p Policy, in policy.Input) (Verdict, error) {
	if j, ok := p.(interface {
		Judge(context.Context, policy.Input) (Verdict, error)
	}); ok {
		return j.Judge(ctx, in)
	}
	d, err := p.Evaluate(ctx, in)
	return Verdict{Decision: d}, err
}

// Rejected is why found claims did not count, over all of them.
func Rejected(tried []Tried) []policy.Reason {
	var out []policy.Reason
	for _, t := range tried {
		out = append(out, t.Reasons...)
	}
	return out
}

// maxExplained bounds the rejected claims that one denial names.
const maxExplained = 10

// Explain puts the reasons why claims were rejected in the place of "there is
// none": a signature that is there and broken is another story than no signature.
func Explain(reasons, rejected []policy.Reason) []policy.Reason {
	if len(rejected) == 0 {
		return reasons
	}
	var out []policy.Reason
	for _, r := range reasons {
		if r.Code != CodeNotSigned && r.Code != CodeNoAttestation {
			out = append(out, r)
		}
	}
	if len(out) == len(reasons) {
		return reasons
	}
	if len(rejected) > maxExplained {
		rejected = rejected[:maxExplained]
	}
	return append(out, rejected...)
}
