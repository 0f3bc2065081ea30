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
// bytes that an SCT signs only inside a certificate that is signed, too, and that nobody
// needs. What it would encode is what is encoded: tests hold the two
// together byte for byte.

// constructed is the tag [n] of a constructed element.
func constructed(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// tbs is the TBSCertificate (RFC 5280, 4.1) of an identity's certificate, DER, but for
// the extensions that a CT log adds: the content of the whole, and that of the
// extensions, which end it.
type tbs struct{ head, extensions []byte }

// newTBS is for a certificate without a subject, for digital signatures and code
// signing. Of the template it takes serial number, times, key id, e-mail addresses, URIs
// and further extensions; spki is the certified key, DER.
func newTBS(template, parent *x509.Certificate, spki []byte) (t tbs, err error) {
	algorithm, _, err := algorithmOf(parent.PublicKey)
	if err != nil {
		return tbs{}, err
	}
	extensions, err := leafExtensions(template, parent)
	if err != nil {
		return tbs{}, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddASN1(constructed(0), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
	b.AddASN1BigInt(template.SerialNumber)
	addAlgorithm(b, algorithm)
	b.AddBytes(parent.RawSubject)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addTime(b, template.NotBefore)
		addTime(b, template.NotAfter)
	})
	b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // no subject
	b.AddBytes(spki)
	if t.head, err = b.Bytes(); err != nil {
		return tbs{}, err
	}
	b = cryptobyte.NewBuilder(make([]byte, 0, 512))
	addExtensions(b, extensions)
	addExtensions(b, template.ExtraExtensions)
	t.extensions, err = b.Bytes()
	return t, err
}

// with is the whole with last behind the other extensions.
func (t tbs) with(last ...pkix.Extension) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(t.head)+len(t.extensions)+256))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(t.head)
		b.AddASN1(constructed(3), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(t.extensions)
				addExtensions(b, last)
			})
		})
	})
	return b.Bytes()
}

// seal signs a TBSCertificate with the CA's key. The signature is checked, as
// crypto/x509 does: one that failing hardware made would tell about the key.
func (c *CA) seal(data []byte) ([]byte, error) {
	algorithm, hash, err := algorithmOf(c.cfg.CAKey.Public())
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(data)
	digest := h.Sum(nil)
	sig, err := c.cfg.CAKey.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate: %w", err)
	}
	if public, ok := c.cfg.CAKey.Public().(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(public, digest, sig) {
		return nil, errors.New("signing the certificate: the key made a signature that does not hold")
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(data)+256))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(data)
		addAlgorithm(b, algorithm)
		b.AddASN1BitString(sig)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	// Names are taken as they are when a certificate is made, and judged when it is read.
	if _, err := x509.ParseCertificate(der); err != nil {
		return nil, &nameError{err}
	}
	return der, nil
}

// nameError is an identity with which a certificate cannot be read.
type nameError struct{ err error }

func (e *nameError) Error() string { return "no certificate can name this identity: " + e.err.Error() }

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

// addAlgorithm is an AlgorithmIdentifier without parameters (RFC 5758, 3.2).
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
}

// addTime is a UTCTime through 2049 and a GeneralizedTime then (RFC 5280, 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func addExtensions(b *cryptobyte.Builder, list []pkix.Extension) {
	for _, e := range list {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(e.Id)
			if e.Critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(e.Value)
		})
	}
}

// leafExtensions are those that every certificate has, and its names (RFC 5280, 4.2.1).
func leafExtensions(template, parent *x509.Certificate) ([]pkix.Extension, error) {
	id := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, last} }
	keyID := cryptobyte.NewBuilder(nil)
	keyID.AddASN1OctetString(template.SubjectKeyId)
	out := []pkix.Extension{
		{Id: id(15), Critical: true, Value: []byte{3, 2, 7, 0x80}},             // key usage: digitalSignature
		{Id: id(37), Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}}, // extended: codeSigning
		{Id: id(14), Value: keyID.BytesOrPanic()},
	}
	if len(parent.SubjectKeyId) > 0 {
		authority := cryptobyte.NewBuilder(nil)
		authority.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(parent.SubjectKeyId) })
		})
		out = append(out, pkix.Extension{Id: id(35), Value: authority.BytesOrPanic()})
	}
	if len(template.EmailAddresses)+len(template.URIs) == 0 {
		return out, nil
	}
	names, err := alternativeNames(template)
	return append(out, pkix.Extension{Id: id(17), Critical: true, Value: names}), err
}

// alternativeNames are GeneralNames (RFC 5280, 4.2.1.6): all of them ASCII.
func alternativeNames(template *x509.Certificate) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add := func(tag cbasn1.Tag, kind, name string) {
			if !ascii(name) {
				b.SetError(fmt.Errorf("%s that is not ASCII", kind))
			}
			b.AddASN1(tag.ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
		}
		for _, e := range template.EmailAddresses {
			add(1, "an e-mail address", e)
		}
		for _, u := range template.URIs {
			add(6, "a URI", u.String())
		}
	})
	return b.Bytes()
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
