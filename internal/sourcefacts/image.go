package sourcefacts

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// maxConfig is the largest image configuration that is read, bytes.
const maxConfig = 4 << 20

// image is what was found out about an image for one platform.
type image struct {
	mu  sync.Mutex
	ref registry.Ref

	repo     *registry.Repository
	root     ocispec.Descriptor
	index    *collect.Index      // nil until the root was looked into
	one      *ocispec.Descriptor // the image for the platform; the root itself when that is no index
	evidence []*gate.Evidence    // of the root and, below an index, of the image
	tried    []gate.Tried        // of all evidence, verified
}

func (r *Resolver) image(ctx context.Context, in *sourcepolicy.Image, asks []sourcepolicy.Ask, f *sourcepolicy.Facts) error {
	key := in.Ref + "|" + in.Platform
	r.mu.Lock()
	i := r.images[key]
	if i == nil {
		i = &image{}
		r.images[key] = i
	}
	r.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.resolve(ctx, r, in.Ref); err != nil {
		return err
	}
	f.Checksum = evidence.Digest(i.root.Digest)
	return each(asks, func(a sourcepolicy.Ask) (err error) {
		switch a.Fact {
		case sourcepolicy.ImageConfig:
			f.Config, err = i.config(ctx, in.Platform)
		case sourcepolicy.ImageAttested:
			f.Attested, err = i.attested(ctx, r, in.Platform)
		case sourcepolicy.ImageProvenance:
			f.Provenance, err = i.provenance(ctx, r, in.Platform)
		case sourcepolicy.ImageSignatures:
			f.Signatures, err = i.signatures(ctx, r, in.Platform, f)
		case sourcepolicy.ImageAttestations:
			f.Attestations, err = i.attestations(ctx, r, in.Platform)
		}
		return err
	})
}

// resolve asks the registry once what the name means.
func (i *image) resolve(ctx context.Context, r *Resolver, name string) error {
	if i.root.Digest != "" {
		return nil
	}
	ref, err := registry.ParseRef(name)
	if err != nil {
		return err
	}
	if i.repo, err = r.o.Registry.Open(ctx, ref); err != nil {
		return err
	}
	i.ref = ref
	i.root, err = i.repo.Resolve(ctx, ref)
	return err
}

// collect gathers what is attached to the root and to the image for the platform.
func (i *image) collect(ctx context.Context, r *Resolver, platform string) error {
	if i.evidence != nil {
		return nil
	}
	one, err := i.platform(ctx, platform)
	if err != nil {
		return err
	}
	o := r.o.Collect
	o.Attestations = true
	root, err := gate.Attached(ctx, i.repo, i.ref, i.root, o)
	if err != nil {
		return err
	}
	all := []*gate.Evidence{root}
	if one.Digest != i.root.Digest {
		own, err := gate.Attached(ctx, i.repo, i.ref.WithDigest(evidence.Digest(one.Digest)), one, o)
		if err != nil {
			return err
		}
		all = append(all, own)
	}
	v, err := r.verifier(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		_, tried := e.Verify(v, r.o.Now())
		i.tried = append(i.tried, tried...)
	}
	for _, t := range i.tried {
		if t.Item.Err != nil && unreachable(t.Item.Err) {
			i.tried = nil
			return t.Item.Err // it may be the very evidence that a policy asks for
		}
	}
	i.evidence = all
	return nil
}

// platform is the image for a platform.
func (i *image) platform(ctx context.Context, platform string) (ocispec.Descriptor, error) {
	if i.one != nil {
		return *i.one, nil
	}
	index, err := collect.ReadIndex(ctx, i.repo, i.root)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	one := i.root
	if index.Is {
		if one, err = index.Used(platform); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	i.index, i.one = index, &one
	return one, nil
}

// configuration is what we read of an image's configuration (OCI image-spec, config.md).
type configuration struct {
	Created *time.Time `json:"created"`
	Config  struct {
		User       string              `json:"User"`
		Env        []string            `json:"Env"`
		Volumes    map[string]struct{} `json:"Volumes"`
		WorkingDir string              `json:"WorkingDir"`
		Labels     map[string]string   `json:"Labels"`
	} `json:"config"`
}

func (i *image) config(ctx context.Context, platform string) (*sourcepolicy.ImageConfiguration, error) {
	one, err := i.platform(ctx, platform)
	if err != nil {
		return nil, err
	}
	data, err := i.repo.Manifest(ctx, one)
	if err != nil {
		return nil, err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return nil, err
	}
	if m.Config == nil {
		return nil, fmt.Errorf("%s has no configuration", i.repo.RefOf(one.Digest))
	}
	if data, err = i.repo.Blob(ctx, *m.Config, maxConfig); err != nil {
		return nil, err
	}
	return ParseConfiguration(data)
}

// ParseConfiguration reads an image's configuration, from wherever it is.
func ParseConfiguration(data []byte) (*sourcepolicy.ImageConfiguration, error) {
	var c configuration
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("the image's configuration cannot be read: %w", err)
	}
	out := &sourcepolicy.ImageConfiguration{
		Env: c.Config.Env, Labels: c.Config.Labels, User: c.Config.User, WorkingDir: c.Config.WorkingDir,
		Volumes: slices.Sorted(maps.Keys(c.Config.Volumes)),
	}
	if c.Created != nil {
		out.CreatedTime = c.Created.Format(time.RFC3339)
	}
	return out, nil
}

