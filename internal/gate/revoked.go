package gate

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// refuse turns a result into a denial: nothing that was found counts for it.
func (r *Result) refuse(why policy.Reason) {
	for i := range r.Tried {
		r.Tried[i].Counts, r.Tried[i].As = false, ""
	}
	said := func(have policy.Reason) bool { return have.Code == why.Code && have.Message == why.Message }
	if !slices.ContainsFunc(r.Decision.Reasons, said) {
		r.Decision.Reasons = slices.Insert(slices.Clone(r.Decision.Reasons), 0, why)
	}
	if r.Decision.Allowed {
		r.Steps = append(slices.Clone(r.Steps), Step{Text: "nothing that it is, lists or lies in is revoked"})
	}
	r.Decision.Allowed = false
}

// revoked refuses an image that is revoked, or that was reached through an index
// that is. The claims do not show it: a claim about the index, which covers the
// image, is refused when the index is revoked, and one about the image when that is.
func (c *question) revoked(r *Result, digests ...evidence.Digest) {
	for _, d := range digests {
		if why := c.Verifier.DigestRevoked(d); why != nil {
			r.refuse(*why)
			return
		}
	}
}

// listsRevoked refuses an index that is judged itself when an image that it lists
// is revoked: who runs the index may run that one. It looks into the index only
// where some digest is revoked.
func (c *question) listsRevoked(ctx context.Context, r *Result) error {
	if !c.isIndex || !c.Verifier.RevokesDigests() {
		return nil
	}
	x, err := c.root.found.Index(ctx)
	if err != nil {
		return err
	}
	for _, desc := range slices.Concat(x.Images, x.Others) {
		why := c.Verifier.DigestRevoked(evidence.Digest(desc.Digest))
		if why == nil {
			continue
		}
		why.Message = "the index lists " + nameOf(collect.Platform(desc), desc.Digest) + ": " + why.Message
		why.Hint = "do not run it; ask its publisher for the one that replaces it, or judge the image that you run with --platform"
		r.refuse(*why)
	}
	return nil
}

func nameOf(platform string, d digest.Digest) string {
	if platform == "" {
		return evidence.Digest(d).Short()
	}
	return platform
}
