package collect

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// Media types by which formats are recognised.
const (
	typeBundlePrefix      = "application/vnd.dev.sigstore.bundle" // ".v0.3+json", "+json;version=0.1"
	typeNotary            = "application/vnd.cncf.notary.signature"
	typeNotaryJWS         = "application/jose+json"
	typeNotaryCOSE        = "application/cose"
	typeCosignSignature   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	typeCosignAttestation = "application/vnd.dev.cosign.artifact.att.v1+json"
)

// Notes of formats that are recognised and not verified.
const (
	noteBuildKit = "unsigned statements of the builder: listed, nothing to verify"
	noteSBOM     = "unsigned SBOM: listed, nothing to verify"
	noteOther    = "not a signature or attestation that is known: listed only"
)

// legacyTags are cosign's tags beside the image, sha256-<hex> and these suffixes.
func legacyTags() []struct{ suffix, format string } {
	return []struct{ suffix, format string }{
		{".sig", FormatCosignSignature}, {".att", FormatCosignAttestation}, {".sbom", FormatCosignSBOM},
	}
}

// parser turns a layer of one media type into a claim. This is the only list of
// formats: a format that is not here is listed and not verified.
type parser struct {
	format string
	what   string // "bundle": for messages
	limit  func(Options) int64
	// alone: the manifest must have no second layer of its kind.
	alone bool
	parse func(data []byte, layer ocispec.Descriptor) (*evidence.Claim, error)
}

// parserOf is the parser of a layer's media type, the zero parser for others.
func parserOf(mediaType string) parser {
	switch {
	case isBundle(mediaType):
		return parser{FormatBundle, "bundle", func(o Options) int64 { return o.MaxBundle }, true,
			func(data []byte, _ ocispec.Descriptor) (*evidence.Claim, error) { return bundle.Parse(data) }}
	case mediaType == simplesigning.PayloadMediaType:
		return parser{FormatCosignSignature, "payload", func(Options) int64 { return maxPayload }, false,
			func(data []byte, l ocispec.Descriptor) (*evidence.Claim, error) {
				return simplesigning.ParseSignature(data, l.Annotations)
			}}
	case mediaType == simplesigning.EnvelopeMediaType:
		return parser{FormatCosignAttestation, "envelope", func(o Options) int64 { return o.MaxBundle }, false,
			func(data []byte, l ocispec.Descriptor) (*evidence.Claim, error) {
				return simplesigning.ParseAttestation(data, l.Annotations)
			}}
	case mediaType == typeNotaryJWS, mediaType == typeNotaryCOSE:
		return parser{FormatNotary, "envelope", func(o Options) int64 { return o.MaxEnvelope }, true,
			func(data []byte, l ocispec.Descriptor) (*evidence.Claim, error) {
				return notary.Parse(l.MediaType, data)
			}}
	}
	return parser{}
}

// reading is a layer that is to be read into an item.
type reading struct {
	item  int // index of the item
	layer ocispec.Descriptor
	parser
}

// describe fills in what the manifest itself says.
func (it *Item) describe(m *ociartifact.Manifest) {
	it.ArtifactType = m.Artifact()
	it.Created = m.Created()
	it.PredicateType = m.Annotations[ociartifact.AnnotationPredicateType]
	it.Size = 0
	for _, l := range append(m.Layers, m.Blobs...) {
		it.Size += l.Size
	}
}

// recognise tells formats apart by the manifest's own artifact type and layers,
// whatever a listing said, and returns the layers that hold claims.
func (it *Item) recognise(m *ociartifact.Manifest) []reading {
	it.describe(m)
	layers := append(m.Layers, m.Blobs...)
	types := map[string]bool{m.ArtifactType: true, m.Artifact(): true}
	if m.Config != nil {
		types[m.Config.MediaType] = true
	}
	switch found := claims(layers); {
	case types[typeNotary]:
		it.Format = FormatNotary
		return it.notary(layers)
	case len(found) > 0 && found[0].format != FormatNotary:
		it.Format = found[0].format
		if found[0].alone && len(found) > 1 {
			it.Err = malformed("a bundle's manifest with %d bundles; there must be one", len(found))
			return nil
		}
		return found
	case isBundle(m.Artifact()):
		it.Format = FormatBundle
		it.Err = malformed("a bundle's manifest with 0 bundles; there must be one")
	case types[typeCosignSignature], types[typeCosignAttestation]:
		it.Format = FormatCosignSignature
		it.Err = malformed("a manifest of cosign's older format without a layer that is a signature or attestation")
	case attestation.Of(m) != nil:
		it.attestation(attestation.Of(m))
	default:
		it.Note = noteOther
	}
	return nil
}

// claims are the layers of the first format that is found, bundles first.
func claims(layers []ocispec.Descriptor) []reading {
	byFormat := map[string][]reading{}
	for _, l := range layers {
		if p := parserOf(l.MediaType); p.format != "" {
			byFormat[p.format] = append(byFormat[p.format], reading{layer: l, parser: p})
		}
	}
	for _, format := range []string{FormatBundle, FormatCosignSignature, FormatCosignAttestation, FormatNotary} {
		if found := byFormat[format]; len(found) > 0 {
			if other := byFormat[FormatCosignAttestation]; format == FormatCosignSignature {
				found = append(found, other...)
			}
			return found
		}
	}
	return nil
}

// notary wants exactly one layer, an envelope (notaryproject/specifications,
// specs/signature-specification.md, "Storage").
func (it *Item) notary(layers []ocispec.Descriptor) []reading {
	if len(layers) != 1 {
		it.Err = malformed("a Notary signature's manifest with %d layers; there must be one, the envelope", len(layers))
		return nil
	}
	p := parserOf(layers[0].MediaType)
	if p.format != FormatNotary {
		it.Err = malformed("a Notary signature whose envelope is of the type %q; %s and %s are known", clip(layers[0].MediaType), typeNotaryJWS, typeNotaryCOSE)
		return nil
	}
	return []reading{{layer: layers[0], parser: p}}
}

func isBundle(mediaType string) bool {
	rest, ok := strings.CutPrefix(mediaType, typeBundlePrefix)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '+')
}

// attestation fills in what an attestation manifest holds.
func (it *Item) attestation(m *attestation.Manifest) {
	it.Format, it.Note = FormatBuildKit, noteBuildKit
	if m.About != "" {
		it.About = string(m.About)
	}
	for _, l := range m.Layers {
		it.Statements = append(it.Statements, Statement{PredicateType: l.PredicateType, Layer: l.Descriptor})
	}
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
