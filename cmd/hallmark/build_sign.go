package main

import (
	"context"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// tokenFreshness is how long a build may take before a token that a CI system
// gave at its start is asked for anew: they live for some five minutes.
const tokenFreshness = time.Minute

// buildSigning signs what a build made.
type buildSigning struct {
	app    *app
	o      *signerOptions
	signer *sign.Signer
	since  time.Time
	show   *build.Progress
}

// newSigning settles who signs; nil with --no-sign.
func (j *buildJob) newSigning(ctx context.Context, src *git.Source) (*buildSigning, error) {
	if j.o.noSign {
		return nil, nil
	}
	j.o.signer.private = j.app.privateBuild(src, j.image)
	signer, err := j.app.newSigner(ctx, &j.o.signer)
	if err != nil {
		return nil, fmt.Errorf("who signs the image: %w", err)
	}
	if _, asks := signer.NeedsConsent(); asks && j.o.signer.yes == "" && !j.app.Interactive() {
		return nil, fault.Hint(fault.Usagef("a personal identity would go to a public log, and there is nobody to ask"),
			"if that is what you want, say --yes")
	}
	return &buildSigning{app: j.app, o: &j.o.signer, signer: signer, since: time.Now(), show: j.o.show}, nil
}

// fresh is the signer, made anew when its token may have become too old during the build.
func (s *buildSigning) fresh(ctx context.Context) (*sign.Signer, error) {
	if s.signer.Keyless() && s.o.identityToken == "" && !s.o.login() && !s.app.Interactive() && time.Since(s.since) > tokenFreshness {
		fresh, err := s.app.newSigner(ctx, s.o)
		if err != nil {
			return nil, fmt.Errorf("who signs, asked again after the build: %w", err)
		}
		s.signer = fresh
	}
	return s.signer, nil
}

// agree settles that statements about an image, or what is in it, may be signed now: with a
// fresh token, and nothing private or personal becomes public that nobody agreed to.
func (s *buildSigning) agree(ctx context.Context, image sign.Target, statements []*sign.Statement) error {
	if _, err := s.fresh(ctx); err != nil {
		return err
	}
	hosts, err := s.app.publicHosts(s.signer.Services(), s.o.configSource(s.app, s.signer.Keyless()))
	if err != nil {
		return err
	}
	if err := s.app.keepPrivate(ctx, s.o, hosts, s.app.privateImages(image.String())); err != nil {
		return err
	}
	return s.app.consent(s.signer, s.o, statements)
}

// sign signs the manifests, all or an error: an image that is signed in part
// gets no tag.
func (s *buildSigning) sign(ctx context.Context, repo *registry.Repository, all []ocispec.Descriptor, answer *buildAnswer) error {
	statements := make([]*sign.Statement, len(all))
	for i, d := range all {
		st, err := sign.ImageStatement(evidence.Digest(d.Digest), nil)
		if err != nil {
			return err
		}
		statements[i] = st
	}
	if err := s.agree(ctx, sign.Target{Repo: repo, Desc: all[0]}, statements); err != nil {
		return err
	}
	answer.Signatures = make([]string, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(signers)
	for i, d := range all {
		g.Go(func() error {
			ended := s.show.Step("[sign] " + repo.RefOf(d.Digest))
			done, err := s.signer.Attach(ctx, sign.Target{Repo: repo, Desc: d}, statements[i])
			ended(err)
			if err != nil {
				return fmt.Errorf("signing %s: %w", d.Digest, err)
			}
			answer.Signatures[i] = done.Ref
			if i == 0 {
				answer.Signer, answer.logIndex = &done.Signer, done.LogIndex
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	answer.Signed, answer.MadePublic = true, s.o.madePublic
	who, err := named(ctx, s) // of a job, by the certificate that signed just now
	answer.extensions = who.Extensions
	return err
}
