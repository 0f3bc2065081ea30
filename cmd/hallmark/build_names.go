package main

import (
	"context"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// maxImages is how many repositories one build is pushed to.
const maxImages = 10

// nameImages takes the first tag of the first image as the image's; the other tags, and
// the other images, come at the end.
func (j *buildJob) nameImages(r *meta.Result) error {
	switch {
	case len(r.Images) == 0 || len(r.Images) > maxImages:
		return fault.Usagef("meta-images: %d names that are enabled; want 1 to %d", len(r.Images), maxImages)
	case len(r.Tags) == 0:
		return fault.Usagef("meta-tags: no rule gives a tag for this ref")
	}
	j.o.image, j.tags = r.Tags[0], r.TagNames[1:]
	for i, name := range r.Images {
		ref, err := registry.ParseRef(name + ":" + r.Version)
		if err != nil {
			return err
		}
		if i == 0 {
			j.image = ref
			continue
		}
		// BuildKit has one switch for plain HTTP, which must not reach another host.
		if !j.app.PlainHTTP && loopback.Host(ref.Host) != loopback.Host(j.image.Host) {
			return fault.Usagef("meta-images: %s is on this machine and %s is not, or the other way round; call twice", j.image, ref)
		}
		j.others = append(j.others, ref)
	}
	return nil
}

// finishOthers signs and verifies the image in the further repositories that it was pushed
// to, as finish did in the first. The tags come last: none names what is not verified in
// all of them.
func (j *buildJob) finishOthers(ctx context.Context, src *git.Source, r *build.Request, res *build.Result, signing *buildSigning, answer *buildAnswer) (policy.Decision, error) {
	name := []func() error{func() error { return j.nameResult(ctx, r, res, answer) }}
	for _, image := range j.others {
		there, request := *j, *r
		there.image, request.Image = image, image
		repo, err := j.app.RegistryClient().Open(ctx, image)
		if err != nil {
			return policy.Decision{}, err
		}
		request.Repo = repo
		again, err := build.Again(ctx, request, res)
		if err != nil {
			return policy.Decision{}, err
		}
		var more buildAnswer
		d, err := there.finish(ctx, src, &request, again, signing, &more)
		if err != nil || !d.Allowed {
			return d, err
		}
		answer.Signatures = append(answer.Signatures, more.Signatures...)
		name = append(name, func() error { return there.nameResult(ctx, &request, again, answer) })
	}
	if j.o.result.part != "" {
		return policy.Decision{Allowed: true}, j.writePart(ctx, src, r, res, signing, answer)
	}
	for _, set := range name {
		if err := set(); err != nil {
			return policy.Decision{}, err
		}
	}
	return policy.Decision{Allowed: true}, nil
}
