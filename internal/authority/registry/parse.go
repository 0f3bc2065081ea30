package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// The manifest types that are stored (image-spec manifest.md and image-index.md,
// and Docker's image manifest version 2, schema 2).
const (
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// descriptor is image-spec descriptor.md, as far as a registry needs it.
type descriptor struct {
	MediaType string
	Digest    evidence.Digest
	Size      int64
	Foreign   bool // it has urls: the content may be elsewhere
}

// parsedManifest is what a registry must know of a manifest.
type parsedManifest struct {
	MediaType    string
	ArtifactType string // as the referrers API reports it, perhaps empty
	Annotations  map[string]string
	Subject      *descriptor
	Blobs        []descriptor // config and layers
	Manifests    []descriptor
}

const maxDescriptors = 20_000

// parseManifest reads a manifest that was pushed as contentType, or, with an
// empty contentType, one that was stored. Member names are matched exactly and
// may not repeat, so that what we index is what every other reader sees.
func parseManifest(data []byte, contentType string) (*parsedManifest, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	top, err := object(data)
	if err != nil {
		return nil, err
	}
	var version int
	if err := field(top, "schemaVersion", &version); err != nil || version != 2 {
		return nil, errors.New("schemaVersion must be 2")
	}
	m := &parsedManifest{}
	if err := m.readType(top, contentType); err != nil {
		return nil, err
	}
	if err := errors.Join(field(top, "artifactType", &m.ArtifactType), field(top, "annotations", &m.Annotations)); err != nil {
		return nil, err
	}
	if raw, ok := top["subject"]; ok {
		d, err := parseDescriptor(raw)
		if err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
		m.Subject = &d
	}
	if m.isIndex() {
		m.Manifests, err = descriptors(top, "manifests")
		return m, err
	}
	config, err := parseDescriptor(top["config"])
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	// spec.md, "Listing Referrers": the manifest's artifactType, else the config's type.
	if m.ArtifactType == "" {
		m.ArtifactType = config.MediaType
	}
	layers, err := descriptors(top, "layers")
	m.Blobs = append([]descriptor{config}, layers...)
	return m, err
}

func (m *parsedManifest) isIndex() bool {
	return m.MediaType == typeOCIIndex || m.MediaType == typeDockerList
}

// readType settles the manifest's type. A document that can be read as a
// manifest and as an index is refused: two readers would see two images.
func (m *parsedManifest) readType(top map[string]json.RawMessage, contentType string) error {
	if err := field(top, "mediaType", &m.MediaType); err != nil {
		return err
	}
	_, config := top["config"]
	_, layers := top["layers"]
	_, manifests := top["manifests"]
	_, fsLayers := top["fsLayers"]
	index := manifests
	if index == (config || layers) || fsLayers {
		return errors.New("it must have either config and layers or manifests")
	}
	if m.MediaType == "" { // OCI lets it be absent, Docker does not
		m.MediaType = typeOCIManifest
		if index {
			m.MediaType = typeOCIIndex
		}
	}
	switch m.MediaType {
	case typeOCIManifest, typeDockerManifest, typeOCIIndex, typeDockerList:
	default:
		return errors.New("its mediaType is not one that this registry stores")
	}
	if index != m.isIndex() {
		return errors.New("its content is not that of its mediaType")
	}
	if contentType != "" && contentType != m.MediaType {
		return errors.New("its mediaType is not the Content-Type of the request")
	}
	return nil
}

// object reads a JSON object and nothing behind it.
func object(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("it is not well-formed JSON")
		}
		name, _ := t.(string)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("member %q appears twice", name)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errors.New("it is not well-formed JSON")
		}
		members[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("it is not well-formed JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

// field decodes an optional member.
func field(members map[string]json.RawMessage, name string, v any) error {
	raw, ok := members[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s has the wrong type", name)
	}
	return nil
}

func descriptors(members map[string]json.RawMessage, name string) ([]descriptor, error) {
	raw, ok := members[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing", name)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s is not a list", name)
	}
	if len(list) > maxDescriptors {
		return nil, fmt.Errorf("%s has more than %d entries", name, maxDescriptors)
	}
	out := make([]descriptor, 0, len(list))
	for i, raw := range list {
		d, err := parseDescriptor(raw)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func parseDescriptor(raw json.RawMessage) (descriptor, error) {
	members, err := object(raw)
	if err != nil {
		return descriptor{}, errors.New("it is not a descriptor")
	}
	var d descriptor
	var digest string
	d.Size = -1
	if err := errors.Join(field(members, "mediaType", &d.MediaType), field(members, "digest", &digest),
		field(members, "size", &d.Size)); err != nil {
		return descriptor{}, err
	}
	if d.Digest, err = parseDigest(digest); err != nil {
		return descriptor{}, errors.New("its digest is not a sha256 or sha512 digest")
	}
	if d.Size < 0 {
		return descriptor{}, errors.New("its size is missing or negative")
	}
	var urls []string
	if err := field(members, "urls", &urls); err != nil {
		return descriptor{}, err
	}
	d.Foreign = len(urls) > 0
	return d, nil
}
