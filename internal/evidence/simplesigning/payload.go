package simplesigning

import (
	"encoding/json"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Payload is what a simple signing payload says.
type Payload struct {
	Type      string          // critical.type; only [Type] is an image's signature
	Digest    evidence.Digest // critical.image.docker-manifest-digest
	Reference string          // critical.identity.docker-reference: how the signer called the image
	// Annotations are the members of optional that are texts. Others, such as the
	// number that skopeo writes for a timestamp, cannot be demanded and are left out.
	Annotations map[string]string
}

// wirePayload is cosign's SimpleContainerImage. Its members and no others occur
// in what cosign, podman and skopeo sign.
type wirePayload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference" strict:"required"`
		} `json:"identity" strict:"required"`
		Image struct {
			Digest string `json:"docker-manifest-digest" strict:"required"`
		} `json:"image" strict:"required"`
		Type string `json:"type" strict:"required"`
	} `json:"critical" strict:"required"`
	Optional json.RawMessage `json:"optional"`
}

// ParsePayload reads what was signed. Whether it is a signature of an image, and
// of which, is for the caller to judge.
func ParsePayload(data []byte) (*Payload, error) {
	if len(data) > MaxPayload {
		return nil, fmt.Errorf("simple signing: a payload of %d bytes; at most %d are read", len(data), MaxPayload)
	}
	var w wirePayload
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("simple signing: %w", err)
	}
	digest, err := evidence.ParseDigest(w.Critical.Image.Digest)
	if err != nil {
		return nil, fmt.Errorf("simple signing: critical.image.docker-manifest-digest: %w", err)
	}
	p := &Payload{Type: w.Critical.Type, Digest: digest, Reference: w.Critical.Identity.Reference}
	if len(w.Optional) == 0 || string(w.Optional) == "null" {
		return p, nil
	}
	var optional map[string]json.RawMessage
	if err := strictjson.Unmarshal(w.Optional, &optional); err != nil {
		return nil, fmt.Errorf("simple signing: optional: %w", err)
	}
	for key, raw := range optional {
		if raw[0] != '"' {
			continue
		}
		var text string
		if err := strictjson.Unmarshal(raw, &text); err != nil {
			return nil, fmt.Errorf("simple signing: optional: %w", err)
		}
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[key] = text
	}
	return p, nil
}
