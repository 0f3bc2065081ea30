// Package ociartifact writes and reads the OCI manifests that carry evidence:
// the manifest of a Sigstore bundle attached as a referrer, byte for byte in the
// layout that cosign v3 pushes, and the few fields of any manifest by which an
// artifact says what it is.
//
// Nothing here is trusted: whoever may push to the repository wrote these bytes.
package ociartifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// EmptyConfig is the content of the empty config blob (OCI image-spec, manifest.md,
// "Guidance for an Empty Descriptor").
const EmptyConfig = "{}"

// Annotations of a bundle's manifest, as cosign v3 writes them.
const (
	AnnotationContent       = "dev.sigstore.bundle.content" // "dsse-envelope" or "message-signature"
	AnnotationPredicateType = "dev.sigstore.bundle.predicateType"
	AnnotationCreated       = ocispec.AnnotationCreated

	ContentEnvelope = "dsse-envelope"
)

// MaxManifest is the largest manifest that is read or written: 4 MiB, the
// least that the distribution specification asks registries to accept.
const MaxManifest = 4 << 20

// maxDepth is how deeply a manifest may be nested.
const maxDepth = 32

// EmptyConfigDescriptor describes [EmptyConfig], without inline data.
func EmptyConfigDescriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeEmptyJSON,
		Digest:    digest.Digest(evidence.SHA256([]byte(EmptyConfig))),
		Size:      int64(len(EmptyConfig)),
	}
}

// bundleManifest is the member order that cosign v3.1.3 writes. The config's
// artifactType is what makes registries that derive the artifact type from the
// config answer something useful.
type bundleManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
	Subject       descriptor        `json:"subject"`
	ArtifactType  string            `json:"artifactType"`
}

type descriptor struct {
	MediaType    string `json:"mediaType"`
	Size         int64  `json:"size"`
	Digest       string `json:"digest"`
	ArtifactType string `json:"artifactType,omitempty"`
}

func short(d ocispec.Descriptor) descriptor {
	return descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest.String()}
}

// BundleManifest is the manifest that attaches a Sigstore bundle with a DSSE
// envelope to subject, and its own descriptor (with artifact type and
// annotations, as a referrers list shows it). layer describes the bundle's blob,
// predicateType is that of the statement in it, created has a resolution of one second.
func BundleManifest(subject, layer ocispec.Descriptor, predicateType string, created time.Time) (manifest []byte, desc ocispec.Descriptor, err error) {
	for what, d := range map[string]ocispec.Descriptor{"subject": subject, "layer": layer} {
		if err := checkDescriptor(d); err != nil {
			return nil, ocispec.Descriptor{}, fmt.Errorf("bundle manifest: %s: %w", what, err)
		}
	}
	if predicateType == "" || created.IsZero() {
		return nil, ocispec.Descriptor{}, errors.New("bundle manifest: predicate type and time are required")
	}
	config := short(EmptyConfigDescriptor())
	config.ArtifactType = layer.MediaType
	m := bundleManifest{
		SchemaVersion: 2,
		MediaType:     ocispec.MediaTypeImageManifest,
		Config:        config,
		Layers:        []descriptor{short(layer)},
		Annotations: map[string]string{
			AnnotationContent:       ContentEnvelope,
			AnnotationPredicateType: predicateType,
			AnnotationCreated:       created.UTC().Format(time.RFC3339),
		},
		Subject:      short(subject),
		ArtifactType: layer.MediaType,
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	manifest = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(manifest) > MaxManifest {
		return nil, ocispec.Descriptor{}, fmt.Errorf("bundle manifest: %d bytes, at most %d are allowed", len(manifest), MaxManifest)
	}
	desc = ocispec.Descriptor{
		MediaType:    m.MediaType,
		Digest:       digest.Digest(evidence.SHA256(manifest)),
		Size:         int64(len(manifest)),
		ArtifactType: m.ArtifactType,
		Annotations:  m.Annotations,
	}
	return manifest, desc, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if _, err := evidence.ParseDigest(d.Digest.String()); err != nil {
		return err
	}
	if d.MediaType == "" || d.Size <= 0 {
		return errors.New("descriptor needs a media type and a size")
	}
	return nil
}

// Manifest is what is read of an image manifest or index, whoever wrote it.
// Members that are not named here are ignored: they decide nothing.
type Manifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Blobs         []ocispec.Descriptor `json:"blobs"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// Parse reads a manifest or index of at most [MaxManifest] bytes. It refuses
// what is not one JSON object without duplicate members and with schemaVersion 2
// (or none, as in artifact manifests), manifests that are an image and an index at once (CVE-2021-41190),
// and descriptors without a canonical digest or with a negative size.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("manifest: %d bytes, at most %d are read", len(data), MaxManifest)
	}
	if err := strictjson.Valid(data, maxDepth); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest: not a JSON object of the expected shape: %w", err)
	}
	if m.SchemaVersion != 2 && !(m.SchemaVersion == 0 && m.MediaType == mediaTypeArtifact) {
		return nil, fmt.Errorf("manifest: schemaVersion %d is not read", m.SchemaVersion)
	}
	if m.Manifests != nil && (m.Config != nil || m.Layers != nil) {
		return nil, errors.New("manifest: it claims to be an image and an index at once")
	}
	switch m.MediaType {
	case ocispec.MediaTypeImageIndex, MediaTypeDockerList:
		if m.Config != nil || m.Layers != nil {
			return nil, fmt.Errorf("manifest: its members do not fit its media type %q", m.MediaType)
		}
	case ocispec.MediaTypeImageManifest, MediaTypeDockerManifest, mediaTypeArtifact:
		if m.Manifests != nil {
			return nil, fmt.Errorf("manifest: its members do not fit its media type %q", m.MediaType)
		}
	}
	return &m, m.checkDescriptors()
}

func (m *Manifest) checkDescriptors() error {
	check := func(what string, ds ...ocispec.Descriptor) error {
		for _, d := range ds {
			if _, err := evidence.ParseDigest(d.Digest.String()); err != nil {
				return fmt.Errorf("manifest: %s: %w", what, err)
			}
			if d.Size < 0 {
				return fmt.Errorf("manifest: %s: size %d", what, d.Size)
			}
		}
		return nil
	}
	if m.Config != nil {
		if err := check("config", *m.Config); err != nil {
			return err
		}
	}
	if m.Subject != nil {
		if err := check("subject", *m.Subject); err != nil {
			return err
		}
	}
	return errors.Join(check("layers", m.Layers...), check("blobs", m.Blobs...), check("manifests", m.Manifests...))
}

// Media types that are met beside OCI's own.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeArtifact       = "application/vnd.oci.artifact.manifest.v1+json"
)

// IsIndex reports whether the manifest lists other manifests.
func (m *Manifest) IsIndex() bool {
	return m.Manifests != nil || m.MediaType == ocispec.MediaTypeImageIndex || m.MediaType == MediaTypeDockerList
}

// Artifact is the manifest's artifact type as the referrers API defines it:
// artifactType, else the config's media type (distribution-spec, "Listing Referrers").
func (m *Manifest) Artifact() string {
	if m.ArtifactType != "" {
		return m.ArtifactType
	}
	if m.Config != nil {
		return m.Config.MediaType
	}
	return ""
}

// Created is the manifest's creation time as its author annotated it, the zero
// time when absent or unreadable.
func (m *Manifest) Created() time.Time {
	t, err := time.Parse(time.RFC3339, m.Annotations[AnnotationCreated])
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
