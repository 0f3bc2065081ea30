package collect

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Extensions of certificates that name the OIDC issuer (fulcio, docs/oid-info.md):
// .1.8 holds a DER UTF8String, .1.1 the bare text; and the SAN's otherName type.
var (
	oidIssuer    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	oidIssuerV1  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	oidOtherName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
	oidSAN       = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// ClaimedSigner is who a claim says made it. Nothing is verified: anybody can
// write anything here. It is for listings that say so, never for a decision.
func ClaimedSigner(c *evidence.Claim) (evidence.Signer, error) {
	if len(c.Certificates) == 0 {
		hint, err := base64.StdEncoding.DecodeString(c.KeyHint)
		if err == nil && len(hint) == 32 {
			return evidence.Signer{Key: "sha256:" + hex.EncodeToString(hint)}, nil
		}
		return evidence.Signer{Key: c.KeyHint}, nil
	}
	cert, err := x509.ParseCertificate(c.Certificates[0])
	if err != nil {
		return evidence.Signer{}, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	if c.Notary != nil {
		sum := sha256.Sum256(cert.Raw)
		return evidence.Signer{Subject: cert.Subject.String(), Certificate: "sha256:" + hex.EncodeToString(sum[:])}, nil
	}
	signer := evidence.Signer{Identity: claimedIdentity(cert)}
	for _, ext := range cert.Extensions {
		switch {
		case ext.Id.Equal(oidIssuer):
			var s string
			if rest, err := asn1.UnmarshalWithParams(ext.Value, &s, "utf8"); err == nil && len(rest) == 0 {
				signer.Issuer = s
			}
		case ext.Id.Equal(oidIssuerV1) && signer.Issuer == "":
			signer.Issuer = string(ext.Value)
		}
	}
	return signer, nil
}

// claimedIdentity is the first subject alternative name.
func claimedIdentity(cert *x509.Certificate) string {
	switch {
	case len(cert.EmailAddresses) > 0:
		return cert.EmailAddresses[0]
	case len(cert.URIs) > 0:
		return cert.URIs[0].String()
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oidSAN) {
			return otherName(ext.Value)
		}
	}
	return ""
}

// otherName reads fulcio's SAN for user names: [0] { OID, [0] UTF8String }.
func otherName(san []byte) string {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(san, &names); err != nil || len(rest) > 0 {
		return ""
	}
	for _, n := range names {
		var other struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"utf8,explicit,tag:0"`
		}
		if n.Class != asn1.ClassContextSpecific || n.Tag != 0 {
			continue
		}
		if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err == nil && other.Type.Equal(oidOtherName) {
			return other.Value
		}
	}
	return ""
}
