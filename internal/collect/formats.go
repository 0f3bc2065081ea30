package collect

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// Media types by which formats are recognised.
const (
	typeBundlePrefix    = "application/vnd.dev.sigstore.bundle" // ".v0.3+json", "+json;version=0.1"
	typeNotary          = "application/vnd.cncf.notary.signature"
	typeNotaryJWS       = "application/jose+json"
	typeNotaryCOSE      = "application/cose"
	typeSimpleSigning   = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeCosignSignature = "application/vnd.dev.cosign.artifact.sig.v1+json"
	typeDSSE            = "application/vnd.dsse.envelope.v1+json"
	typeBuildKit        = "application/vnd.docker.attestation.manifest.v1+json"
	typeInToto          = "application/vnd.in-toto+json"

	annotationPredicate = "in-toto.io/predicate-type"   // BuildKit, on layers
	annotationRefType   = "vnd.docker.reference.type"   // BuildKit, on an index's entries
	annotationRefDigest = "vnd.docker.reference.digest" // the image that an attestation manifest is about
	refTypeAttestation  = "attestation-manifest"
)

// Notes of formats that are recognised and not verified.
const (
	noteCosign   = "stored in cosign's older format: listed, not verified"
	noteNotary   = "Notary Project signature: listed, not verified"
	noteBuildKit = "unsigned statements of the builder: listed, nothing to verify"
	noteOther    = "not a signature or attestation that is known: listed only"
)

// legacyTags are cosign's tags beside the image, sha256-<hex> and these suffixes.
var legacyTags = []struct{ suffix, format, note string }{
	{".sig", FormatCosignSignature, noteCosign},
	{".att", FormatCosignAttestation, noteCosign},
	{".sbom", FormatCosignSBOM, "unsigned SBOM: listed, nothing to verify"},
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
// whatever a listing said, and returns the layer of a bundle that is to be read.
func (it *Item) recognise(m *ociartifact.Manifest) (bundle ocispec.Descriptor) {
	it.describe(m)
	layers := append(m.Layers, m.Blobs...)
	has := func(mediaTypes ...string) bool {
		for _, want := range mediaTypes {
			if m.Artifact() == want {
				return true
			}
			for _, l := range layers {
				if l.MediaType == want {
					return true
				}
			}
		}
		return false
	}
	var bundles []ocispec.Descriptor
	for _, l := range layers {
		if isBundle(l.MediaType) {
			bundles = append(bundles, l)
		}
	}
	switch {
	case len(bundles) == 1:
		it.Format = FormatBundle
		return bundles[0]
	case len(bundles) > 1 || isBundle(m.Artifact()):
		it.Format = FormatBundle
		it.Err = malformed("a bundle's manifest with %d bundles; there must be one", len(bundles))
	case has(typeNotary, typeNotaryJWS, typeNotaryCOSE):
		it.Format, it.Note = FormatNotary, noteNotary
	case has(typeSimpleSigning, typeCosignSignature):
		it.Format, it.Note = FormatCosignSignature, noteCosign
	case has(typeDSSE):
		it.Format, it.Note = FormatCosignAttestation, noteCosign
	case has(typeBuildKit, typeInToto):
		it.Format, it.Note = FormatBuildKit, noteBuildKit
		it.Statements = statements(layers)
	default:
		it.Note = noteOther
	}
	return ocispec.Descriptor{}
}

func isBundle(mediaType string) bool {
	rest, ok := strings.CutPrefix(mediaType, typeBundlePrefix)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '+')
}

// statements are the in-toto layers of an attestation manifest.
func statements(layers []ocispec.Descriptor) []Statement {
	var list []Statement
	for _, l := range layers {
		if l.MediaType == typeInToto {
			list = append(list, Statement{PredicateType: l.Annotations[annotationPredicate], Layer: l})
		}
	}
	return list
}
