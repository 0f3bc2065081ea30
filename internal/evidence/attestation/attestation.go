// Package attestation reads what BuildKit and buildx attach to images: manifests
// of in-toto statements about an image (moby/buildkit,
// docs/attestations/attestation-storage.md), and names statements and signatures
// as buildx names them.
//
// The statements carry no signature of their own. They are what somebody with
// push rights wrote, unless a verified signature covers the attestation manifest
// or an index that lists it; deciding that is for the gate.
package attestation

import (
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// Media types and annotations.
const (
	ArtifactType       = "application/vnd.docker.attestation.manifest.v1+json"
	StatementMediaType = "application/vnd.in-toto+json"

	AnnotationPredicate = "in-toto.io/predicate-type"   // on layers
	AnnotationAbout     = "vnd.docker.reference.digest" // on an index's entries: the image
	annotationType      = "vnd.docker.reference.type"   // on an index's entries
	typeManifest        = "attestation-manifest"
	unknown             = "unknown" // OS and architecture of an entry that is no image
)

// Entry is an attestation manifest as an index lists it.
type Entry struct {
	Manifest ocispec.Descriptor // media type, digest and size
	About    evidence.Digest    // the image that the index says it is about
}

// IsEntry reports whether an index's entry is an attestation manifest: one that says
// so and that no runtime takes for an image, because its platform is unknown/unknown,
// as BuildKit writes it. Runtimes choose by platform and do not read the annotation,
// so with another platform, or none, it is an image under a false name.
func IsEntry(d ocispec.Descriptor) bool {
	p := d.Platform
	return d.Annotations[annotationType] == typeManifest && p != nil && p.OS == unknown && p.Architecture == unknown
}

// Listed are the attestation manifests of an index, in its order. Entries that do
// not name an image of the same index are left out: they are about nothing here.
func Listed(index *ociartifact.Manifest) []Entry {
	images := map[string]bool{}
	for _, d := range index.Manifests {
		if !IsEntry(d) {
			images[d.Digest.String()] = true
		}
	}
	var out []Entry
	for _, d := range index.Manifests {
		if about := d.Annotations[AnnotationAbout]; IsEntry(d) && images[about] {
			out = append(out, Entry{ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, evidence.Digest(about)})
		}
	}
	return out
}

// Manifest is what an attestation manifest says about itself.
type Manifest struct {
	About  evidence.Digest // its subject; "" in the older form, where only the index says it
	Layers []Layer         // its statements
}

// Layer is a statement by the layer that holds it.
type Layer struct {
	PredicateType string // as annotated
	ocispec.Descriptor
}

// Of reads an attestation manifest of either form: an artifact with the type
// [ArtifactType] and a subject, or an image manifest that has layers with
// statements. It is nil for any other manifest.
func Of(m *ociartifact.Manifest) *Manifest {
	out := &Manifest{}
	for _, l := range m.Layers {
		if l.MediaType == StatementMediaType {
			out.Layers = append(out.Layers, Layer{l.Annotations[AnnotationPredicate], l})
		}
	}
	if m.IsIndex() || len(out.Layers) == 0 && m.Artifact() != ArtifactType {
		return nil
	}
	if m.Subject != nil {
		out.About = evidence.Digest(m.Subject.Digest)
	}
	return out
}

// Statement is an unsigned in-toto statement.
type Statement struct {
	*evidence.Statement
	Kind string // [KindProvenance], [KindSBOM] or ""
	Raw  []byte // as it lies in the registry
}

// ParseStatement reads a statement whose layer says it is of predicateType; ""
// when it says nothing. What the layer says, the statement must say too.
func ParseStatement(data []byte, predicateType string) (*Statement, error) {
	st, err := bundle.ParseStatement(data)
	if err != nil {
		return nil, err
	}
	if predicateType != "" && st.PredicateType != predicateType {
		return nil, fmt.Errorf("statement: it is of the type %q, its layer says %q", clip(st.PredicateType), clip(predicateType))
	}
	return &Statement{Statement: st, Kind: KindOf(st.PredicateType), Raw: data}, nil
}

// IsAbout reports whether one of the statement's subjects has the digest.
func (s *Statement) IsAbout(d evidence.Digest) bool {
	for _, subject := range s.Subject {
		if subject.Digest[d.Algorithm()] == d.Hex() && d.Hex() != "" {
			return true
		}
	}
	return false
}

// Kinds of statements, as buildx names them (--attest type=…).
const (
	KindProvenance = "provenance"
	KindSBOM       = "sbom"
)

// KindOf is the kind of a predicate type, "" for one that buildx does not name.
func KindOf(predicateType string) string {
	switch predicateType {
	case evidence.PredicateSLSA1, evidence.PredicateSLSA02:
		return KindProvenance
	case evidence.PredicateSPDX:
		return KindSBOM
	}
	return ""
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
