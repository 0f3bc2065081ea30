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
	maxProofs       = 32       // log entries, timestamps, signatures
	maxProofHashes  = 64       // a tree of 2^63 leaves needs no more
	maxCertificate  = 64 << 10 // bytes of DER
	maxCheckpoint   = 64 << 10 // bytes
	maxText         = 64 << 10 // bytes of any other text
)

// claim applies the rules of the bundle's version.
func (w *wire) claim() (*evidence.Claim, error) {
	c := &evidence.Claim{MediaType: w.mediaType, Format: FormatOf(w.mediaType)}
	if c.Format == "" {
		return nil, fmt.Errorf("mediaType: %q is not a Sigstore bundle of version 0.1, 0.2 or 0.3", clip(w.mediaType))
	}
	if !w.material {
		return nil, errors.New("verificationMaterial: missing")
	}
	if err := w.signer(c); err != nil {
		return nil, fmt.Errorf("verificationMaterial.%w", err)
	}
	if err := w.proofs(c); err != nil {
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
func (w *wire) signer(c *evidence.Claim) error {
	n := 0
	for _, set := range [...]bool{w.keyHint, w.chain, w.leaf} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("publicKey, x509CertificateChain, certificate: exactly one must be given, not %d", n)
	case w.keyHint:
		c.KeyHint = w.hint
		return nil
	case w.leaf && c.Format != evidence.FormatBundle03:
		return errors.New("certificate: came with bundle version 0.3; this bundle says that it is older")
	case w.chain && c.Format == evidence.FormatBundle03:
		return errors.New("x509CertificateChain: forbidden since bundle version 0.3")
	case w.chain && len(w.certs) == 0:
		return errors.New("x509CertificateChain.certificates: empty")
	}
	for i, der := range w.certs {
		if len(der) == 0 || len(der) > maxCertificate {
			return fmt.Errorf("certificate %d: %d bytes", i, len(der))
		}
	}
	c.Certificates = w.certs
	return nil
}

func (w *wire) proofs(c *evidence.Claim) error {
	for i := range w.entries {
		if err := checkEntry(&w.entries[i], c.Format); err != nil {
			return fmt.Errorf("tlogEntries[%d].%w", i, err)
		}
	}
	for i, der := range w.tokens {
		if len(der) == 0 {
			return fmt.Errorf("timestampVerificationData.rfc3161Timestamps[%d].signedTimestamp: empty", i)
		}
	}
	c.LogEntries, c.Timestamps = w.entries, w.tokens
	return nil
}

// checkEntry keeps the rules of log entries.
func checkEntry(e *evidence.LogEntry, format evidence.Format) error {
	switch {
	case e.LogIndex < 0:
		return errors.New("logIndex: negative")
	case e.IntegratedTime < 0:
		return errors.New("integratedTime: negative")
	case len(e.LogID) == 0 || len(e.LogID) > 64:
		return errors.New("logId.keyId: missing or too long")
	case e.Kind == "" || e.Version == "":
		return errors.New("kindVersion: missing")
	case len(e.Body) == 0:
		return errors.New("canonicalizedBody: missing")
	case e.Promise != nil && len(e.Promise) == 0:
		return errors.New("inclusionPromise.signedEntryTimestamp: empty")
	case format == evidence.FormatBundle01 && e.Promise == nil:
		return errors.New("inclusionPromise: missing; bundle version 0.1 demands it")
	case format != evidence.FormatBundle01 && e.Proof == nil:
		return errors.New("inclusionProof: missing; bundle versions since 0.2 demand it")
	case e.Proof == nil:
		return nil
	}
	if err := checkProof(e.Proof); err != nil {
		return fmt.Errorf("inclusionProof.%w", err)
	}
	if e.Proof.Checkpoint == "" {
		return errors.New("inclusionProof.checkpoint: missing; without it the proof proves nothing")
	}
	return nil
}

func checkProof(p *evidence.InclusionProof) error {
	switch {
	case p.LogIndex < 0 || p.TreeSize < 1 || p.LogIndex >= p.TreeSize:
		return fmt.Errorf("logIndex: %d in a tree of size %d", p.LogIndex, p.TreeSize)
	case len(p.RootHash) != 32:
		return fmt.Errorf("rootHash: %d bytes; want 32", len(p.RootHash))
	}
	for i, h := range p.Hashes {
		if len(h) != 32 {
			return fmt.Errorf("hashes[%d]: %d bytes; want 32", i, len(h))
		}
	}
	return nil
}

// content reads what was signed: exactly one of message and envelope.
func (w *wire) content(c *evidence.Claim) error {
	switch {
	case (w.message == nil) == (w.envelope == nil):
		return errors.New("messageSignature, dsseEnvelope: exactly one must be given")
	case w.message != nil && len(w.message.Signature) == 0:
		return errors.New("messageSignature.signature: missing")
	case w.message != nil && len(w.message.Digest) == 0:
		return errors.New("messageSignature.messageDigest.digest: missing")
	case w.message != nil:
		c.Message = w.message
		return nil
	case len(w.envelope.Signatures) != 1:
		return fmt.Errorf("dsseEnvelope.signatures: a bundle has exactly one, not %d", len(w.envelope.Signatures))
	case len(w.envelope.Signatures[0].Sig) == 0:
		return errors.New("dsseEnvelope.signatures[0].sig: missing")
	case w.envelope.PayloadType == "":
		return errors.New("dsseEnvelope.payloadType: missing")
	}
	c.Envelope = w.envelope
	return nil
}

// hashNames are the values of dev.sigstore.common.v1.HashAlgorithm by number.
var hashNames = [...]string{"HASH_ALGORITHM_UNSPECIFIED", "SHA2_256", "SHA2_384", "SHA2_512", "SHA3_256", "SHA3_384"}

// hashAlgorithm is the name of a hash algorithm, which may be written by its number.
func hashAlgorithm(s string) (string, error) {
	for n, name := range hashNames {
		if s == name || len(s) == 1 && int(s[0]) == '0'+n {
			return name, nil
		}
	}
	if s == "" {
		return hashNames[0], nil
	}
	return "", &strictjson.Error{Msg: fmt.Sprintf("%q is unknown", clip(s))}
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
