package main

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// verifyBundle judges one bundle as hallmark verify --bundle does, through the
// same gate; only that an attestation of any type will do, because the suite
// does not say which it wants.
func verifyBundle(ctx context.Context, a *cli.App, c *call) error {
	demands, err := c.demands()
	if err != nil {
		return err
	}
	cfg := verify.Config{Now: time.Now}
	if c.key != "" {
		public, err := cli.ReadPublicKey(c.key)
		if err != nil {
			return err
		}
		cfg.Keys = []crypto.PublicKey{public}
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	cfg.Roots = []*trust.Root{root}
	artifact, err := check.FileArtifact(c.file)
	if err != nil {
		return err
	}
	data, err := readFile("--bundle", c.bundle, bundle.MaxSize)
	if err != nil {
		return err
	}
	d, err := judge(ctx, c.file, artifact, data, cfg, demands)
	if err != nil || d.Allowed {
		return err
	}
	return a.Deny(d)
}

// demands is whom the call wants to have signed.
func (c *call) demands() (gate.Requirements, error) {
	var q gate.Requirements
	switch {
	case c.key != "" && (c.identity != "" || c.issuer != ""):
		return q, fault.Usagef("--key and an identity exclude each other: say which of them must have signed")
	case c.key != "":
		return gate.Requirements{Keys: true}, nil
	case c.identity == "" || c.issuer == "":
		return q, fault.Usagef("whom is it to be from? --certificate-identity with --certificate-oidc-issuer, or --key")
	}
	q.Identities = []policy.Identity{{Subject: c.identity, Issuer: c.issuer}}
	return q, q.Check()
}

// judge says whether the bundle is by whom q demands and about the artifact.
func judge(ctx context.Context, name string, artifact verify.Artifact, data []byte, cfg verify.Config, q gate.Requirements) (policy.Decision, error) {
	claim, err := bundle.Parse(data)
	if err != nil {
		return policy.Deny(policy.Reason{Code: verify.Malformed, Message: err.Error()}), nil
	}
	q.AttestationType = attestationType(claim)
	verifier, err := verify.New(cfg)
	if err != nil {
		return policy.Decision{}, err
	}
	r, err := gate.Blob(ctx, gate.BlobRequest{Name: name, Artifact: artifact, Verifier: verifier, Policy: q, Now: cfg.Now, AnyBuilder: true,
		Items: []collect.Item{{Format: collect.FormatBundle, Claim: claim}}})
	return r.Decision, err
}

// attestationType is what the bundle says it attests, "" when it is a signature.
// It is not believed: it only chooses which verified fact to look for.
func attestationType(claim *evidence.Claim) string {
	if claim.Envelope == nil {
		return ""
	}
	st, err := bundle.ParseStatement(claim.Envelope.Payload)
	if err != nil || st.PredicateType == evidence.PredicateSign {
		return ""
	}
	return st.PredicateType
}

// root is the trust that judges.
func (c *call) root() (*trust.Root, error) {
	if c.trustedRoot == "" {
		return defaultRoot(c.staging)
	}
	data, err := readFile("--trusted-root", c.trustedRoot, trust.MaxSize)
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return nil, fmt.Errorf("--trusted-root %s: %w", c.trustedRoot, err)
	}
	return root, nil
}

func readFile(option, path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Usagef("%s: %w", option, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", option, path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s %s: more than %d MiB", option, path, limit>>20)
	}
	return data, nil
}
