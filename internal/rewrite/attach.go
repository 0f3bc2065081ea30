package rewrite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Image is an image whose attachments are converted.
type Image struct {
	Repo    *registry.Repository
	Desc    ocispec.Descriptor
	Options collect.Options // where cosign's older tags are
}

// Convert converts everything that is attached to an image; attach attaches each
// bundle beside what it was made of, and takes nothing away. Outcomes are in the
// order in which things were found. An error means that nothing could be listed.
func (r *Rewriter) Convert(ctx context.Context, image Image, attach bool) ([]Outcome, error) {
	image.Options.LegacyTags = true
	items, err := collect.Image(ctx, image.Repo, image.Desc, image.Options)
	if err != nil {
		return nil, err
	}
	artifact := verify.Image(evidence.Digest(image.Desc.Digest))
	var outcomes []Outcome
	known := append([]collect.Item(nil), items...) // with what is made here
	for _, it := range items {
		out := r.Item(ctx, it, known, artifact)
		if out.Status == Converted {
			made := collect.Item{Claim: out.Result.Claim, Format: string(out.Result.Format), Subject: it.Subject}
			if attach {
				if made.Where, err = image.attach(ctx, &out); err != nil {
					out.Status, out.Result, out.Err = Failed, nil, err
				}
			}
			if out.Status == Converted {
				out.As = made
				known = append(known, made)
			}
		}
		outcomes = append(outcomes, out)
	}
	return outcomes, ctx.Err()
}

// repository is where an item was found: the image's, or that of the signatures.
func (i *Image) repository(it collect.Item) *registry.Repository {
	if other := i.Options.SignatureRepository; other != nil && strings.HasPrefix(it.Where.Ref, other.Ref().Name()+"@") {
		return other
	}
	return i.Repo
}

// attach pushes a bundle and its manifest, as cosign v3 lays them out.
func (i *Image) attach(ctx context.Context, out *Outcome) (evidence.Location, error) {
	var none evidence.Location
	envelope := out.Result.Claim.Envelope
	if envelope == nil {
		return none, errors.New("a signature over plain bytes is not attached to images: write it to a file with --output")
	}
	statement, err := bundle.ParseStatement(envelope.Payload)
	if err != nil {
		return none, fmt.Errorf("the statement in it cannot be read, so that nobody would find it: %w", err)
	}
	repo := i.repository(out.Item)
	if _, err := repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		return none, err
	}
	layer, err := repo.PushBlob(ctx, out.Result.MediaType, out.Result.Bundle)
	if err != nil {
		return none, err
	}
	manifest, desc, err := ociartifact.BundleManifest(i.Desc, layer, statement.PredicateType, time.Now())
	if err != nil {
		return none, err
	}
	if _, err := repo.Attach(ctx, i.Desc, manifest); err != nil {
		return none, err
	}
	return evidence.Location{How: registry.HowAPI, Ref: repo.RefOf(desc.Digest), Digest: evidence.Digest(desc.Digest), Size: desc.Size}, nil
}

// claimed is the artifact that a claim says it is about, for claims in files whose
// artifact is not at hand: the first subject of its statement, or the digest that
// comes with its signature.
func claimed(c *evidence.Claim) verify.Artifact {
	switch {
	case c.Envelope != nil:
		st, err := bundle.ParseStatement(c.Envelope.Payload)
		if err != nil {
			return verify.Artifact{}
		}
		for _, s := range st.Subject {
			for _, algorithm := range []string{"sha256", "sha512", "sha384"} {
				if d, err := evidence.ParseDigest(algorithm + ":" + s.Digest[algorithm]); err == nil {
					return verify.Image(d)
				}
			}
		}
	case c.Message != nil:
		names := map[string]string{"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
		if d, err := evidence.ParseDigest(fmt.Sprintf("%s:%x", names[c.Message.DigestAlgorithm], c.Message.Digest)); err == nil {
			return verify.Image(d)
		}
	}
	return verify.Artifact{}
}
