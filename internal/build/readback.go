package build

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Annotations of BuildKit's attestation manifests (docs/attestations/attestation-storage.md).
const (
	annotationRefType   = "vnd.docker.reference.type"
	annotationRefDigest = "vnd.docker.reference.digest"
	annotationPredicate = "in-toto.io/predicate-type"
	attestationType     = "attestation-manifest"
)

// maxProvenance bounds a provenance statement.
const maxProvenance = 64 << 20

// Again reads back the same image from another repository that it was pushed to; one that
// was put together of pieces is put together there, too.
func Again(ctx context.Context, r Request, res *Result) (*Result, error) {
	if len(res.pieces) > 0 {
		return Merge(ctx, r, res.pieces)
	}
	return readBack(ctx, r, res.Index.Digest.String())
}

// readBack reads from the registry what the daemon says it pushed, and checks
// that it is an index in which every image has a provenance of this build.
func readBack(ctx context.Context, r Request, pushed string) (*Result, error) {
	d, err := evidence.ParseDigest(pushed)
	if err != nil {
		return nil, fmt.Errorf("BuildKit did not say what it pushed: %w", err)
	}
	res := &Result{}
	res.Index, err = r.Repo.Resolve(ctx, r.Image.WithDigest(d))
	if err == nil {
		res.IndexBytes, err = r.Repo.Manifest(ctx, res.Index)
	}
	if err != nil {
		return nil, &asked{fmt.Errorf("reading back what was pushed: %w", err)}
	}
	var index ocispec.Index
	if err := json.Unmarshal(res.IndexBytes, &index); err != nil || res.Index.MediaType != ocispec.MediaTypeImageIndex {
		return nil, fmt.Errorf("reading back %s: it is a %s, not an OCI index with provenance", d.Short(), res.Index.MediaType)
	}
	for _, m := range index.Manifests {
		if m.Annotations[annotationRefType] == attestationType {
			res.Attestations = append(res.Attestations, m)
		} else {
			res.Images = append(res.Images, m)
		}
	}
	if len(res.Images) == 0 || len(res.Images) != len(res.Attestations) {
		return nil, fmt.Errorf("reading back %s: %d images with %d attestation manifests", d.Short(), len(res.Images), len(res.Attestations))
	}
	about := map[string]bool{}
	for _, m := range res.Images {
		if m.Platform == nil {
			return nil, fmt.Errorf("reading back %s: %s does not say for which platform it is", d.Short(), m.Digest)
		}
		about[m.Digest.String()] = true
	}
	for _, a := range res.Attestations {
		// Each image once: two provenances of one would leave another without.
		image := a.Annotations[annotationRefDigest]
		if !about[image] {
			return nil, fmt.Errorf("reading back %s: attestation manifest %s is about %q, which is not in the index or has one already", d.Short(), a.Digest, image)
		}
		delete(about, image)
		if err := checkProvenance(ctx, r, a); err != nil {
			return nil, fmt.Errorf("reading back the provenance of %s: %w", d.Short(), err)
		}
	}
	return res, nil
}

// checkProvenance checks one attestation manifest: it holds one SLSA provenance
// v1, which names the image, our builder and our commit. What a frontend or a
// step adds under another predicate type is not ours to judge, a second
// provenance is: nobody could tell which of them we meant by signing both.
func checkProvenance(ctx context.Context, r Request, a ocispec.Descriptor) error {
	raw, err := r.Repo.Manifest(ctx, a)
	if err != nil {
		return &asked{err}
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	found, boms := 0, 0
	for _, l := range m.Layers {
		statement, err := r.Repo.Blob(ctx, l, maxProvenance)
		if err != nil {
			return &asked{err}
		}
		var s evidence.Statement
		if err := json.Unmarshal(statement, &s); err != nil {
			return fmt.Errorf("layer %s of %s: %w", l.Digest, a.Digest, err)
		}
		if said := l.Annotations[annotationPredicate]; said != s.PredicateType {
			return fmt.Errorf("layer %s of %s is annotated as %q and is a %q", l.Digest, a.Digest, said, s.PredicateType)
		}
		switch s.PredicateType {
		case evidence.PredicateSPDX, evidence.PredicateCycloneDX:
			boms++
			continue
		case evidence.PredicateSLSA1:
		default:
			continue
		}
		found++
		if err := r.checkStatement(s, a.Annotations[annotationRefDigest]); err != nil {
			return err
		}
	}
	if r.Trusted != nil && r.Trusted.Scanner != "" && boms == 0 {
		return fmt.Errorf("%s holds no SBOM by %s", a.Digest, r.Trusted.Scanner)
	}
	if found != 1 {
		return fmt.Errorf("%s holds %d statements of %s, want one", a.Digest, found, evidence.PredicateSLSA1)
	}
	return nil
}

// provenance is the part of SLSA provenance v1 as BuildKit writes it that is checked.
type provenance struct {
	BuildDefinition struct {
		ExternalParameters struct {
			ConfigSource struct {
				URI    string            `json:"uri"`
				Digest map[string]string `json:"digest"`
			} `json:"configSource"`
			Request struct {
				Args map[string]string `json:"args"`
			} `json:"request"`
		} `json:"externalParameters"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Metadata struct {
			BuildKit struct {
				VCS map[string]string `json:"vcs"`
			} `json:"buildkit_metadata"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

func (r Request) checkStatement(s evidence.Statement, about string) error {
	var p provenance
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		return err
	}
	_, hexa, _ := strings.Cut(about, ":")
	if !slices.ContainsFunc(s.Subject, func(x evidence.StatementSubject) bool { return x.Digest["sha256"] == hexa }) {
		return fmt.Errorf("it is not about %s", about)
	}
	if got := p.RunDetails.Builder.ID; got != r.BuilderID() {
		return fmt.Errorf("it names builder %q, not %q", got, r.BuilderID())
	}
	if got := p.RunDetails.Metadata.BuildKit.VCS["revision"]; got != r.Context.Commit {
		return fmt.Errorf("it names commit %q, not %q", got, r.Context.Commit)
	}
	if got := p.RunDetails.Metadata.BuildKit.VCS["localdir:context"]; got != r.Options.Dir {
		return fmt.Errorf("it names the folder %q of the commit, not %q", got, r.Options.Dir)
	}
	policies := r.Sources.record()
	if r.policies != nil {
		policies = *r.policies
	}
	if got := p.BuildDefinition.ExternalParameters.Request.Args[policiesAttr]; r.Sources != nil && got != policies {
		return fmt.Errorf("it names the source policies %q, not %q", got, policies)
	}
	if err := r.checkTrusted(s.Predicate); err != nil {
		return err
	}
	if r.Context.GitURL == "" {
		return nil
	}
	for _, id := range p.BuildDefinition.ExternalParameters.ConfigSource.Digest {
		if id == r.Context.Commit {
			return nil
		}
	}
	return fmt.Errorf("its configSource %q is not commit %s", p.BuildDefinition.ExternalParameters.ConfigSource.URI, r.Context.Commit)
}
