package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Piece is an image that another machine built for this build and pushed to its
// repositories, with its attestation manifest in an index of its own.
type Piece struct {
	Name     string // in reasons
	Platform string
	Index    evidence.Digest
	Facts    trusted.Facts // what its provenance must say
	Policies string        // and which source policies it must name, as [SourcePolicies.Record] does
}

// Record is the policies as provenance names them, with what they have read by now; "" when
// nothing is judged.
func (p *SourcePolicies) Record() string { return p.record() }

// asked marks what the registry answered, or did not; all other errors of reading back are
// about what is there.
type asked struct{ error }

func (e *asked) Unwrap() error { return e.error }

// Merge writes the index of all pieces as one daemon that built all of them would have
// written it: the images in the order of the pieces, then their attestation manifests,
// under the annotations of the index. It has no tag. What the registry has not, or has
// otherwise than a piece says, is a *[trusted.Denied], and nothing is written.
func Merge(ctx context.Context, r Request, pieces []*Piece) (*Result, error) {
	res := &Result{pieces: pieces}
	for _, p := range pieces {
		one, err := r.piece(ctx, p)
		if err != nil {
			return nil, p.refuse(err)
		}
		res.Images, res.Attestations = append(res.Images, one.Images...), append(res.Attestations, one.Attestations...)
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: r.indexAnnotations(),
		Manifests: append(append([]ocispec.Descriptor{}, res.Images...), res.Attestations...)}
	var err error
	if res.IndexBytes, err = json.MarshalIndent(index, "", "  "); err != nil {
		return nil, err
	}
	res.Index = registry.Describe(index.MediaType, res.IndexBytes)
	return res, r.Repo.PushManifest(ctx, res.Index, res.IndexBytes, "")
}

// refuse makes a denial of what is wrong with a piece, unless nobody knows.
func (p *Piece) refuse(err error) error {
	code := part.CodeImage
	var no *asked
	switch {
	case errors.As(err, &no) && !errors.Is(err, registry.ErrNotFound):
		return fmt.Errorf("part %s: %w", p.Name, err)
	case errors.Is(err, errPlatform):
		code = part.CodePlatform
	}
	return &trusted.Denied{Reasons: []policy.Reason{part.Reason(code, p.Name, err.Error())}}
}

var errPlatform = errors.New("its image is for another platform")

// piece reads a piece back from the registry and checks that it is one image, for its
// platform, in an index that is no more than that, with a provenance of this build.
func (r Request) piece(ctx context.Context, p *Piece) (*Result, error) {
	r.policies = &p.Policies
	if r.Trusted != nil {
		t := *r.Trusted
		t.Facts, r.Trusted = p.Facts, &t
	}
	res, err := readBack(ctx, r, string(p.Index))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(res.IndexBytes, &index); err != nil {
		return nil, err
	}
	switch {
	case len(res.Images) != 1:
		return nil, fmt.Errorf("it has %d images", len(res.Images))
	case part.NameOf(*res.Images[0].Platform) != p.Platform:
		return nil, fmt.Errorf("%w: %s, and the part is for %s", errPlatform, part.NameOf(*res.Images[0].Platform), p.Platform)
	case !maps.Equal(index.Annotations, r.indexAnnotations()):
		return nil, errors.New("its index has other annotations than were asked for")
	}
	return res, nil
}

// indexAnnotations are those that were asked for of the index, nil when there are none.
func (r Request) indexAnnotations() map[string]string {
	var out map[string]string
	for name, value := range r.Options.Annotations {
		levels, key, _ := annotationLevels(name) // which Check has seen
		if slices.Contains(levels, "index") {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}
