package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// build builds an allowed source, signs the result and tags it. That the
// registry answers and who signs is settled first: a build that could not be
// pushed and signed at the end need not start.
func (j *buildJob) build(ctx context.Context, src *git.Source, answer *buildAnswer) (_ policy.Decision, err error) {
	repo, err := j.open(ctx)
	if err != nil {
		return policy.Decision{}, err
	}
	signing, d, err := j.whoSigns(ctx, src)
	if err != nil || !d.Allowed {
		return d, err
	}
	if err := j.checkPart(); err != nil {
		return policy.Decision{}, err
	}
	if err := j.prepareCache(ctx, src, signing, true); err != nil {
		return policy.Decision{}, err
	}
	r, kit, done, err := j.start(ctx, src)
	if err != nil {
		return denied(err)
	}
	defer func() { err = errors.Join(err, done()) }()
	r.Repo = repo
	res, d, err := build.Run(ctx, kit, *r)
	if err != nil {
		return policy.Decision{}, err
	}
	answer.Sources = res.Sources
	if !d.Allowed {
		if res.Excerpt != "" {
			j.app.Say("%s\n", res.Excerpt)
		}
		return d, nil
	}
	answer.fill(j, r, res)
	last, err := j.finishAll(ctx, src, r, res, signing, answer)
	if err == nil && last.Allowed {
		err = j.keepCache(ctx, res.Cache, signing, answer)
	}
	last.Warnings = append(last.Warnings, d.Warnings...)
	return last, err
}

// open opens the image's repository, and looks whether the registry answers.
func (j *buildJob) open(ctx context.Context) (*registry.Repository, error) {
	repo, err := j.app.RegistryClient().Open(ctx, j.image)
	if err != nil {
		return nil, err
	}
	if _, err := repo.Resolve(ctx, j.image); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	return repo, nil
}

// finishAll signs and verifies what was made in all repositories, and names it.
func (j *buildJob) finishAll(ctx context.Context, src *git.Source, r *build.Request, res *build.Result, signing *buildSigning, answer *buildAnswer) (policy.Decision, error) {
	d, err := j.finish(ctx, src, r, res, signing, answer)
	if err != nil || !d.Allowed {
		return d, err
	}
	return j.finishOthers(ctx, src, r, res, signing, answer)
}

// start connects to BuildKit, or starts it, and makes the request of it. done ends what
// was started.
func (j *buildJob) start(ctx context.Context, src *git.Source) (r *build.Request, kit *build.Client, done func() error, err error) {
	address, stop := j.app.Env("BUILDKIT_HOST"), func() error { return nil }
	if address == "" {
		ended := j.o.show.Step("[buildkit] starting a daemon for this build")
		d, err := j.startDaemon(ctx)
		ended(err)
		if err != nil {
			return nil, nil, nil, err
		}
		address, stop = d.Address, d.Stop
	}
	kit, err = build.Connect(ctx, address)
	if err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	done = func() error { _ = kit.Close(); return stop() }
	if err = j.trusted.checkVersion(ctx, kit); err == nil {
		r, err = j.request(ctx, src, address)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, done())
	}
	return r, kit, done, nil
}

func (j *buildJob) startDaemon(ctx context.Context) (*daemon.Daemon, error) {
	cfg := daemon.Config{Tools: j.app.toolsFolder(), Trusted: j.trusted.daemon(func() error { return j.findCache(ctx) })}
	if j.image.Host != "" && j.insecure() {
		for _, image := range append([]registry.Ref{j.image}, j.others...) {
			if !slices.Contains(cfg.HTTPRegistries, image.Host) {
				cfg.HTTPRegistries = append(cfg.HTTPRegistries, image.Host)
			}
		}
	}
	return daemon.Start(ctx, cfg)
}

