package evidence

import (
	"encoding/json"
)

// Media and predicate types of in-toto statements and of what we attach.
const (
	InTotoPayloadType = "application/vnd.in-toto+json"
	StatementV1       = "https://in-toto.io/Statement/v1"
	StatementV01      = "https://in-toto.io/Statement/v0.1"

	// PredicateSign is cosign v3's image signature: a statement with an empty
	// predicate. Only this one counts as a signature of an image.
	PredicateSign = "https://sigstore.dev/cosign/sign/v1"

	PredicateSLSA1     = "https://slsa.dev/provenance/v1"
	PredicateSLSA02    = "https://slsa.dev/provenance/v0.2"
	PredicateSPDX      = "https://spdx.dev/Document"
	PredicateCycloneDX = "https://cyclonedx.org/bom"
	PredicateOpenVEX   = "https://openvex.dev/ns"
	PredicateVuln      = "https://cosign.sigstore.dev/attestation/vuln/v1"
)

// BundleMediaType is the media and artifact type of a Sigstore bundle v0.3.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// PredicateTypes maps the short names of --type to predicate type URIs.
var PredicateTypes = map[string]string{
	"slsaprovenance1":  PredicateSLSA1,
	"slsaprovenance02": PredicateSLSA02,
	"spdx":             PredicateSPDX,
	"cyclonedx":        PredicateCycloneDX,
	"openvex":          PredicateOpenVEX,
	"vuln":             PredicateVuln,
}

// Statement is an in-toto statement (in-toto/attestation spec v1, statement.md).
type Statement struct {
	Type          string             `json:"_type"`
	Subject       []StatementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     json.RawMessage    `json:"predicate"`
}

// StatementSubject is one subject of a statement (in-toto ResourceDescriptor).
type StatementSubject struct {
	Name        string            `json:"name,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}
