package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// believeRelease looks up what an image's tag is, and demands that the publisher whom the
// builder file names for its repository has signed it as a release of that version. From
// then on it is known by its digest. code is of the reason when nobody has.
func (j *buildJob) believeRelease(ctx context.Context, image, code string) (string, policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	ref, err := registry.ParseRef(image)
	if err != nil {
		return "", yes, err
	}
	by := j.trusted.builder.Release(ref)
	if by == nil {
		return "", yes, fault.Usagef("%s: the builder file says of no signature that it is a release", image)
	}
	r := sourcefacts.New(sourcefacts.Options{Registry: j.app.RegistryClient(), PlainHTTP: j.app.PlainHTTP, UserAgent: j.app.UserAgent(),
		Verifier: func(context.Context) (*verify.Verifier, error) { return j.releaseVerifier(by) }})
	source, err := sourcepolicy.ParseSource("docker-image://" + ref.String())
	if err != nil {
		return "", yes, err
	}
	facts, err := r.Resolve(ctx, source, []sourcepolicy.Ask{{Fact: sourcepolicy.ImageAttested}, {Fact: sourcepolicy.ImageSignatures}})
	if err != nil {
		return "", yes, fmt.Errorf("looking for the signature of %s: %w", image, err)
	}
	tool, found := by.By(*facts.Signatures, ref.Tag)
	if !found || !*facts.Attested {
		why := ""
		if len(facts.Notes) > 0 {
			why = " (" + cli.OneLine(facts.Notes[0]) + ")"
		}
		return "", policy.Deny(policy.Reason{Code: code, Subject: image,
			Message: fmt.Sprintf("%s is %s, which is no release with provenance that %s signed for %s of %s%s",
				image, facts.Checksum, strings.Join(by.Identities, " or "), by.Ref, by.SourceRepository, why),
			Hint: "ask its publisher; name it by a digest that was reviewed, or use the frontend in the pinned BuildKit"}), nil
	}
	tool.Image = ref.Name() + "@" + string(facts.Checksum)
	j.trusted.signed = append(j.trusted.signed, tool)
	return tool.Image, yes, nil
}

// releaseVerifier believes the root that the builder file names, and who was revoked by this
// machine's trust bundle.
func (j *buildJob) releaseVerifier(by *trusted.Release) (*verify.Verifier, error) {
	bundle, err := j.sourceTrust().read()
	if err != nil {
		return nil, err
	}
	cfg := verify.Config{Now: time.Now, Revoked: bundle.Revocations(), Roots: []*trust.Root{by.Root}}
	if by.Root == nil {
		public, err := (&bundlefile.File{}).WithRoots(true)
		if err != nil {
			return nil, err
		}
		j.app.WarnOf(public.Staleness(time.Now()))
		cfg.Roots = public.SigstoreRoots()
	}
	return verify.New(cfg)
}

// chooseSigned makes digests of the frontend and the scanner that are named by tag.
func (j *buildJob) chooseSigned(ctx context.Context) (policy.Decision, error) {
	t := j.trusted
	t.signed = nil
	for _, tool := range []struct {
		image, cmdline *string
		code           string
	}{{&t.build.Frontend.Image, &t.build.Frontend.Cmdline, trusted.CodeFrontend}, {&t.build.Scanner, nil, trusted.CodeTool}} {
		if *tool.image == "" || strings.Contains(*tool.image, "@") {
			continue
		}
		image, d, err := j.believeRelease(ctx, *tool.image, tool.code)
		if err != nil || !d.Allowed {
			return d, err
		}
		if *tool.image = image; tool.cmdline != nil {
			*tool.cmdline = image
		}
	}
	return policy.Decision{Allowed: true}, nil
}
