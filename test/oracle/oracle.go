// Package oracle holds our verifier against others': sigstore-go and cosign must
// agree with every verdict, and we are never laxer. It also has what both are
// measured with. It is a module of its own, so that what it compares with is
// nobody's dependency.
package oracle

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Task is what both verifiers are asked: whether bundles about one artifact hold.
type Task struct {
	TrustedRoot []byte // trusted_root.json
	Key         []byte // PEM of the key that must have signed; nil: a certificate with
	Identity    string // this identity
	Issuer      string // and this issuer
	Artifact    []byte
	ByDigest    bool // the verifiers are given the artifact's SHA-256 alone
}

// Ours is our verifier, set up for a task and warm.
type Ours struct {
	task     Task
	verifier *verify.Verifier
	artifact verify.Artifact
}

// NewOurs reads the task's trust; a bad one is an error.
func NewOurs(t Task) (*Ours, error) {
	r, err := trust.ParseTrustedRoot(t.TrustedRoot)
	if err != nil {
		return nil, err
	}
	cfg := verify.Config{Roots: []*trust.Root{r}}
	if t.Key != nil {
		public, err := key.ParsePublicPEM(t.Key)
		if err != nil {
			return nil, err
		}
		cfg.Keys = []crypto.PublicKey{public}
	}
	v, err := verify.New(cfg)
	if err != nil {
		return nil, err
	}
	o := &Ours{task: t, verifier: v, artifact: verify.Image(evidence.SHA256(t.Artifact))}
	if !t.ByDigest {
		o.artifact, err = verify.HashFile(bytes.NewReader(t.Artifact))
	}
	return o, err
}

// Refused is why our verifier says no.
type Refused struct{ policy.Reason }

func (r *Refused) Error() string { return r.Reason.String() }

// Verify reads and judges a bundle; nil: it holds.
func (o *Ours) Verify(data []byte) error {
	c, err := bundle.Parse(data)
	if err != nil {
		return &Refused{policy.Reason{Code: "PARSE", Message: err.Error()}}
	}
	ok, reasons := o.verifier.Claim(c, o.artifact)
	if ok == nil {
		return &Refused{reasons[0]}
	}
	if o.task.Key != nil {
		if ok.Signer().Key == "" {
			return &Refused{policy.Reason{Code: "IDENTITY", Message: "a certificate signed where a key was wanted"}}
		}
		return nil
	}
	if s := ok.Signer(); s.Identity != o.task.Identity || s.Issuer != o.task.Issuer {
		return &Refused{policy.Reason{Code: "IDENTITY", Message: s.String()}}
	}
	return nil
}

// SigstoreGo is sigstore-go's verifier, set up for the same task as its own
// conformance client does.
type SigstoreGo struct {
	task     Task
	trusted  root.TrustedMaterial
	identity []sgverify.PolicyOption
	extra    []sgverify.VerifierOption
	verifier map[kind]*sgverify.Verifier
	digest   []byte
}

// kind is what sigstore-go must be told of a bundle before it verifies it.
type kind struct{ timestamps, promise, logs bool }

// NewSigstoreGo reads the task's trust.
func NewSigstoreGo(t Task, extra ...sgverify.VerifierOption) (*SigstoreGo, error) {
	r, err := root.NewTrustedRootFromJSON(t.TrustedRoot)
	if err != nil {
		return nil, err
	}
	s := &SigstoreGo{task: t, trusted: r, verifier: map[kind]*sgverify.Verifier{}, digest: evidence.SHA256(t.Artifact).Bytes(), extra: extra}
	if t.Key == nil {
		id, err := sgverify.NewShortCertificateIdentity(t.Issuer, "", t.Identity, "")
		if err != nil {
			return nil, err
		}
		s.identity = []sgverify.PolicyOption{sgverify.WithCertificateIdentity(id)}
		s.extra = append(s.extra, sgverify.WithSignedCertificateTimestamps(1))
		return s, nil
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(t.Key)
	if err != nil {
		return nil, err
	}
	s.identity = []sgverify.PolicyOption{sgverify.WithKey()}
	v, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, err
	}
	keys := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	s.trusted = root.TrustedMaterialCollection{keys, r}
	return s, nil
}

// Verify reads and judges a bundle; nil: it holds. A panic is a refusal.
func (s *SigstoreGo) Verify(data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	var b sgbundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		return err
	}
	v, err := s.verifierFor(&b)
	if err != nil {
		return err
	}
	artifact := sgverify.WithArtifactDigest("sha256", s.digest)
	if !s.task.ByDigest {
		artifact = sgverify.WithArtifact(bytes.NewReader(s.task.Artifact))
	}
	result, err := v.Verify(&b, sgverify.NewPolicy(artifact, s.identity...))
	if err == nil && result == nil {
		return errors.New("no result")
	}
	return err
}

// verifierFor asks of a bundle what it brings, as the conformance client does: a
// certificate's time must come from somewhere, a key needs nothing.
func (s *SigstoreGo) verifierFor(b *sgbundle.Bundle) (*sgverify.Verifier, error) {
	tokens, err := b.Timestamps()
	if err != nil {
		return nil, err
	}
	entries, err := b.TlogEntries()
	if err != nil {
		return nil, err
	}
	k := kind{len(tokens) > 0 && len(s.trusted.TimestampingAuthorities()) > 0, b.HasInclusionPromise(), len(entries) > 0}
	if v := s.verifier[k]; v != nil {
		return v, nil
	}
	options := s.extra
	if k.timestamps {
		options = append(options, sgverify.WithSignedTimestamps(1))
	}
	if s.task.Key == nil || k.logs {
		options = append(options, sgverify.WithTransparencyLog(1))
	}
	if k.promise {
		options = append(options, sgverify.WithIntegratedTimestamps(1))
	}
	if s.task.Key != nil && !k.timestamps && !k.promise {
		options = append(options, sgverify.WithNoObserverTimestamps())
	}
	v, err := sgverify.NewVerifier(s.trusted, options...)
	if err != nil {
		return nil, err
	}
	s.verifier[k] = v
	return v, nil
}

// Code is the code of our refusal.
func Code(err error) string {
	var r *Refused
	if errors.As(err, &r) {
		return r.Code
	}
	return strings.SplitN(err.Error(), ":", 2)[0]
}
