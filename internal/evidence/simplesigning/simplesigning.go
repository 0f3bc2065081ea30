// Package simplesigning reads what cosign wrote before version 3: a signature as
// a layer with a "simple signing" payload, an attestation as a layer with a DSSE
// envelope, and everything else that proves them in the layer's annotations
// (sigstore/cosign, specs/SIGNATURE_SPEC.md and specs/ATTESTATION_SPEC.md).
//
// Whoever can push to a repository writes these. Reading believes nothing; it
// only makes sure that one text has one meaning. Root certificates, which cosign
// puts into the chain, are left out: roots come from the trust alone.
package simplesigning

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Media types of the layers.
const (
	PayloadMediaType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	EnvelopeMediaType = "application/vnd.dsse.envelope.v1+json"
)

// Annotations of the layers.
const (
	AnnotationSignature   = "dev.cosignproject.cosign/signature"   // base64; "" on an attestation
	AnnotationCertificate = "dev.sigstore.cosign/certificate"      // PEM, the signer's
	AnnotationChain       = "dev.sigstore.cosign/chain"            // PEM, from the issuer to the root
	AnnotationBundle      = "dev.sigstore.cosign/bundle"           // JSON, a Rekor v1 entry with its promise
	AnnotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp" // JSON, a TimeStampResp
	AnnotationPredicate   = "predicateType"                        // unsigned
)

// Type is the only critical.type of a payload that is an image's signature.
// Signatures by others over the same shape ("atomic container signature", GPG)
// mean other things.
const Type = "cosign container image signature"

// Limits of what is read. Known writers stay far below.
const (
	MaxPayload      = 1 << 20  // bytes of a payload
	MaxEnvelope     = 64 << 20 // bytes of an envelope
	maxSignature    = 16 << 10 // bytes of a signature's base64
	maxPEM          = 1 << 20  // bytes of the chain
	maxBundle       = 4 << 20  // bytes of a log entry
	maxTimestamp    = 1 << 20  // bytes of a timestamp
	maxCertificates = 16
)

// ParseSignature reads a layer of a signature: its content and its annotations.
func ParseSignature(payload []byte, annotations map[string]string) (*evidence.Claim, error) {
	if _, err := ParsePayload(payload); err != nil {
		return nil, err
	}
	text, ok := annotations[AnnotationSignature]
	switch {
	case !ok || text == "":
		return nil, fmt.Errorf("simple signing: the annotation %s is missing", AnnotationSignature)
	case len(text) > maxSignature:
		return nil, fmt.Errorf("simple signing: %s: %d characters; at most %d are read", AnnotationSignature, len(text), maxSignature)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("simple signing: %s: not base64", AnnotationSignature)
	}
	c := &evidence.Claim{Format: evidence.FormatCosignSignature, MediaType: PayloadMediaType,
		Simple: &evidence.SimpleSigning{Payload: bytes.Clone(payload), Signature: sig}}
	if err := proofs(c, annotations); err != nil {
		return nil, fmt.Errorf("simple signing: %w", err)
	}
	return c, nil
}

// wireEnvelope is a DSSE envelope (secure-systems-lab/dsse, envelope.md).
type wireEnvelope struct {
	PayloadType string `json:"payloadType" strict:"required"`
	Payload     []byte `json:"payload" strict:"required"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig" strict:"required"`
	} `json:"signatures" strict:"required,max=32"`
}

// ParseAttestation reads a layer of an attestation: its content and its
// annotations. Where its proofs are about the envelope as written, the claim
// shares envelope's memory.
func ParseAttestation(envelope []byte, annotations map[string]string) (*evidence.Claim, error) {
	if len(envelope) > MaxEnvelope {
		return nil, fmt.Errorf("attestation: %d bytes; at most %d are read", len(envelope), MaxEnvelope)
	}
	var w wireEnvelope
	if err := strictjson.Unmarshal(envelope, &w); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	switch {
	case len(w.Signatures) != 1:
		return nil, fmt.Errorf("attestation: signatures: cosign writes exactly one, not %d", len(w.Signatures))
	case len(w.Signatures[0].Sig) == 0:
		return nil, errors.New("attestation: signatures[0].sig: empty")
	case w.PayloadType == "":
		return nil, errors.New("attestation: payloadType: empty")
	}
	sig := w.Signatures[0].Sig
	if text := annotations[AnnotationSignature]; text != "" && text != base64.StdEncoding.EncodeToString(sig) {
		return nil, fmt.Errorf("attestation: the annotation %s is of another signature than the envelope's", AnnotationSignature)
	}
	c := &evidence.Claim{Format: evidence.FormatCosignAttestation, MediaType: EnvelopeMediaType,
		Envelope: &evidence.Envelope{PayloadType: w.PayloadType, Payload: w.Payload,
			Signatures: []evidence.EnvelopeSignature{{KeyID: w.Signatures[0].KeyID, Sig: sig}}}}
	if err := proofs(c, annotations); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	if len(c.Timestamps) > 0 || len(c.LogEntries) > 0 {
		c.Envelope.JSON = envelope
	}
	return c, nil
}

