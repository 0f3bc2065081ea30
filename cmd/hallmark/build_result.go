package main

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// trustedAnswer is what build prints of a trusted build, beside the rest.
type trustedAnswer struct {
	trusted.Facts
	CacheKept string      `json:"cacheKept,omitempty"` // entry that later builds may take from, HOST/REPOSITORY@DIGEST
	Private   bool        `json:"private"`             // the provenance says the least (mode=min)
	Verified  bool        `json:"verified"`            // as a consumer would, before the tag was set
	Files     []builtFile `json:"files,omitempty"`
	forConsumers
}

type builtFile struct {
	Path   string   `json:"path"` // below the folder of --output
	Digest string   `json:"digest"`
	Bundle string   `json:"bundle"`          // path of its signed provenance
	SBOMs  []string `json:"sboms,omitempty"` // paths of its signed SBOMs

	statements []fileStatement
}

// trusted is the part of the answer about a trusted build.
func (b *buildAnswer) trusted() *trustedAnswer {
	if b.Trusted == nil {
		b.Trusted = &trustedAnswer{}
	}
	return b.Trusted
}

// made is what was made, for the first line.
func (b *buildAnswer) made() string {
	if b.Image == "" && b.Trusted == nil {
		return "built, and nothing was kept"
	}
	if b.Image == "" {
		return fmt.Sprintf("%d files, each with %s beside it", len(b.Trusted.Files), "NAME"+bundleSuffix)
	}
	if b.Part != nil {
		return fmt.Sprintf("%s, the part for %s: %s@%s", b.Part.File, b.Part.Platform, b.Image, b.Digest)
	}
	return b.Image + "@" + b.Digest
}

// consumer is the verifier of somebody who believes what we would, and who demands
// exactly who signed.
func (j *buildJob) consumer(ctx context.Context, who *evidence.Signer) (*verify.Verifier, gate.Requirements, error) {
	var q gate.Requirements
	bundle, err := j.app.TrustBundle("")
	if err != nil {
		return nil, q, err
	}
	key := j.o.signer.public
	cfg, _, err := j.app.Believed(ctx, bundle, j.o.signer.trustedRoot, key == nil || j.app.HasTrustedRoot(j.o.signer.trustedRoot))
	if err != nil {
		return nil, q, err
	}
	if key != nil {
		q.Keys, cfg.NamedKeys, cfg.Keys = true, nil, []crypto.PublicKey{key}
	} else {
		q.Identities = []policy.Identity{{Subject: who.Identity, Issuer: who.Issuer,
			Source: j.trusted.extensions["sourceRepositoryURI"], Runner: j.trusted.extensions["runnerEnvironment"]}}
	}
	v, err := verify.New(cfg)
	return v, q, err
}

// verifyResult verifies what was pushed, each manifest by its own signature and the
// provenance under it, as a consumer would. Nothing has a tag before that.
func (j *buildJob) verifyResult(ctx context.Context, res *build.Result, answer *buildAnswer) (d policy.Decision, err error) {
	if j.trusted == nil {
		return policy.Decision{Allowed: true}, nil
	}
	ended := j.o.show.Step("[verify] " + j.image.WithDigest(evidence.Digest(res.Index.Digest)).String() + ", as a consumer would")
	defer func() { ended(build.Ended(d, err)) }()
	v, q, err := j.consumer(ctx, answer.Signer)
	if err != nil {
		return policy.Decision{}, fmt.Errorf("verifying the result: %w", err)
	}
	repo, err := j.app.RegistryClient().Open(ctx, j.image)
	if err != nil {
		return policy.Decision{}, err
	}
	ask := gate.Request{Repo: repo, Verifier: v, Now: time.Now}
	for _, d := range append([]ocispec.Descriptor{res.Index}, slices.Concat(res.Images, res.Attestations)...) {
		ask.Ref, ask.Policy = j.image.WithDigest(evidence.Digest(d.Digest)), q
		if d, err := verified(gate.Image(ctx, ask)); err != nil || !d.Allowed {
			return d, err
		}
	}
	q.AttestationType = evidence.PredicateSLSA1
	ask.Ref, ask.Policy, ask.Statements = j.image.WithDigest(evidence.Digest(res.Index.Digest)), q, []string{evidence.PredicateSLSA1}
	d, err = verified(gate.Image(ctx, ask))
	answer.trusted().Verified = err == nil && d.Allowed
	return d, err
}

// verifyFiles is verifyResult for files.
func (j *buildJob) verifyFiles(ctx context.Context, dir string, answer *buildAnswer) (d policy.Decision, err error) {
	ended := j.o.show.Step("[verify] each file, as a consumer would")
	defer func() { ended(build.Ended(d, err)) }()
	v, q, err := j.consumer(ctx, answer.Signer)
	if err != nil {
		return policy.Decision{}, fmt.Errorf("verifying the result: %w", err)
	}
	for _, f := range answer.trusted().Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		file, err := os.Open(path)
		if err != nil {
			return policy.Decision{}, err
		}
		artifact, err := verify.HashFile(file)
		_ = file.Close() // it was read
		if err != nil {
			return policy.Decision{}, err
		}
		for _, s := range f.statements {
			items, err := collect.Files(filepath.Join(dir, filepath.FromSlash(s.bundle)))
			if err != nil {
				return policy.Decision{}, err
			}
			q.AttestationType = s.kind
			if d, err := verified(gate.Blob(ctx, gate.BlobRequest{Name: f.Path, Artifact: artifact, Items: items, Verifier: v, Policy: q, Now: time.Now})); err != nil || !d.Allowed {
				return d, err
			}
		}
	}
	answer.trusted().Verified = true
	return policy.Decision{Allowed: true}, nil
}

// verified says of a denial what was denied.
func verified(r gate.Result, err error) (policy.Decision, error) {
	if err != nil || r.Decision.Allowed {
		return policy.Decision{Allowed: err == nil}, err
	}
	why := []policy.Reason{{Code: trusted.CodeResult, Subject: r.Subject.Name, Message: "what was made does not verify as a consumer would verify it; no tag names it"}}
	return policy.Deny(append(why, r.Decision.Reasons...)...), nil
}

// printTrusted is the end of the summary.
func (a *app) printTrusted(b *buildAnswer) {
	t := b.Trusted
	if t == nil || !t.Verified {
		return
	}
	for _, f := range t.Files {
		a.Print("  file       %s %s", f.Digest, f.Path)
	}
	for _, tool := range t.Tools {
		a.Print("  tool       %s %s sha256:%s", tool.Name, tool.Version, tool.SHA256)
	}
	a.Print("  frontend   %s", strings.TrimSpace(t.Frontend+" "+t.Syntax))
	if t.Scanner != "" {
		a.Print("  scanner    %s", t.Scanner)
	}
	for _, s := range t.Signed {
		a.Print("  release    %s signed by %s for %s", s.Tag, s.Identity, s.Source)
	}
	if t.Cache != nil {
		a.Print("  cache      from %s@%s of %s at commit %s", t.Cache.Repository, t.Cache.Digest, t.Cache.Ref, t.Cache.Commit)
	}
	if t.CacheKept != "" {
		a.Print("  cache      left %s", t.CacheKept)
	}
	a.printConsumers(&t.forConsumers, "verified   as a consumer would:")
}
