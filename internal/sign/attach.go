package sign

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Target is a manifest or index in a repository that is signed.
type Target struct {
	Repo *registry.Repository
	Desc ocispec.Descriptor
}

// Digest is the target's digest.
func (t Target) Digest() evidence.Digest { return evidence.Digest(t.Desc.Digest) }

// String is the target's reference by digest.
func (t Target) String() string { return t.Repo.RefOf(t.Desc.Digest) }

// Want is what a signature that would be made says, to look for one that
// already says it.
type Want struct {
	Signer    evidence.Signer
	Statement *Statement
	// Certificate is the one that would sign, nil where none was asked for yet: it says more
	// of a workload than its name.
	Certificate *x509.Certificate
}

// Attached is a signature or attestation of an image.
type Attached struct {
	Ref      string          // of the bundle's manifest, host/repo@sha256:…
	Existed  bool            // it was there before; nothing was added
	Signer   evidence.Signer // who signed
	Digest   evidence.Digest // of the bundle's manifest; "" when it existed
	LogIndex *int64          // nil: not logged, or it existed
	Signed   *Signed         // nil when it existed
}

// Attach signs a statement about an image and attaches the bundle as an OCI
// referrer, in cosign v3's layout. What the signer already said, according to
// Config.Existing, is not said again.
func (s *Signer) Attach(ctx context.Context, at Target, st *Statement) (*Attached, error) {
	if st.Subject != at.Digest() {
		return nil, errors.New("the statement is about another subject than the image that it is attached to")
	}
	who, err := s.Who(ctx)
	if err != nil {
		return nil, err
	}
	if s.cfg.Existing != nil {
		ref, err := s.cfg.Existing(ctx, at, Want{Signer: who, Statement: st, Certificate: s.leaf()})
		if err != nil {
			return nil, err
		}
		if ref != "" {
			return &Attached{Ref: ref, Existed: true, Signer: who}, nil
		}
	}
	signed, manifest, err := s.signAndPush(ctx, at, st)
	if err != nil {
		return nil, err
	}
	a := &Attached{Ref: at.Repo.RefOf(manifest.Digest), Signer: s.signedAs(who), Digest: evidence.Digest(manifest.Digest), Signed: signed}
	if i, ok := signed.LogIndex(); ok {
		a.LogIndex = &i
	}
	return a, nil
}

// signAndPush signs a statement and attaches the bundle. The empty config blob
// that every bundle's manifest names is uploaded while the services are asked.
func (s *Signer) signAndPush(ctx context.Context, at Target, st *Statement) (*Signed, ocispec.Descriptor, error) {
	g, gctx := errgroup.WithContext(ctx)
	if s.cfg.Later == "" { // else nothing may end the signing that is worth keeping
		g.Go(func() error { return pushConfig(gctx, at) })
	}
	var signed *Signed
	g.Go(func() (err error) { signed, err = s.Sign(gctx, st); return err })
	if err := g.Wait(); err != nil {
		return nil, ocispec.Descriptor{}, s.later(at, signed, err)
	}
	if s.cfg.Later != "" {
		if err := pushConfig(ctx, at); err != nil {
			return nil, ocispec.Descriptor{}, s.later(at, signed, err)
		}
	}
	desc, err := s.push(ctx, at, signed)
	if err != nil {
		return nil, ocispec.Descriptor{}, s.later(at, signed, err)
	}
	return signed, desc, nil
}

func pushConfig(ctx context.Context, at Target) error {
	_, err := at.Repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig))
	return err
}

// push attaches a bundle whose empty config is there.
func (s *Signer) push(ctx context.Context, at Target, signed *Signed) (ocispec.Descriptor, error) {
	layer, err := signed.describe()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := at.Repo.PushBlobFrom(ctx, layer, signed.Reader()); err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, _, err := ociartifact.BundleManifest(at.Desc, layer, signed.Statement.PredicateType, signed.unfinished.Made)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return at.Repo.Attach(ctx, at.Desc, manifest)
}

// describe is the descriptor of the bundle as a layer: one pass over it.
func (s *Signed) describe() (ocispec.Descriptor, error) {
	dgst, err := digest.SHA256.FromReader(s.Reader())
	return ocispec.Descriptor{MediaType: evidence.BundleMediaType, Digest: dgst, Size: s.Size()}, err
}

// Limits on what --recursive follows.
const (
	maxManifests  = 1000
	maxIndexDepth = 3
)

// Expand lists what is signed when everything in an image is: the target itself
// and, if it is an index, each manifest that it lists, once, in its order.
// BuildKit's attestation manifests are among them only when asked for.
func Expand(ctx context.Context, root Target, attestations bool) ([]Target, error) {
	x := expansion{seen: map[digest.Digest]bool{}, attestations: attestations}
	err := x.add(ctx, root, 0)
	return x.targets, err
}

type expansion struct {
	targets      []Target
	seen         map[digest.Digest]bool
	attestations bool
}

func (x *expansion) add(ctx context.Context, t Target, depth int) error {
	if x.seen[t.Desc.Digest] {
		return nil
	}
	x.seen[t.Desc.Digest] = true
	if x.targets = append(x.targets, t); len(x.targets) > maxManifests {
		return fmt.Errorf("%s: more than %d manifests in it", x.targets[0], maxManifests)
	}
	if t.Desc.MediaType != ocispec.MediaTypeImageIndex && t.Desc.MediaType != ociartifact.MediaTypeDockerList {
		return nil
	}
	if depth == maxIndexDepth {
		return fmt.Errorf("%s: indexes nested deeper than %d", x.targets[0], maxIndexDepth)
	}
	data, err := t.Repo.Manifest(ctx, t.Desc)
	if err != nil {
		return err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	for _, d := range m.Manifests {
		if !x.attestations && d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue
		}
		// Only what describes the manifest itself goes on: a referrer's subject
		// has no annotations or platform.
		child := Target{Repo: t.Repo, Desc: ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}}
		if err := x.add(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}
