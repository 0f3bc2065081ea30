package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// trustedAnswer is what build prints of a trusted build, beside the rest.
type trustedAnswer struct {
	trusted.Facts
	CacheKept string            `json:"cacheKept,omitempty"` // entry that later builds may take from, HOST/REPOSITORY@DIGEST
	Private   bool              `json:"private"`             // the provenance says the least (mode=min)
	LogIndex  *int64            `json:"logIndex,omitempty"`  // of the index's signature, or the first file's
	Verified  bool              `json:"verified"`            // as a consumer would, before the tag was set
	Files     []builtFile       `json:"files,omitempty"`
	Verify    map[string]string `json:"verify,omitempty"` // commands for consumers, by program
	// Policies for consumers of an image.
	Policies *trusted.ConsumerPolicies `json:"policies,omitempty"`
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
			Source: j.trusted.extensions["sourceRepositoryURI"]}}
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

// summarize adds to the answer what consumers need, and writes the policies.
func (j *buildJob) summarize(answer *buildAnswer) error {
	if j.trusted == nil {
		return nil
	}
	t := answer.trusted()
	t.LogIndex = answer.logIndex
	t.Facts, t.Private = j.trusted.build.Facts, j.trusted.build.Private
	answer.Signer.Extensions = j.trusted.extensions
	if answer.Image == "" {
		t.Verify = j.commands(answer, t.Files[0].toVerify(j.o.result.dest))
		return nil
	}
	var pushed []string
	for _, name := range j.images() {
		pushed = append(pushed, name+"@"+answer.Digest)
	}
	t.Verify = j.commands(answer, pushed)
	c := trusted.Consumer{Repositories: j.images(), Signer: *answer.Signer, PublicKey: publicPEM(j.o.signer.public)}
	if j.app.HasTrustedRoot(j.o.signer.trustedRoot) {
		c.TrustRoot = "hallmark" // as hallmark up calls its own
	}
	p := c.Policies()
	t.Policies = &p
	if dir := j.o.result.policies; dir != "" {
		return writePolicies(dir, p)
	}
	return nil
}

func writePolicies(dir string, p trusted.ConsumerPolicies) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"image.rego": p.Rego, "cluster-image-policy.yaml": p.ClusterImagePolicy} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func publicPEM(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if key == nil || err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// images are all repositories that the image was pushed to.
func (j *buildJob) images() []string {
	names := []string{j.image.Name()}
	for _, other := range j.others {
		names = append(names, other.Name())
	}
	return names
}

// toVerify are the arguments that name a file in the folder and its bundle.
func (f *builtFile) toVerify(dir string) []string {
	at := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	return []string{"--bundle", at(f.Bundle), at(f.Path)}
}

// commands are those with which a consumer verifies what was made: images, or a file. None is
// for a program that could not tell the source repository from others that use the same
// workflow.
func (j *buildJob) commands(answer *buildAnswer, what []string) map[string]string {
	workflowOf, cosignCan := trusted.WorkflowOf(*answer.Signer)
	who, cosigns := []string{"--key", "KEY.pub"}, []string{"--key", "KEY.pub"}
	if s := answer.Signer; s.Identity != "" {
		who = []string{"--identity", s.Identity, "--issuer", s.Issuer}
		cosigns = []string{"--certificate-identity", s.Identity, "--certificate-oidc-issuer", s.Issuer}
		if source := s.Extensions["sourceRepositoryURI"]; source != "" {
			who = append(who, "--source-repository", source)
		}
		if workflowOf != "" {
			cosigns = append(cosigns, "--certificate-github-workflow-repository", workflowOf)
		}
	}
	if path := j.o.signer.trustedRoot; j.app.HasTrustedRoot(path) {
		if path == "" {
			path = j.app.Env(cli.EnvTrustedRoot)
		}
		who, cosigns = append(who, "--trusted-root", path), append(cosigns, "--trusted-root", path)
	}
	who = append(who, "--attestation", "slsaprovenance1")
	cosign := "cosign verify"
	if answer.Image == "" {
		cosign, cosigns = "cosign verify-blob-attestation", append(cosigns, "--type", "slsaprovenance1")
	}
	list := map[string]string{"hallmark": commandLine("hallmark verify", who, what)}
	if cosignCan {
		list["cosign"] = commandLine(cosign, cosigns, what)
	}
	return list
}

// commandLine quotes each word where a shell needs it.
func commandLine(command string, who, more []string) string {
	for _, word := range slices.Concat(who, more) {
		command += " " + cli.ShellQuote(word)
	}
	return command
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
	if t.LogIndex != nil {
		a.Print("  log entry  %d", *t.LogIndex)
	}
	a.Print("  verified   as a consumer would:")
	for _, program := range []string{"hallmark", "cosign"} {
		if command := t.Verify[program]; command != "" {
			a.Print("    %s", command)
		}
	}
}
