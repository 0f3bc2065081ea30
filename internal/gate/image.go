package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

const (
	// CodeIndexUnsigned warns that images of an index are signed and the index is not.
	CodeIndexUnsigned = "INDEX_UNSIGNED"
	// CodeNestedIndex: each image must be signed by itself, and an index lists another.
	CodeNestedIndex = "NESTED_INDEX"
)

// maxImages bounds the images of one index that are judged.
const maxImages = 200

// Image decides about an image: it is resolved to a digest once, and everything
// after is about that digest.
func Image(ctx context.Context, r Request) (Result, error) {
	desc, err := r.Repo.Resolve(ctx, r.Ref)
	if err != nil {
		return Result{}, err
	}
	isIndex := desc.MediaType == ocispec.MediaTypeImageIndex || desc.MediaType == dockerManifestList
	if r.Platform != "" && !isIndex {
		return Result{}, fault.Usagef("%s is one image, no index of several platforms", r.Ref)
	}
	o := r.Collect
	o.Attestations = o.Attestations || isIndex && len(r.Statements) > 0
	root, err := Attached(ctx, r.Repo, r.Ref, desc, o)
	if err != nil {
		return Result{}, err
	}
	c := &question{Request: r, root: root, isIndex: isIndex}
	if err := c.checkKind(ctx); err != nil {
		return Result{}, err
	}
	if isIndex && (r.Platform != "" || r.Images != CoverIndex || len(r.Statements) > 0) {
		if c.index, err = root.found.Index(ctx); err != nil {
			return Result{}, err
		}
	}
	switch {
	case r.Platform != "":
		return c.platform(ctx)
	case c.index != nil && r.Images != CoverIndex:
		return c.images(ctx)
	}
	return c.alone(ctx)
}

// checkKind compares what the root was said to be with its bytes, where the answer
// depends on it: the registry's word for an index, that it is one image, would leave
// out the images that it lists.
func (c *question) checkKind(ctx context.Context) error {
	if c.Images == CoverIndex && !c.Verifier.RevokesDigests() {
		return nil
	}
	x, err := c.root.found.Index(ctx)
	if err == nil && x.Is != c.isIndex {
		err = fmt.Errorf("%s is said to be %q, and its manifest is of another kind", c.Ref, c.root.desc.MediaType)
	}
	return err
}

const dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"

// question is a Request on its way: what was resolved and collected so far.
type question struct {
	Request
	root    *Evidence
	isIndex bool           // the root is one
	index   *collect.Index // what the root lists; nil when it is no index, or was not looked into
}

// alone judges what was named. An index is also attested when all of its images are.
func (c *question) alone(ctx context.Context) (Result, error) {
	r, err := c.judge(ctx, c.root, nil)
	if err == nil {
		c.hintInside(r.Decision.Reasons)
		err = c.listsRevoked(ctx, &r)
	}
	if err == nil && r.Decision.Allowed && c.index != nil {
		r.Inside = c.inside(ctx, &r)
	}
	if err != nil || r.Decision.Allowed || c.index == nil || !lacksAttestation(r.Decision) || len(c.index.Attestations) == 0 {
		return r, err
	}
	if err := c.each(ctx, &r, c.root); err != nil {
		return r, err
	}
	r.Decision = all(r.Images, r.Decision.Warnings)
	return r, nil
}

// hintInside tells who finds no signature of an index where to look next.
func (c *question) hintInside(reasons []policy.Reason) {
	for i := range reasons {
		if r := &reasons[i]; c.isIndex && r.Code == CodeNotSigned && r.Hint == "" {
			r.Hint = "it is an index: --recursive judges the images that it lists, --platform one of them"
		}
	}
}

func lacksAttestation(d policy.Decision) bool {
	return slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool { return r.Code == CodeNoAttestation })
}

// platform judges one image of the index: its own signatures count, and those of
// the index.
func (c *question) platform(ctx context.Context) (Result, error) {
	desc, err := c.index.Image(c.Platform)
	if err != nil {
		return Result{}, err
	}
	e, err := c.child(ctx, desc)
	if err != nil {
		return Result{}, err
	}
	r, err := c.judge(ctx, e, c.root)
	r.Index = c.root.Digest()
	return r, err
}

// images judges the index and each image that it lists.
func (c *question) images(ctx context.Context) (Result, error) {
	r, err := c.judge(ctx, c.root, nil)
	if err != nil {
		return r, err
	}
	above := c.root
	if c.Images == CoverAll {
		above = nil
	}
	if err := c.each(ctx, &r, above); err != nil {
		return r, err
	}
	root := r.Decision
	r.Decision = all(r.Images, root.Warnings)
	switch {
	case root.Allowed:
	case c.Images == CoverAll:
		r.Decision.Allowed = false
		r.Decision.Reasons = append(slices.Clone(root.Reasons), r.Decision.Reasons...)
	case r.Decision.Allowed:
		r.Decision.Warnings = append(r.Decision.Warnings, policy.Reason{Code: CodeIndexUnsigned, Subject: string(r.Subject.Digest),
			Message: "each image of the index meets the demands and the index itself does not: who can push can put them together anew, or leave one out",
			Hint:    "ask the publisher to sign the index, too"})
	}
	return r, nil
}

