package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// build builds an allowed source, signs the result and tags it. That the
// registry answers and who signs is settled first: a build that could not be
// pushed and signed at the end need not start.
func (j *buildJob) build(ctx context.Context, src *git.Source, answer *buildAnswer) (_ policy.Decision, err error) {
	repo, err := j.app.RegistryClient().Open(ctx, j.image)
	if err != nil {
		return policy.Decision{}, err
	}
	if _, err := repo.Resolve(ctx, j.image); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return policy.Decision{}, err
	}
	signing, err := j.newSigning(ctx, src)
	if err != nil {
		return policy.Decision{}, err
	}
	address := j.app.Env("BUILDKIT_HOST")
	if address == "" {
		d, err := j.startDaemon(ctx)
		if err != nil {
			return policy.Decision{}, err
		}
		defer func() { err = errors.Join(err, d.Stop()) }()
		address = d.Address
	}
	kit, err := build.Connect(ctx, address)
	if err != nil {
		return policy.Decision{}, err
	}
	defer kit.Close()
	r, cleanup, err := j.request(ctx, src, repo, address)
	if err != nil {
		return policy.Decision{}, err
	}
	defer cleanup()
	res, err := build.Run(ctx, kit, *r)
	if err != nil {
		return policy.Decision{}, err
	}
	answer.fill(j, r, res)
	return j.finish(ctx, src, r, res, signing, answer)
}

func (j *buildJob) startDaemon(ctx context.Context) (*daemon.Daemon, error) {
	cfg := daemon.Config{Tools: j.app.toolsFolder()}
	if j.insecure() {
		cfg.HTTPRegistries = []string{j.image.Host}
	}
	return daemon.Start(ctx, cfg)
}

// request makes the build's context: the daemon's own git source where the
// daemon can reach the repository, else the exported tree.
func (j *buildJob) request(ctx context.Context, src *git.Source, repo *registry.Repository, address string) (*build.Request, func(), error) {
	r := &build.Request{
		Context: build.Context{Remote: src.Git.Remote, Ref: src.Git.Ref, Commit: src.Git.CommitChecksum, When: src.Commit.Committer.When},
		Options: j.o.options, Image: j.image, Repo: repo, Insecure: j.insecure(), Stderr: j.app.Stderr,
	}
	switch {
	case j.o.progress:
		r.Progress = build.ProgressPlain
	case j.app.Progress():
		r.Progress = build.ProgressTTY
	}
	url := j.location.URL
	sameMachine := strings.HasPrefix(address, "unix:")
	if !j.o.export && build.FetchesGit(url) && (sameMachine || !loopback.Host(j.location.Host())) {
		r.Context.GitURL = url
		return r, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "hallmark-source-")
	if err != nil {
		return nil, nil, err
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	warnings, err := src.Export(ctx, dir)
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	for _, w := range warnings {
		j.app.Warn("%s", w)
	}
	r.Context.Dir = dir
	return r, cleanup, nil
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
// everything, and tags the image last.
func (j *buildJob) finish(ctx context.Context, src *git.Source, r *build.Request, res *build.Result, signing *buildSigning, answer *buildAnswer) (policy.Decision, error) {
	why, err := src.Moved(ctx)
	if err != nil {
		return policy.Decision{}, fmt.Errorf("checking the tag again before signing: %w", err)
	}
	if why != nil {
		return policy.Deny(*why), nil
	}
	if signing != nil {
		all := append([]ocispec.Descriptor{res.Index}, append(res.Images, res.Attestations...)...)
		if err := signing.sign(ctx, r.Repo, all, answer); err != nil {
			return policy.Decision{}, err
		}
	}
	if err := r.Tag(ctx, res); err != nil {
		return policy.Decision{}, err
	}
	return policy.Decision{Allowed: true}, nil
}
