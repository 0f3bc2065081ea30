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

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
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
	extensions, err := leafExtensions(template, parent)
	if err != nil {
		return nil, err
	}
	algorithm, _, err := algorithmOf(parent.PublicKey)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1BigInt(template.SerialNumber)
		addAlgorithm(b, algorithm)
		b.AddBytes(parent.RawSubject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, template.NotBefore)
			addTime(b, template.NotAfter)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // no subject
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, list := range [][]pkix.Extension{extensions, template.ExtraExtensions, last} {
					for _, e := range list {
						addExtension(b, e)
					}
				}
			})
		})
	})
	return b.Bytes()
}

// seal signs a TBSCertificate with the CA's key. A signature that does not hold, as a
// key on failing hardware can make it, leaves the CA as little as it would crypto/x509.
func (c *CA) seal(tbs []byte) ([]byte, error) {
	algorithm, hash, err := algorithmOf(c.cfg.CAKey.Public())
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
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		addAlgorithm(b, algorithm)
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
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

func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
}

// addTime is UTCTime through 2049 (RFC 5280, 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func addExtension(b *cryptobyte.Builder, e pkix.Extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.Id)
		if e.Critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.Value)
	})
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
		value, err := build(func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(parent.SubjectKeyId) })
			})
		})
		if err != nil {
			return nil, err
		}
		out = append(out, pkix.Extension{Id: id(35), Value: value})
	}
	if len(template.EmailAddresses)+len(template.URIs) == 0 {
		return out, nil
	}
	names, err := alternativeNames(template)
	return append(out, pkix.Extension{Id: id(17), Critical: true, Value: names}), err
}

// alternativeNames are GeneralNames (RFC 5280, 4.2.1.6): all of them ASCII.
func alternativeNames(template *x509.Certificate) ([]byte, error) {
	for _, e := range template.EmailAddresses {
		if !ascii(e) {
			return nil, errors.New("an e-mail address that is not ASCII")
		}
	}
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, e := range template.EmailAddresses {
				b.AddASN1(cbasn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(e)) })
			}
			for _, u := range template.URIs {
				text := u.String()
				if !ascii(text) {
					b.SetError(errors.New("a URI that is not ASCII"))
				}
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
			}
		})
	})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func build(what func(*cryptobyte.Builder)) ([]byte, error) {
	var b cryptobyte.Builder
	what(&b)
	return b.Bytes()
}