// request makes the build's context: the daemon's own git source where the
// daemon can reach the repository, else the exported tree.
func (j *buildJob) request(ctx context.Context, src *git.Source, address string) (*build.Request, error) {
	r := &build.Request{
		Context: build.Context{Remote: src.Git.Remote, Ref: src.Git.Ref, Commit: src.Git.CommitChecksum, When: src.Commit.Committer.When},
		Options: j.o.options, Image: j.image, Also: j.others, Insecure: j.insecure(), Sources: j.sources, Logins: j.logins,
		Cache: j.cache.request(), Progress: j.o.show,
	}
	if j.trusted != nil {
		return r, j.trusted.request(r, j.location.URL)
	}
	url := j.location.URL
	sameMachine := strings.HasPrefix(address, "unix:")
	if !j.o.export && build.FetchesGit(url) && (sameMachine || !loopback.Host(j.location.Host())) {
		r.Context.GitURL = url
		return r, nil
	}
	var err error
	r.Context.Dir, err = j.export(ctx, src)
	return r, err
}

func (b *buildAnswer) fill(j *buildJob, r *build.Request, res *build.Result) {
	b.Image, b.Digest, b.BuilderID = j.image.String(), res.Index.Digest.String(), r.BuilderID()
	for _, m := range res.Images {
		platform := m.Platform.OS + "/" + m.Platform.Architecture
		if m.Platform.Variant != "" {
			platform += "/" + m.Platform.Variant
		}
		b.Manifests = append(b.Manifests, builtManifest{Kind: "image", Platform: platform, Digest: m.Digest.String()})
	}
	for _, m := range res.Attestations {
		b.Manifests = append(b.Manifests, builtManifest{Kind: "attestation", Digest: m.Digest.String()})
	}
}

// finish looks once more whether the tag still is what was checked, signs
// everything, and verifies it.
func (j *buildJob) finish(ctx context.Context, src *git.Source, r *build.Request, res *build.Result, signing *buildSigning, answer *buildAnswer) (policy.Decision, error) {
	if d, err := j.stillAllowed(ctx, src); err != nil || !d.Allowed {
		return d, err
	}
	if signing != nil {
		all := append([]ocispec.Descriptor{res.Index}, append(res.Images, res.Attestations...)...)
		if err := signing.sign(ctx, r.Repo, all, answer); err != nil {
			return policy.Decision{}, err
		}
		if err := j.recordVerdict(ctx, sign.Target{Repo: r.Repo, Desc: res.Index}, signing, answer); err != nil {
			return policy.Decision{}, err
		}
	}
	return j.verifyResult(ctx, res, answer)
}

// nameResult sets the tags of what was signed and verified.
func (j *buildJob) nameResult(ctx context.Context, r *build.Request, res *build.Result, answer *buildAnswer) error {
	for _, tag := range append([]string{r.Image.Tag}, j.tags...) {
		r.Image.Tag = tag
		ended := j.o.show.Step("[tag] " + r.Image.Name() + ":" + tag)
		err := r.Tag(ctx, res)
		ended(err)
		if err != nil {
			return err
		}
		if tag != "" {
			answer.named = append(answer.named, r.Image.String())
		}
	}
	return nil
}

// moved looks whether the tag still is what was built. A branch goes on, and nobody can
// move a commit; a plain build is of tags alone.
func (j *buildJob) moved(ctx context.Context, src *git.Source) (policy.Decision, error) {
	if j.trusted != nil && src.Git.TagName == "" {
		return policy.Decision{Allowed: true}, nil
	}
	why, err := src.Moved(ctx)
	if err != nil {
		return policy.Decision{}, fmt.Errorf("checking the tag again before signing: %w", err)
	}
	if why != nil {
		return policy.Deny(*why), nil
	}
	return policy.Decision{Allowed: true}, nil
}

// stillAllowed looks just before signing whether the tag still is what was built, and asks
// the signing policy once more: somebody may have rejected the release meanwhile.
func (j *buildJob) stillAllowed(ctx context.Context, src *git.Source) (policy.Decision, error) {
	if d, err := j.moved(ctx, src); err != nil || !d.Allowed {
		return d, err
	}
	return j.askRelease(ctx, src)
}
