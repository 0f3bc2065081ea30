package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorv1 "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Marshal writes a claim as a bundle of version 0.3, in one line, as cosign
// does: the same claim always gives the same bytes. A claim with a certificate
// chain cannot be written; version 0.3 has only the leaf.
func Marshal(c *evidence.Claim) ([]byte, error) {
	b := &bundlev1.Bundle{MediaType: evidence.BundleMediaType, VerificationMaterial: material(c)}
	switch {
	case len(c.Certificates) > 1:
		return nil, errors.New("bundle: version 0.3 holds one certificate, not a chain")
	case len(c.Certificates) == 1:
		b.VerificationMaterial.Content = &bundlev1.VerificationMaterial_Certificate{
			Certificate: &commonv1.X509Certificate{RawBytes: c.Certificates[0]}}
	default:
		b.VerificationMaterial.Content = keyHint(c)
	}
	return write(b, c)
}

// Marshal01 is Marshal for version 0.1, which is the only one to hold log entries
// with a promise and without an inclusion proof, and holds certificate chains.
func Marshal01(c *evidence.Claim) ([]byte, error) {
	b := &bundlev1.Bundle{MediaType: MediaType01, VerificationMaterial: material(c)}
	for i := range c.LogEntries {
		if c.LogEntries[i].Promise == nil {
			return nil, errors.New("bundle: version 0.1 demands a promise of every log entry")
		}
	}
	if len(c.Certificates) == 0 {
		b.VerificationMaterial.Content = keyHint(c)
		return write(b, c)
	}
	chain := &commonv1.X509CertificateChain{}
	for _, der := range c.Certificates {
		chain.Certificates = append(chain.Certificates, &commonv1.X509Certificate{RawBytes: der})
	}
	b.VerificationMaterial.Content = &bundlev1.VerificationMaterial_X509CertificateChain{X509CertificateChain: chain}
	return write(b, c)
}

// MediaType01 is the media type of a bundle of version 0.1.
const MediaType01 = "application/vnd.dev.sigstore.bundle+json;version=0.1"

func keyHint(c *evidence.Claim) *bundlev1.VerificationMaterial_PublicKey {
	return &bundlev1.VerificationMaterial_PublicKey{PublicKey: &commonv1.PublicKeyIdentifier{Hint: c.KeyHint}}
}

// write adds what was signed and writes the bundle.
func write(b *bundlev1.Bundle, c *evidence.Claim) ([]byte, error) {
	switch {
	case (c.Message == nil) == (c.Envelope == nil):
		return nil, errors.New("bundle: a claim signs a message or an envelope")
	case c.Message != nil:
		b.Content = &bundlev1.Bundle_MessageSignature{MessageSignature: &commonv1.MessageSignature{
			MessageDigest: &commonv1.HashOutput{
				Algorithm: commonv1.HashAlgorithm(commonv1.HashAlgorithm_value[c.Message.DigestAlgorithm]),
				Digest:    c.Message.Digest,
			},
			Signature: c.Message.Signature,
		}}
	default:
		e := &dsse.Envelope{Payload: c.Envelope.Payload, PayloadType: c.Envelope.PayloadType}
		for _, s := range c.Envelope.Signatures {
			e.Signatures = append(e.Signatures, &dsse.Signature{Sig: s.Sig, Keyid: s.KeyID})
		}
		b.Content = &bundlev1.Bundle_DsseEnvelope{DsseEnvelope: e}
	}
	loose, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	// protojson puts in a space here and there so that nobody relies on its bytes.
	var out bytes.Buffer
	out.Grow(len(loose))
	if err := json.Compact(&out, loose); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return out.Bytes(), nil
}

// material is the proofs of a claim: log entries and timestamps.
func material(c *evidence.Claim) *bundlev1.VerificationMaterial {
	m := &bundlev1.VerificationMaterial{}
	for i := range c.LogEntries {
		e := &c.LogEntries[i]
		w := &rekorv1.TransparencyLogEntry{
			LogIndex:          e.LogIndex,
			LogId:             &commonv1.LogId{KeyId: e.LogID},
			KindVersion:       &rekorv1.KindVersion{Kind: e.Kind, Version: e.Version},
			IntegratedTime:    e.IntegratedTime,
			CanonicalizedBody: e.Body,
		}
		if e.Promise != nil {
			w.InclusionPromise = &rekorv1.InclusionPromise{SignedEntryTimestamp: e.Promise}
		}
		if p := e.Proof; p != nil {
			w.InclusionProof = &rekorv1.InclusionProof{LogIndex: p.LogIndex, RootHash: p.RootHash,
				TreeSize: p.TreeSize, Hashes: p.Hashes, Checkpoint: &rekorv1.Checkpoint{Envelope: p.Checkpoint}}
		}
		m.TlogEntries = append(m.TlogEntries, w)
	}
	if len(c.Timestamps) > 0 {
		m.TimestampVerificationData = &bundlev1.TimestampVerificationData{}
		for _, ts := range c.Timestamps {
			m.TimestampVerificationData.Rfc3161Timestamps = append(m.TimestampVerificationData.Rfc3161Timestamps,
				&commonv1.RFC3161SignedTimestamp{SignedTimestamp: ts})
		}
	}
	return m
}
