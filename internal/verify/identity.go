package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Object identifiers are variables only because Go has no constant slices.
var (
	oidSAN       = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidFulcio    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidOtherName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
)

// Last arcs of Fulcio's extensions that are read apart.
const (
	arcIssuerV1  = 1
	arcOtherName = 7 // a SAN's type, never an extension
	arcIssuerV2  = 8
)

// extensionNames are Fulcio's certificate extensions below
// 1.3.6.1.4.1.57264.1 by their last arc (sigstore/fulcio, docs/oid-info.md),
// named as sigstore-go names them. Up to 6 the value is bare text, after that a
// DER UTF8String.
func extensionName(arc int) string {
	names := [...]string{
		2: "githubWorkflowTrigger", 3: "githubWorkflowSHA", 4: "githubWorkflowName",
		5: "githubWorkflowRepository", 6: "githubWorkflowRef",
		9: "buildSignerURI", 10: "buildSignerDigest", 11: "runnerEnvironment",
		12: "sourceRepositoryURI", 13: "sourceRepositoryDigest", 14: "sourceRepositoryRef",
		15: "sourceRepositoryIdentifier", 16: "sourceRepositoryOwnerURI", 17: "sourceRepositoryOwnerIdentifier",
		18: "buildConfigURI", 19: "buildConfigDigest", 20: "buildTrigger", 21: "runInvocationURI",
		22: "sourceRepositoryVisibilityAtSigning", 23: "deploymentEnvironment", 24: "tokenSubject",
	}
	if arc >= 0 && arc < len(names) {
		return names[arc]
	}
	return ""
}

// Named is who a certificate is about, as a verifier will name them once somebody they
// believe vouches for it. It proves nothing: nobody is asked who issued it.
func Named(cert *x509.Certificate) (evidence.Signer, error) {
	s, r := identity(cert)
	if r != nil {
		return evidence.Signer{}, errors.New(r.Message)
	}
	return s, nil
}

// identity reads who a Fulcio certificate is about: exactly one subject
// alternative name, and the issuer that vouched for it. What a certificate may
// say in two ways it must say the same way.
func identity(cert *x509.Certificate) (evidence.Signer, *refusal) {
	var s evidence.Signer
	var san []byte
	var v1, v2 string
	for _, e := range cert.Extensions {
		switch {
		case e.Id.Equal(oidSAN):
			san = e.Value
		case len(e.Id) == len(oidFulcio)+1 && e.Id[:len(oidFulcio)].Equal(oidFulcio):
			arc := e.Id[len(oidFulcio)]
			text, ok := extensionText(arc, e.Value)
			if !ok {
				return s, refuse(CertIdentity, "extension %s of the certificate holds no text", e.Id)
			}
			switch name := extensionName(arc); {
			case arc == arcIssuerV1:
				v1 = text
			case arc == arcIssuerV2:
				v2 = text
			case name != "":
				if s.Extensions == nil {
					s.Extensions = make(map[string]string, len(cert.Extensions))
				}
				s.Extensions[name] = text
			}
		}
	}
	switch {
	case v1 != "" && v2 != "" && v1 != v2:
		return s, refuse(CertIdentity, "the certificate names two issuers, %q and %q", clip(v1), clip(v2))
	case v2 != "":
		s.Issuer = v2
	default:
		s.Issuer = v1
	}
	if s.Issuer == "" {
		return s, refuse(CertIdentity, "the certificate does not say which issuer vouched for its identity")
	}
	var r *refusal
	s.Identity, r = subjectAlternativeName(san)
	return s, r
}

// extensionText is the text of a Fulcio extension; unknown ones are not read.
func extensionText(arc int, value []byte) (string, bool) {
	if arc <= 6 {
		return string(value), len(value) > 0 && printable(value)
	}
	if extensionName(arc) == "" && arc != arcIssuerV2 {
		return "", true
	}
	in := cryptobyte.String(value)
	var text cryptobyte.String
	if !in.ReadASN1(&text, cbasn1.UTF8String) || !in.Empty() || !printable(text) {
		return "", false
	}
	return string(text), true
}

// printable keeps control characters out of identities: they end in terminals and logs.
func printable(b []byte) bool {
	for len(b) > 0 {
		r, size := rune(b[0]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(b)
		}
		if r < 0x20 || r == 0x7f || r == utf8.RuneError && size == 1 {
			return false
		}
		b = b[size:]
	}
	return true
}

// subjectAlternativeName is the one name of the extension: an e-mail address, a
// URI or Fulcio's OtherName (RFC 5280, 4.2.1.6).
func subjectAlternativeName(value []byte) (string, *refusal) {
	in := cryptobyte.String(value)
	var names, name cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) || !in.Empty() || !names.ReadAnyASN1(&name, &tag) {
		return "", refuse(CertIdentity, "the certificate names no identity")
	}
	if !names.Empty() {
		return "", refuse(CertIdentity, "the certificate names more than one identity")
	}
	switch tag {
	case cbasn1.Tag(1).ContextSpecific(), cbasn1.Tag(6).ContextSpecific():
		// IA5String: ASCII
		for _, c := range name {
			if c >= utf8.RuneSelf {
				return "", refuse(CertIdentity, "the certificate's identity is not ASCII where it must be")
			}
		}
	case cbasn1.Tag(0).ContextSpecific().Constructed():
		var id asn1.ObjectIdentifier
		var inner, text cryptobyte.String
		if !name.ReadASN1ObjectIdentifier(&id) || !id.Equal(oidOtherName) ||
			!name.ReadASN1(&inner, cbasn1.Tag(0).ContextSpecific().Constructed()) || !name.Empty() ||
			!inner.ReadASN1(&text, cbasn1.UTF8String) || !inner.Empty() {
			return "", refuse(CertIdentity, "the certificate's OtherName is not the kind that Fulcio issues")
		}
		name = text
	default:
		return "", refuse(CertIdentity, "the certificate's identity is neither an e-mail address, a URI nor Fulcio's OtherName")
	}
	if len(name) == 0 || !printable(name) {
		return "", refuse(CertIdentity, "the certificate's identity is empty or holds control characters")
	}
	return string(name), nil
}
