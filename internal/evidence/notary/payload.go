package notary

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Payload is what a Notary Project signature is about: the descriptor of an
// artifact (signature-specification.md, "Payload"). Annotations are the signer's
// own, notation calls them user metadata.
type Payload struct {
	MediaType   string
	Digest      evidence.Digest
	Size        int64 // bytes
	Annotations map[string]string
}

// usualDescriptor is a descriptor with the members that the specification gives it.
type usualDescriptor struct {
	MediaType   string            `json:"mediaType" strict:"required"`
	Digest      string            `json:"digest" strict:"required"`
	Size        int64             `json:"size" strict:"required"`
	Annotations map[string]string `json:"annotations"`
}

// descriptorRest are members of an OCI descriptor that others read besides ours; they
// say nothing here, but must be what they have to be.
type descriptorRest struct {
	urls         []string
	data         []byte
	artifactType string
	platform     struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		OSVersion    string   `json:"os.version"`
		OSFeatures   []string `json:"os.features"`
		Variant      string   `json:"variant"`
	}
}

// ParsePayload reads the JSON that an envelope signs. Members that the
// specification does not know are passed over, as notation does; several
// implementations write the known ones in another order or with blanks.
func ParsePayload(data []byte) (*Payload, error) {
	if len(data) > MaxPayload {
		return nil, fmt.Errorf("%d bytes of payload; at most %d are read", len(data), MaxPayload)
	}
	// The usual payload is short, has nothing else, and is read at once.
	var usual struct {
		Target usualDescriptor `json:"targetArtifact" strict:"required"`
	}
	if len(data) <= 64<<10 && strictjson.Unmarshal(data, &usual) == nil {
		t := usual.Target
		p := Payload{MediaType: t.MediaType, Size: t.Size, Annotations: t.Annotations}
		return p.checked(t.Digest)
	}
	var top, target map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &top); err != nil {
		return nil, err
	}
	if err := onlyAsWritten(top, "targetArtifact"); err != nil {
		return nil, err
	}
	raw, ok := top["targetArtifact"]
	if !ok {
		return nil, errors.New("targetArtifact: missing member")
	}
	if err := strictjson.Unmarshal(raw, &target); err != nil {
		return nil, fmt.Errorf("targetArtifact: %w", err)
	}
	return descriptor(target)
}

func descriptor(members map[string]json.RawMessage) (*Payload, error) {
	var p Payload
	var digest string
	var rest descriptorRest
	fields := []struct {
		name     string
		to       any
		required bool
	}{
		{"mediaType", &p.MediaType, true}, {"digest", &digest, true}, {"size", &p.Size, true}, {"annotations", &p.Annotations, false},
		{"urls", &rest.urls, false}, {"data", &rest.data, false}, {"artifactType", &rest.artifactType, false}, {"platform", &rest.platform, false},
	}
	for _, f := range fields {
		if err := onlyAsWritten(members, f.name); err != nil {
			return nil, fmt.Errorf("targetArtifact: %w", err)
		}
		raw, ok := members[f.name]
		switch {
		case !ok && f.required:
			return nil, fmt.Errorf("targetArtifact.%s: missing member", f.name)
		case !ok:
			continue
		}
		if err := strictjson.Unmarshal(raw, f.to); err != nil {
			return nil, fmt.Errorf("targetArtifact.%s: %w", f.name, err)
		}
	}
	return p.checked(digest)
}

func (p *Payload) checked(digest string) (*Payload, error) {
	var err error
	if p.Digest, err = evidence.ParseDigest(digest); err != nil {
		return nil, fmt.Errorf("targetArtifact: %w", err)
	}
	if p.MediaType == "" || p.Size < 0 {
		return nil, errors.New("targetArtifact: mediaType is empty or size negative")
	}
	return p, nil
}
