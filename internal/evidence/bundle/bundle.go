// Package bundle reads and writes Sigstore bundles, versions 0.1 to 0.3
// (dev.sigstore.bundle.v1.Bundle in JSON), and reads in-toto statements.
//
// Bundles come from anyone. Reading believes nothing in them; it only makes sure
// that one text has one meaning: what a bundle may be is refused here, whether
// it is true is for package verify.
package bundle

import (
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Limits of what is read. Known writers stay far below.
const (
	MaxSize         = 64 << 20 // bytes of a bundle
	maxCertificates = 16       // in a chain
	maxProofHashes  = 64       // a tree of 2^63 leaves needs no more
	maxCertificate  = 64 << 10 // bytes of DER
	maxCheckpoint   = 64 << 10 // bytes
)

// The wire types are dev.sigstore.bundle.v1, dev.sigstore.rekor.v1 and
// io.intoto.Envelope of sigstore/protobuf-specs, in protobuf's JSON mapping.
type (
	wireBundle struct {
		MediaType            string            `json:"mediaType"`
		VerificationMaterial *wireMaterial     `json:"verificationMaterial"`
		MessageSignature     *messageSignature `json:"messageSignature"`
		DSSEEnvelope         *wireEnvelope     `json:"dsseEnvelope"`
	}
	wireMaterial struct {
		PublicKey   *publicKeyHint `json:"publicKey"`
		Chain       *wireChain     `json:"x509CertificateChain"`
		Certificate *wireDER       `json:"certificate"`
		TlogEntries []wireEntry    `json:"tlogEntries" strict:"max=32"`
		Timestamps  *struct {
			RFC3161 []struct {
				SignedTimestamp []byte `json:"signedTimestamp"`
			} `json:"rfc3161Timestamps" strict:"max=32"`
		} `json:"timestampVerificationData"`
	}
	publicKeyHint struct {
		Hint string `json:"hint"`
	}
	wireChain struct {
		Certificates []wireDER `json:"certificates" strict:"max=16"`
	}
	wireDER struct {
		RawBytes []byte `json:"rawBytes"`
	}
	wireEntry struct {
		LogIndex int64 `json:"logIndex"`
		LogID    *struct {
			KeyID []byte `json:"keyId"`
		} `json:"logId"`
		KindVersion *struct {
			Kind    string `json:"kind"`
			Version string `json:"version"`
		} `json:"kindVersion"`
		IntegratedTime   int64 `json:"integratedTime"`
		InclusionPromise *struct {
			SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
		} `json:"inclusionPromise"`
		InclusionProof    *wireProof `json:"inclusionProof"`
		CanonicalizedBody []byte     `json:"canonicalizedBody"`
	}
	wireProof struct {
		LogIndex   int64    `json:"logIndex"`
		RootHash   []byte   `json:"rootHash"`
		TreeSize   int64    `json:"treeSize"`
		Hashes     [][]byte `json:"hashes" strict:"max=64"`
		Checkpoint *struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	}
	messageSignature struct {
		MessageDigest *struct {
			Algorithm string `json:"algorithm" strict:"enum"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	}
	wireEnvelope struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig   []byte `json:"sig"`
			KeyID string `json:"keyid"`
		} `json:"signatures" strict:"max=32"`
	}
)

// Parse reads a bundle of version 0.1, 0.2 or 0.3 and keeps the rules of its
// version. The claim does not share data's memory, but for strings.
func Parse(data []byte) (*evidence.Claim, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("bundle: %d bytes; at most %d are read", len(data), MaxSize)
	}
	var w wireBundle
	if err := strictjson.UnmarshalProto(data, &w); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	c, err := w.claim()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return c, nil
}

func (w *wireBundle) claim() (*evidence.Claim, error) {
	c := &evidence.Claim{MediaType: w.MediaType, Format: FormatOf(w.MediaType)}
	if c.Format == "" {
		return nil, fmt.Errorf("mediaType: %q is not a Sigstore bundle of version 0.1, 0.2 or 0.3", clip(w.MediaType))
	}
	if w.VerificationMaterial == nil {
		return nil, errors.New("verificationMaterial: missing")
	}
	if err := w.VerificationMaterial.signer(c); err != nil {
		return nil, fmt.Errorf("verificationMaterial.%w", err)
	}
	if err := w.VerificationMaterial.proofs(c); err != nil {
		return nil, fmt.Errorf("verificationMaterial.%w", err)
	}
	return c, w.content(c)
}

// FormatOf is the format that a media type names, "" for any that is no bundle
// that can be read. Version 0.3 has three spellings.
func FormatOf(mediaType string) evidence.Format {
	const base = "application/vnd.dev.sigstore.bundle"
	switch mediaType {
	case base + "+json;version=0.1":
		return evidence.FormatBundle01
	case base + "+json;version=0.2":
		return evidence.FormatBundle02
	case base + "+json;version=0.3", base + ".v0.3+json", base + ".v0.3.0+json":
		return evidence.FormatBundle03
	}
	return ""
}

// signer reads who signed: exactly one of key hint, certificate and chain.
func (m *wireMaterial) signer(c *evidence.Claim) error {
	n := 0
	for _, set := range []bool{m.PublicKey != nil, m.Chain != nil, m.Certificate != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("publicKey, x509CertificateChain, certificate: exactly one must be given, not %d", n)
	case m.PublicKey != nil:
		c.KeyHint = m.PublicKey.Hint
		return nil
	case m.Certificate != nil:
		if c.Format != evidence.FormatBundle03 {
			return errors.New("certificate: came with bundle version 0.3; this bundle says that it is older")
		}
		c.Certificates = [][]byte{m.Certificate.RawBytes}
	default:
		if c.Format == evidence.FormatBundle03 {
			return errors.New("x509CertificateChain: forbidden since bundle version 0.3")
		}
		if len(m.Chain.Certificates) == 0 {
			return errors.New("x509CertificateChain.certificates: empty")
		}
		for _, der := range m.Chain.Certificates {
			c.Certificates = append(c.Certificates, der.RawBytes)
		}
	}
	for i, der := range c.Certificates {
		if len(der) == 0 || len(der) > maxCertificate {
			return fmt.Errorf("certificate %d: %d bytes", i, len(der))
		}
	}
	return nil
}

func (m *wireMaterial) proofs(c *evidence.Claim) error {
	for i := range m.TlogEntries {
		e, err := m.TlogEntries[i].entry(c.Format)
		if err != nil {
			return fmt.Errorf("tlogEntries[%d].%w", i, err)
		}
		c.LogEntries = append(c.LogEntries, e)
	}
	if m.Timestamps == nil {
		return nil
	}
	for i, ts := range m.Timestamps.RFC3161 {
		if len(ts.SignedTimestamp) == 0 {
			return fmt.Errorf("timestampVerificationData.rfc3161Timestamps[%d].signedTimestamp: empty", i)
		}
		c.Timestamps = append(c.Timestamps, ts.SignedTimestamp)
	}
	return nil
}

func (w *wireEntry) entry(format evidence.Format) (evidence.LogEntry, error) {
	e := evidence.LogEntry{LogIndex: w.LogIndex, IntegratedTime: w.IntegratedTime, Body: w.CanonicalizedBody}
	switch {
	case w.LogIndex < 0:
		return e, errors.New("logIndex: negative")
	case w.IntegratedTime < 0:
		return e, errors.New("integratedTime: negative")
	case w.LogID == nil || len(w.LogID.KeyID) == 0 || len(w.LogID.KeyID) > 64:
		return e, errors.New("logId.keyId: missing or too long")
	case w.KindVersion == nil || w.KindVersion.Kind == "" || w.KindVersion.Version == "":
		return e, errors.New("kindVersion: missing")
	case len(w.CanonicalizedBody) == 0:
		return e, errors.New("canonicalizedBody: missing")
	}
	e.LogID, e.Kind, e.Version = w.LogID.KeyID, w.KindVersion.Kind, w.KindVersion.Version
	if w.InclusionPromise != nil {
		if len(w.InclusionPromise.SignedEntryTimestamp) == 0 {
			return e, errors.New("inclusionPromise.signedEntryTimestamp: empty")
		}
		e.Promise = w.InclusionPromise.SignedEntryTimestamp
	}
	switch {
	case format == evidence.FormatBundle01 && e.Promise == nil:
		return e, errors.New("inclusionPromise: missing; bundle version 0.1 demands it")
	case format != evidence.FormatBundle01 && w.InclusionProof == nil:
		return e, errors.New("inclusionProof: missing; bundle versions since 0.2 demand it")
	case w.InclusionProof != nil:
		p, err := w.InclusionProof.proof()
		if err != nil {
			return e, fmt.Errorf("inclusionProof.%w", err)
		}
		// Early bundles of version 0.1 carry proofs without a checkpoint, which
		// prove nothing; their signed entry timestamp is what counts.
		if p.Checkpoint == "" && format == evidence.FormatBundle01 {
			p = nil
		} else if p.Checkpoint == "" {
			return e, errors.New("inclusionProof.checkpoint: missing; bundle versions since 0.2 demand it")
		}
		e.Proof = p
	}
	return e, nil
}

func (w *wireProof) proof() (*evidence.InclusionProof, error) {
	p := &evidence.InclusionProof{LogIndex: w.LogIndex, TreeSize: w.TreeSize, RootHash: w.RootHash, Hashes: w.Hashes}
	switch {
	case p.LogIndex < 0 || p.TreeSize < 1 || p.LogIndex >= p.TreeSize:
		return nil, fmt.Errorf("logIndex: %d in a tree of size %d", p.LogIndex, p.TreeSize)
	case len(p.RootHash) != 32:
		return nil, fmt.Errorf("rootHash: %d bytes; want 32", len(p.RootHash))
	}
	for i, h := range p.Hashes {
		if len(h) != 32 {
			return nil, fmt.Errorf("hashes[%d]: %d bytes; want 32", i, len(h))
		}
	}
	if w.Checkpoint != nil {
		p.Checkpoint = w.Checkpoint.Envelope
	}
	if len(p.Checkpoint) > maxCheckpoint {
		return nil, fmt.Errorf("checkpoint.envelope: %d bytes; at most %d are read", len(p.Checkpoint), maxCheckpoint)
	}
	return p, nil
}

// content reads what was signed: exactly one of message and envelope.
func (w *wireBundle) content(c *evidence.Claim) error {
	switch {
	case (w.MessageSignature == nil) == (w.DSSEEnvelope == nil):
		return errors.New("messageSignature, dsseEnvelope: exactly one must be given")
	case w.MessageSignature != nil:
		m := w.MessageSignature
		if len(m.Signature) == 0 {
			return errors.New("messageSignature.signature: missing")
		}
		c.Message = &evidence.MessageSignature{Signature: m.Signature}
		if d := m.MessageDigest; d != nil {
			alg, err := hashAlgorithm(d.Algorithm)
			if err != nil {
				return fmt.Errorf("messageSignature.messageDigest.algorithm: %w", err)
			}
			c.Message.DigestAlgorithm, c.Message.Digest = alg, d.Digest
		}
		return nil
	}
	e := w.DSSEEnvelope
	switch {
	case len(e.Signatures) != 1:
		return fmt.Errorf("dsseEnvelope.signatures: a bundle has exactly one, not %d", len(e.Signatures))
	case len(e.Signatures[0].Sig) == 0:
		return errors.New("dsseEnvelope.signatures[0].sig: missing")
	case e.PayloadType == "":
		return errors.New("dsseEnvelope.payloadType: missing")
	}
	c.Envelope = &evidence.Envelope{PayloadType: e.PayloadType, Payload: e.Payload,
		Signatures: []evidence.EnvelopeSignature{{KeyID: e.Signatures[0].KeyID, Sig: e.Signatures[0].Sig}}}
	return nil
}

// hashAlgorithm is the name of a dev.sigstore.common.v1.HashAlgorithm, which may
// be written by its number.
func hashAlgorithm(s string) (string, error) {
	names := [...]string{"HASH_ALGORITHM_UNSPECIFIED", "SHA2_256", "SHA2_384", "SHA2_512", "SHA3_256", "SHA3_384"}
	for n, name := range names {
		if s == name || s == fmt.Sprint(n) {
			return name, nil
		}
	}
	if s == "" {
		return names[0], nil
	}
	return "", fmt.Errorf("%q is unknown", clip(s))
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
