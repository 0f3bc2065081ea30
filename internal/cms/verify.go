package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"

	_ "crypto/sha512" // SHA-384 and SHA-512
)

// minRSABits is the smallest RSA modulus of a signer.
const minRSABits = 3072

func spki(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *signed) verify(content []byte, certs []*x509.Certificate) (*Signature, error) {
	h := s.hash.New()
	h.Write(content)
	if !bytes.Equal(h.Sum(nil), s.digest) {
		return nil, wrong(Unverified, "has a CMS signature over something else")
	}
	named := false
	for _, c := range certs {
		if !s.signedBy(c) {
			named = named || s.names(c)
			continue
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
			return nil, wrong(TooWeak, "has a CMS signature by an RSA key of less than %d bits", minRSABits)
		}
		return &Signature{Certificate: c, SigningTime: s.time, Hash: hashNames[s.hash]}, nil
	}
	if named {
		return nil, wrong(Unverified, "has a CMS signature that names a listed certificate and was not made with its key")
	}
	return nil, wrong(Unknown, "has a CMS signature by a key that is not listed")
}

var hashNames = map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}

// names reports whether the signature says that it is by the certificate. It proves nothing.
func (s *signed) names(c *x509.Certificate) bool {
	if s.keyID != nil {
		return bytes.Equal(s.keyID, c.SubjectKeyId)
	}
	serial, err := asn1.Marshal(c.SerialNumber)
	return err == nil && bytes.Equal(s.issuer, c.RawIssuer) && bytes.Equal(s.serial, serial)
}

// signedBy reports whether the certificate's key made the signature over the signed attributes.
func (s *signed) signedBy(c *x509.Certificate) bool {
	if k, ok := c.PublicKey.(ed25519.PublicKey); ok { // RFC 8419: the attributes themselves are signed
		return s.family == familyEd25519 && ed25519.Verify(k, s.attrs, s.signature)
	}
	h := s.hash.New()
	h.Write(s.attrs)
	sum := h.Sum(nil)
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return s.family == familyRSA && rsa.VerifyPKCS1v15(k, s.hash, sum, s.signature) == nil
	case *ecdsa.PublicKey:
		return s.family == familyECDSA && ecdsa.VerifyASN1(k, sum, s.signature)
	}
	return false
}