// each judges the images of the index beside each other.
func (c *question) each(ctx context.Context, r *Result, above *Evidence) error {
	list := slices.Concat(c.index.Images, c.index.Others)
	if len(list) > maxImages {
		return fmt.Errorf("%s lists %d images; at most %d are judged", c.Ref, len(list), maxImages)
	}
	r.Images = make([]ImageResult, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, desc := range list {
		g.Go(func() error {
			e, err := c.child(ctx, desc)
			if err != nil {
				return err
			}
			one, err := c.oneOf(ctx, e, above)
			r.Images[i] = ImageResult{Platform: collect.Platform(desc), Result: one}
			return err
		})
	}
	return g.Wait()
}

// oneOf judges what an index lists. Where each image must be signed by itself, an
// index in the index is refused: its signature covers images that nobody judged.
func (c *question) oneOf(ctx context.Context, e, above *Evidence) (Result, error) {
	if c.Images == CoverAll {
		x, err := e.found.Index(ctx)
		if err != nil {
			return Result{}, err
		}
		if x.Is {
			return Result{Subject: e.subject(), Decision: policy.Deny(policy.Reason{Code: CodeNestedIndex, Subject: string(e.Digest()),
				Message: "it is an index in the index: the images that it lists are not judged with those beside it",
				Hint:    "verify it by itself, by this digest; ask the publisher for an index that lists all images itself"})}, nil
		}
	}
	return c.judge(ctx, e, above)
}

// all is allowed when each image is.
func all(images []ImageResult, warnings []policy.Reason) policy.Decision {
	d := policy.Decision{Allowed: len(images) > 0, Warnings: slices.Clone(warnings)}
	if len(images) == 0 {
		d.Reasons = []policy.Reason{{Code: CodeNotSigned, Message: "the index lists no image"}}
	}
	for _, i := range images {
		d.Allowed = d.Allowed && i.Decision.Allowed
		for _, w := range i.Decision.Warnings {
			if !slices.Contains(d.Warnings, w) {
				d.Warnings = append(d.Warnings, w)
			}
		}
		for _, r := range i.Decision.Reasons {
			r.Subject = cmp.Or(r.Subject, string(i.Subject.Digest))
			r.Message = cmp.Or(i.Platform, i.Subject.Digest.Short()) + ": " + r.Message
			d.Reasons = append(d.Reasons, r)
		}
	}
	return d
}

// child collects what is attached to an image of the index.
func (c *question) child(ctx context.Context, desc ocispec.Descriptor) (*Evidence, error) {
	ref := c.Ref.WithDigest(evidence.Digest(desc.Digest))
	return Attached(ctx, c.Repo, ref, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, c.Collect)
}

// judge verifies what was found for one image and asks the policy. What cosign
// stored under tags of old is looked for when the policy is not satisfied
// without.
func (c *question) judge(ctx context.Context, e, above *Evidence) (Result, error) {
	r, err := c.once(ctx, e, above)
	if err != nil && fault.KindOf(err) != fault.Unreachable || r.Decision.Allowed {
		return r, err
	}
	more := e.Extend(ctx)
	if above != nil {
		more += above.Extend(ctx)
	}
	if more == 0 || ctx.Err() != nil {
		return r, err
	}
	return c.once(ctx, e, above)
}

func (c *question) once(ctx context.Context, e, above *Evidence) (Result, error) {
	in, tried := e.Verify(c.Verifier, now(c.Now))
	r := Result{Subject: e.subject()}
	var outer []Tried
	var inherited []policy.Fact
	if above != nil {
		inherited, outer = c.inherit(above, &in)
	} else if c.OfIndex != "" && e != c.root {
		theirs := policy.Input{Now: in.Now} // whose signatures do not count here
		c.inherit(c.root, &theirs)
		in.Attestations = append(in.Attestations, theirs.Attestations...)
	}
	if len(c.Statements) > 0 {
		s := reading{question: c, in: &in, about: e.Digest()}
		tried = s.attest(ctx, e, tried, slices.Concat(tried, outer), nil)
		if above != nil {
			outer = s.attest(ctx, above, outer, slices.Concat(tried, outer), inherited)
		}
		r.Unsigned = s.unsigned
	}
	r.Input, r.Tried = in, append(tried, outer...)
	r, err := decide(ctx, c.Policy, r)
	if err == nil {
		c.revoked(&r, e.Digest(), c.root.Digest())
	}
	return r, err
}

// inherit counts the signatures of the index for an image that it lists. What is
// attested of the index is not about the image, but for what the request says.
func (c *question) inherit(above *Evidence, in *policy.Input) ([]policy.Fact, []Tried) {
	theirs, tried := above.Verify(c.Verifier, in.Now)
	first := len(in.Signatures)
	for _, f := range theirs.Signatures {
		f.About = above.Digest()
		in.Signatures = append(in.Signatures, f)
	}
	for i := range tried {
		switch t := &tried[i]; {
		case t.Fact == nil:
		case t.Place.Attestation && t.Fact.PredicateType == c.OfIndex && c.OfIndex != "":
			t.Fact.About = above.Digest()
			t.Place.Index = len(in.Attestations)
			in.Attestations = append(in.Attestations, *t.Fact)
		case t.Place.Attestation:
			t.Fact = nil
		default:
			t.Place.Index += first
			t.Fact.About = above.Digest()
		}
	}
	return in.Signatures[first:], tried
}
