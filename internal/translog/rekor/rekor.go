// Package rekor reads the entries of Rekor v2 logs, ours among them: of the kinds
// hashedrekord and dsse, both of version 0.0.2.
//
// A log checks that an entry's signature is by its key over its digest, and nothing
// else: who a certificate names is what the certificate says. Whether a trusted
// authority issued it is for the reader to find out ([Signer.IssuedBy]).
package rekor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// The kinds that are read.
const (
	KindHashedRekord = "hashedrekord"
	KindDSSE         = "dsse"
	Version          = "0.0.2"
)

// Entry is what an entry says.
type Entry struct {
	Kind, Version string
	// Digest is of what was signed: of hashedrekord the artifact, or the DSSE
	// pre-authentication encoding; of dsse the payload.
	Digest  evidence.Digest
	Signers []Signer
	// Unread is why the entry was not understood; then only Kind and Version may be set.
	Unread string
}

// Signer is one signature of an entry.
type Signer struct {
	// Signer has Identity and Issuer of a certificate, or Key without one.
	evidence.Signer
	Signature   []byte
	Certificate []byte // DER; nil when a bare key signed
	// From and Until are the certificate's validity.
	From, Until time.Time
}

// The wire types are dev.sigstore.rekor.v2.Entry in protobuf's JSON mapping.
type (
	wireEntry struct {
		APIVersion string   `json:"apiVersion" strict:"required"`
		Kind       string   `json:"kind" strict:"required"`
		Spec       wireSpec `json:"spec" strict:"required"`
	}
	wireSpec struct {
		HashedRekord *wireHashedRekord `json:"hashedRekordV002"`
		DSSE         *wireDSSE         `json:"dsseV002"`
	}
	wireHashedRekord struct {
		Data      wireHash      `json:"data" strict:"required"`
		Signature wireSignature `json:"signature" strict:"required"`
	}
	wireDSSE struct {
		PayloadHash wireHash        `json:"payloadHash" strict:"required"`
		Signatures  []wireSignature `json:"signatures" strict:"required,max=64"`
	}
	wireHash struct {
		Algorithm string `json:"algorithm" strict:"enum"`
		Digest    []byte `json:"digest" strict:"required"`
	}
	wireSignature struct {
		Content  []byte       `json:"content" strict:"required"`
		Verifier wireVerifier `json:"verifier" strict:"required"`
	}
	wireVerifier struct {
		KeyDetails  string   `json:"keyDetails" strict:"enum"`
		Certificate *wireRaw `json:"x509Certificate"`
		PublicKey   *wireRaw `json:"publicKey"`
	}
	wireRaw struct {
		RawBytes []byte `json:"rawBytes" strict:"required"`
	}
)

// Parse reads an entry. What it does not understand it says in Unread, so that
// whoever follows a log can tell how much was not looked at.
func Parse(body []byte) Entry {
	var w wireEntry
	if err := strictjson.UnmarshalProto(body, &w); err != nil {
		return Entry{Unread: "it is no entry of a Rekor v2 log: " + err.Error()}
	}
	e := Entry{Kind: w.Kind, Version: w.APIVersion}
	var err error
	switch {
	case w.Kind == KindHashedRekord && w.APIVersion == Version && w.Spec.HashedRekord != nil && w.Spec.DSSE == nil:
		err = e.fill(w.Spec.HashedRekord.Data, w.Spec.HashedRekord.Signature)
	case w.Kind == KindDSSE && w.APIVersion == Version && w.Spec.DSSE != nil && w.Spec.HashedRekord == nil:
		err = e.fill(w.Spec.DSSE.PayloadHash, w.Spec.DSSE.Signatures...)
	default:
		err = fmt.Errorf("kind %.40q of version %.20q is not read", w.Kind, w.APIVersion)
	}
	if err != nil {
		return Entry{Kind: e.Kind, Version: e.Version, Unread: err.Error()}
	}
	return e
}

func (e *Entry) fill(hash wireHash, signatures ...wireSignature) error {
	name, ok := map[string]string{
		"SHA2_256": "sha256", "1": "sha256", "SHA2_384": "sha384", "2": "sha384", "SHA2_512": "sha512", "3": "sha512",
	}[hash.Algorithm]
	if !ok {
		return fmt.Errorf("digests by %.40q are not read", hash.Algorithm)
	}
	var err error
	if e.Digest, err = evidence.ParseDigest(name + ":" + hex.EncodeToString(hash.Digest)); err != nil {
		return err
	}
	for _, s := range signatures {
		signer, err := s.signer()
		if err != nil {
			return err
		}
		e.Signers = append(e.Signers, signer)
	}
	if len(e.Signers) == 0 {
		return errors.New("nobody signed it")
	}
	return nil
}

func (s *wireSignature) signer() (Signer, error) {
	out := Signer{Signature: s.Content}
	cert, key := s.Verifier.Certificate, s.Verifier.PublicKey
	switch {
	case cert != nil && key == nil:
		c, err := x509.ParseCertificate(cert.RawBytes)
		if err != nil {
			return out, errors.New("its certificate cannot be read")
		}
		out.Certificate, out.From, out.Until = cert.RawBytes, c.NotBefore, c.NotAfter
		out.Signer = collect.CertificateSigner(c)
		if name := onlyName(c); name != "" {
			out.Identity = name
		}
	case key != nil && cert == nil:
		sum := sha256.Sum256(key.RawBytes)
		out.Key = "sha256:" + hex.EncodeToString(sum[:])
	default:
		return out, errors.New("it names no key, or two")
	}
	return out, nil
}

// onlyName is the certificate's one e-mail address or URI, exactly as it is written:
// crypto/x509 writes URIs its own way, and who is watched is compared with the text.
func onlyName(c *x509.Certificate) string {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var names []asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &names)
		// RFC 5280, 4.2.1.6: rfc822Name [1], uniformResourceIdentifier [6]
		if err == nil && len(rest) == 0 && len(names) == 1 && names[0].Class == asn1.ClassContextSpecific && (names[0].Tag == 1 || names[0].Tag == 6) {
			return string(names[0].Bytes)
		}
	}
	return ""
}

// oidSAN is a variable because Go has no constant slices.
var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// IssuedBy reports whether one of the authorities issued the certificate, for
// signing code and at a time at which it is believed. Bare keys are issued by
// nobody.
func (s *Signer) IssuedBy(authorities []trust.Authority) bool {
	if s.Certificate == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return false
	}
	// A SAN that only has an OtherName is critical and unknown to crypto/x509.
	unhandled := leaf.UnhandledCriticalExtensions[:0]
	for _, id := range leaf.UnhandledCriticalExtensions {
		if !id.Equal(oidSAN) {
			unhandled = append(unhandled, id)
		}
	}
	leaf.UnhandledCriticalExtensions = unhandled
	for i := range authorities {
		a := &authorities[i]
		if a.Anchor == nil {
			continue
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(a.Anchor)
		for _, c := range a.Intermediates {
			between.AddCert(c)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: leaf.NotBefore,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
		if err == nil && a.ValidFor.Contains(leaf.NotBefore) {
			return true
		}
	}
	return false
}
