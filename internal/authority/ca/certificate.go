package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/authority/der"
)

// A certificate is encoded here and not by x509.CreateCertificate, which gives the
// bytes that an SCT signs only with a signature that nobody needs, made and verified:
// half of what a certificate costs. What it would encode is what is encoded, and a
// test holds the two together.

// tbs is the TBSCertificate (RFC 5280, 4.1) of an identity's certificate without a
// subject, for digital signatures and code signing. Of the template it takes serial
// number, times, key id, e-mail addresses, URIs and further extensions, to which last
// is added; spki is the DER of the certified key.
func tbs(template, parent *x509.Certificate, spki []byte, last ...pkix.Extension) ([]byte, error) {
	for _, t := range []time.Time{template.NotBefore, template.NotAfter} {
		if y := t.UTC().Year(); y < 1950 || y > 9999 {
			return nil, fmt.Errorf("a certificate's time cannot be in the year %d", y)
		}
	}
	extensions, err := leafExtensions(template, parent)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for _, some := range [][]pkix.Extension{extensions, template.ExtraExtensions, last} {
		for _, e := range some {
			one, err := extension(e)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
	}
	oid, _, err := algorithmOf(parent.PublicKey)
	if err != nil {
		return nil, err
	}
	algorithm, err := der.Algorithm(oid)
	return der.Element(der.Sequence,
		[]byte{der.Context(0, true), 3, der.Integer, 1, 2}, // v3
		der.Natural(template.SerialNumber),
		algorithm,
		parent.RawSubject,
		der.Element(der.Sequence, der.Time(template.NotBefore), der.Time(template.NotAfter)),
		[]byte{der.Sequence, 0}, // no subject
		spki,
		der.Element(der.Context(3, true), der.Element(der.Sequence, list...)),
	), err
}

// seal signs a TBSCertificate with the CA's key. A signature that does not hold, as a
// key on failing hardware can make it, leaves the CA as little as it would crypto/x509.
func (c *CA) seal(tbs []byte) ([]byte, error) {
	oid, hash, err := algorithmOf(c.cfg.CAKey.Public())
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(tbs)
	digest := h.Sum(nil)
	sig, err := c.cfg.CAKey.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate: %w", err)
	}
	if public, ok := c.cfg.CAKey.Public().(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(public, digest, sig) {
		return nil, errors.New("signing the certificate: the key made a signature that does not hold")
	}
	algorithm, err := der.Algorithm(oid)
	return der.Element(der.Sequence, tbs, algorithm, der.Element(der.BitString, []byte{0}, sig)), err
}

// algorithmOf is how a CA's key signs (RFC 5758, 3.2).
func algorithmOf(public crypto.PublicKey) (asn1.ObjectIdentifier, crypto.Hash, error) {
	if k, ok := public.(*ecdsa.PublicKey); ok {
		switch k.Curve {
		case elliptic.P256():
			return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, crypto.SHA256, nil
		case elliptic.P384():
			return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, crypto.SHA384, nil
		}
	}
	return nil, 0, errors.New("the CA's key is neither an ECDSA P-256 nor a P-384 key")
}

func extension(e pkix.Extension) ([]byte, error) {
	id, err := asn1.Marshal(e.Id)
	var critical []byte
	if e.Critical {
		critical = []byte{1, 1, 0xff}
	}
	return der.Element(der.Sequence, id, critical, der.Element(der.OctetString, e.Value)), err
}

// leafExtensions are those that every certificate has, and its names (RFC 5280, 4.2.1).
func leafExtensions(template, parent *x509.Certificate) ([]pkix.Extension, error) {
	id := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, last} }
	out := []pkix.Extension{
		{Id: id(15), Critical: true, Value: []byte{3, 2, 7, 0x80}},                   // key usage: digitalSignature
		{Id: id(37), Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}},       // extended: codeSigning
		{Id: id(14), Value: append([]byte{4, 20}, template.SubjectKeyId[:20:20]...)}, // subject key id
	}
	if len(parent.SubjectKeyId) > 0 {
		out = append(out, pkix.Extension{Id: id(35), Value: der.Element(der.Sequence, der.Element(der.Context(0, false), parent.SubjectKeyId))})
	}
	if len(template.EmailAddresses)+len(template.URIs) == 0 {
		return out, nil
	}
	names, err := alternativeNames(template)
	return append(out, pkix.Extension{Id: id(17), Critical: true, Value: names}), err
}

// alternativeNames are GeneralNames (RFC 5280, 4.2.1.6): all of them ASCII.
func alternativeNames(template *x509.Certificate) ([]byte, error) {
	var names [][]byte
	add := func(tag int, name string) bool {
		names = append(names, der.Element(der.Context(tag, false), []byte(name)))
		return ascii(name)
	}
	for _, e := range template.EmailAddresses {
		if !add(1, e) {
			return nil, errors.New("an e-mail address that is not ASCII")
		}
	}
	for _, u := range template.URIs {
		if !add(6, u.String()) {
			return nil, errors.New("a URI that is not ASCII")
		}
	}
	return der.Element(der.Sequence, names...), nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