// builderManifests are the attestation manifests about the image, with whose verified
// signature covers them: one of the manifest itself, or else of the index that lists it.
// Nil is nobody's. One that cannot be read is an error: what it says may be what matters.
func (i *image) builderManifests() (items []collect.Item, by []*sourcepolicy.Signer, err error) {
	about := evidence.Digest(i.one.Digest)
	signed := map[evidence.Digest]*sourcepolicy.Signer{}
	var indexSigner *sourcepolicy.Signer
	for _, t := range i.tried {
		switch {
		case t.Covers != "":
			if signed[t.Covers] == nil {
				signed[t.Covers] = signerOf(t.Verified)
			}
		case t.Fact != nil && !t.Place.Attestation && t.Item.Subject == evidence.Digest(i.root.Digest):
			if indexSigner == nil && i.index.Is {
				indexSigner = signerOf(t.Verified)
			}
		}
	}
	seen := map[evidence.Digest]bool{}
	for _, t := range i.tried {
		it := t.Item
		if it.Format != collect.FormatBuildKit || it.About != string(about) || seen[it.Where.Digest] {
			continue
		}
		if it.Err != nil {
			err = fmt.Errorf("the attestation manifest %s: %w", it.Where.Ref, it.Err)
			continue
		}
		seen[it.Where.Digest] = true
		listed := slices.ContainsFunc(i.index.Attestations, func(e attestation.Entry) bool {
			return evidence.Digest(e.Manifest.Digest) == it.Where.Digest && e.About == about
		})
		signer := signed[it.Where.Digest]
		if signer == nil && listed {
			signer = indexSigner
		}
		items, by = append(items, it), append(by, signer)
	}
	return items, by, err
}

func (i *image) attested(ctx context.Context, r *Resolver, platform string) (*bool, error) {
	one, err := i.platform(ctx, platform)
	if err != nil {
		return nil, err
	}
	yes := true
	for _, e := range i.index.Attestations {
		if e.About == evidence.Digest(one.Digest) {
			return &yes, nil
		}
	}
	if err := i.collect(ctx, r, platform); err != nil {
		return nil, err
	}
	items, _, err := i.builderManifests()
	if err != nil {
		return nil, err
	}
	yes = len(items) > 0 || i.signedProvenance() != nil
	return &yes, nil
}

// signedProvenance is provenance that was signed as a statement of its own, nil
// without it.
func (i *image) signedProvenance() *sourcepolicy.ProvenanceFact {
	for _, want := range []string{sourcepolicy.PredicateSLSA1, sourcepolicy.PredicateSLSA02} {
		for _, t := range i.tried {
			if t.Fact != nil && t.Place.Attestation && t.Fact.PredicateType == want {
				return &sourcepolicy.ProvenanceFact{PredicateType: want, Predicate: t.Fact.Predicate, Verified: true, Signer: signerOf(t.Verified)}
			}
		}
	}
	return nil
}

// provenance prefers what a verified signature covers, and then version 1.
func (i *image) provenance(ctx context.Context, r *Resolver, platform string) (*sourcepolicy.ProvenanceFact, error) {
	if err := i.collect(ctx, r, platform); err != nil {
		return nil, err
	}
	items, by, err := i.builderManifests()
	if err != nil {
		return nil, err
	}
	for _, verified := range []bool{true, false} {
		for _, want := range []string{sourcepolicy.PredicateSLSA1, sourcepolicy.PredicateSLSA02} {
			for n, it := range items {
				if (by[n] != nil) != verified {
					continue
				}
				st, err := i.statement(ctx, it, want)
				if err != nil {
					return nil, err
				}
				if st != nil {
					return &sourcepolicy.ProvenanceFact{PredicateType: want, Predicate: st.Predicate, Verified: verified, Signer: by[n]}, nil
				}
			}
		}
		if p := i.signedProvenance(); verified && p != nil {
			return p, nil
		}
	}
	return &sourcepolicy.ProvenanceFact{}, nil
}

// statement reads the first statement of a type in an attestation manifest, which
// must be about the image; nil without one.
func (i *image) statement(ctx context.Context, it collect.Item, predicateType string) (*attestation.Statement, error) {
	for _, s := range it.Statements {
		if s.PredicateType == predicateType {
			return i.read(ctx, s, it.Where.Ref)
		}
	}
	return nil, nil
}

func (i *image) read(ctx context.Context, s collect.Statement, where string) (*attestation.Statement, error) {
	st, err := collect.ReadStatement(ctx, i.repo, s)
	if err != nil {
		return nil, err
	}
	if !st.IsAbout(evidence.Digest(i.one.Digest)) {
		return nil, fmt.Errorf("the statement %s of %s is about something else than %s", s.PredicateType, where, i.one.Digest)
	}
	return st, nil
}