// proofs reads certificate, chain, log entry and timestamp. An annotation that
// is empty is absent: cosign writes them so.
func proofs(c *evidence.Claim, annotations map[string]string) error {
	certs, err := certificates(annotations[AnnotationCertificate])
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", AnnotationCertificate, err)
	case len(certs) > 1:
		return fmt.Errorf("%s: %d certificates; the signer has one", AnnotationCertificate, len(certs))
	}
	chain, err := certificates(annotations[AnnotationChain])
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", AnnotationChain, err)
	case len(chain) > 0 && len(certs) == 0:
		return fmt.Errorf("%s: a chain without the signer's certificate", AnnotationChain)
	}
	for _, cert := range append(certs, chain...) {
		if len(c.Certificates) > 0 && bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			continue // a root
		}
		c.Certificates = append(c.Certificates, cert.Raw)
	}
	if text := annotations[AnnotationBundle]; text != "" {
		entry, err := logEntry(text)
		if err != nil {
			return fmt.Errorf("%s: %w", AnnotationBundle, err)
		}
		c.LogEntries = []evidence.LogEntry{entry}
	}
	if text := annotations[AnnotationTimestamp]; text != "" {
		token, err := timestamp(text)
		if err != nil {
			return fmt.Errorf("%s: %w", AnnotationTimestamp, err)
		}
		c.Timestamps = [][]byte{token}
	}
	return nil
}

// certificates reads PEM text that holds certificates and nothing else.
func certificates(text string) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%d characters; at most %d are read", len(text), maxPEM)
	}
	var out []*x509.Certificate
	for rest := []byte(strings.TrimSpace(text)); len(rest) > 0; {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, errors.New("not certificates in PEM alone")
		}
		var block *pem.Block
		block, rest = pem.Decode(rest)
		rest = bytes.TrimSpace(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, errors.New("not certificates in PEM alone")
		}
		if len(out) == maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", len(out)+1)
		}
		out = append(out, cert)
	}
	return out, nil
}

// wireBundle is cosign's RekorBundle: an entry of a Rekor v1 log with the log's
// promise to include it, without a proof.
type wireBundle struct {
	SignedEntryTimestamp []byte `json:"SignedEntryTimestamp" strict:"required"`
	Payload              struct {
		Body           []byte `json:"body" strict:"required"`
		IntegratedTime int64  `json:"integratedTime" strict:"required"`
		LogIndex       int64  `json:"logIndex" strict:"required"`
		LogID          string `json:"logID" strict:"required"`
	} `json:"Payload" strict:"required"`
}

func logEntry(text string) (evidence.LogEntry, error) {
	if len(text) > maxBundle {
		return evidence.LogEntry{}, fmt.Errorf("%d characters; at most %d are read", len(text), maxBundle)
	}
	var w wireBundle
	if err := strictjson.Unmarshal([]byte(text), &w); err != nil {
		return evidence.LogEntry{}, err
	}
	p := &w.Payload
	id, err := hex.DecodeString(p.LogID)
	switch {
	case err != nil || len(id) == 0 || len(id) > 64 || hex.EncodeToString(id) != p.LogID:
		return evidence.LogEntry{}, errors.New("Payload.logID: not lower-case hexadecimal of at most 64 bytes")
	case len(w.SignedEntryTimestamp) == 0:
		return evidence.LogEntry{}, errors.New("SignedEntryTimestamp: empty")
	case p.IntegratedTime < 0:
		return evidence.LogEntry{}, errors.New("Payload.integratedTime: negative")
	case p.LogIndex < 0:
		return evidence.LogEntry{}, errors.New("Payload.logIndex: negative")
	}
	var body struct {
		APIVersion string          `json:"apiVersion" strict:"required"`
		Kind       string          `json:"kind" strict:"required"`
		Spec       json.RawMessage `json:"spec" strict:"required"`
	}
	if err := strictjson.Unmarshal(p.Body, &body); err != nil {
		return evidence.LogEntry{}, fmt.Errorf("the body of its Payload: %w", err)
	}
	return evidence.LogEntry{LogIndex: p.LogIndex, LogID: id, Kind: body.Kind, Version: body.APIVersion,
		IntegratedTime: p.IntegratedTime, Promise: w.SignedEntryTimestamp, Body: p.Body}, nil
}

func timestamp(text string) ([]byte, error) {
	if len(text) > maxTimestamp {
		return nil, fmt.Errorf("%d characters; at most %d are read", len(text), maxTimestamp)
	}
	var w struct {
		Token []byte `json:"SignedRFC3161Timestamp" strict:"required"`
	}
	if err := strictjson.Unmarshal([]byte(text), &w); err != nil {
		return nil, err
	}
	if len(w.Token) == 0 {
		return nil, errors.New("SignedRFC3161Timestamp: empty")
	}
	return w.Token, nil
}
