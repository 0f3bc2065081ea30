package tsa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// scheme is how the token is signed.
type scheme struct {
	hash              crypto.Hash
	digest, signature asn1.ObjectIdentifier
}

func schemeFor(pub *ecdsa.PublicKey) (scheme, error) {
	ecdsaWith := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, last} }
	switch pub.Curve {
	case elliptic.P256():
		return scheme{crypto.SHA256, oidSHA256(), ecdsaWith(2)}, nil
	case elliptic.P384():
		return scheme{crypto.SHA384, oidSHA384(), ecdsaWith(3)}, nil
	}
	return scheme{}, errors.New("timestamp authority: the key is neither P-256 nor P-384")
}

func cmsOID(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113549, 1}, last...)
}

func oidSignedData() asn1.ObjectIdentifier           { return cmsOID(7, 2) }
func oidContentType() asn1.ObjectIdentifier          { return cmsOID(9, 3) }
func oidMessageDigest() asn1.ObjectIdentifier        { return cmsOID(9, 4) }
func oidSigningTime() asn1.ObjectIdentifier          { return cmsOID(9, 5) }
func oidTSTInfo() asn1.ObjectIdentifier              { return cmsOID(9, 16, 1, 4) }
func oidSigningCertificateV2() asn1.ObjectIdentifier { return cmsOID(9, 16, 2, 47) }

func context(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// respond is TimeStampResp{granted, token} (RFC 3161 2.4.2).
func (s *TSA) respond(req *request, now time.Time) ([]byte, error) {
	info, err := s.tstInfo(req, now)
	if err != nil {
		return nil, err
	}
	signerInfo, err := s.signerInfo(info, now)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(0) }) // granted
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {                      // ContentInfo, RFC 5652 3
			b.AddASN1ObjectIdentifier(oidSignedData())
			b.AddASN1(context(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { s.addSignedData(b, req, info, signerInfo) })
			})
		})
	})
	return b.Bytes()
}

// addSignedData is RFC 5652 5.1 with the version and content type of RFC 3161.
func (s *TSA) addSignedData(b *cryptobyte.Builder, req *request, info, signerInfo []byte) {
	b.AddASN1Int64(3)
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { addAlgorithm(b, s.scheme.digest) })
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidTSTInfo())
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(info) })
	})
	if req.certReq {
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { addSetOf(b, rawCertificates(s.certificates)) })
	}
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(signerInfo) })
}

func rawCertificates(certs []*x509.Certificate) (raw [][]byte) {
	for _, c := range certs {
		raw = append(raw, c.Raw)
	}
	return raw
}

// addSetOf adds the elements in DER's order (X.690 11.6).
func addSetOf(b *cryptobyte.Builder, elements [][]byte) {
	elements = slices.Clone(elements)
	slices.SortFunc(elements, bytes.Compare)
	for _, e := range elements {
		b.AddBytes(e)
	}
}

// addAlgorithm leaves the parameters out, as RFC 5754 2 and 3.2 want it.
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
}

// addDirectoryName is GeneralName.directoryName of a DER Name.
func addDirectoryName(b *cryptobyte.Builder, name []byte) {
	b.AddASN1(context(4), func(b *cryptobyte.Builder) { b.AddBytes(name) })
}

// tstInfo is the DER TSTInfo (RFC 3161 2.4.2). genTime has whole seconds, so
// the accuracy is one second.
func (s *TSA) tstInfo(req *request, now time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(s.cfg.Policy)
		b.AddBytes(req.imprint)
		b.AddASN1BigInt(randomSerial())
		b.AddASN1GeneralizedTime(now)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(1) })
		b.AddBytes(req.nonce)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { addDirectoryName(b, s.leaf.RawSubject) })
	})
	return b.Bytes()
}

// signerInfo signs info (RFC 5652 5.3, 5.4).
func (s *TSA) signerInfo(info []byte, now time.Time) ([]byte, error) {
	attributes, err := s.attributes(info, now)
	if err != nil {
		return nil, err
	}
	// What is signed is the SET OF itself; in the structure it is tagged [0].
	var set cryptobyte.Builder
	set.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { addSetOf(b, attributes) })
	signed, err := set.Bytes()
	if err != nil {
		return nil, err
	}
	h := s.scheme.hash.New()
	h.Write(signed)
	signature, err := s.cfg.Key.Sign(rand.Reader, h.Sum(nil), s.scheme.hash)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(s.leaf.RawIssuer)
			b.AddASN1BigInt(s.leaf.SerialNumber)
		})
		addAlgorithm(b, s.scheme.digest)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { addSetOf(b, attributes) })
		addAlgorithm(b, s.scheme.signature)
		b.AddASN1OctetString(signature)
	})
	return b.Bytes()
}

// attributes are the signed ones: RFC 5652 11.1-11.3 and, as RFC 5816 wants it,
// the signing certificate with its SHA-256.
func (s *TSA) attributes(info []byte, now time.Time) ([][]byte, error) {
	h := s.scheme.hash.New()
	h.Write(info)
	digest := h.Sum(nil)
	var out [][]byte
	var errs []error
	add := func(oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, value)
		})
		der, err := b.Bytes()
		out, errs = append(out, der), append(errs, err)
	}
	add(oidContentType(), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidTSTInfo()) })
	add(oidMessageDigest(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) })
	add(oidSigningTime(), func(b *cryptobyte.Builder) {
		// RFC 5652 11.3: UTCTime through 2049.
		if now.Year() < 2050 {
			b.AddASN1UTCTime(now)
		} else {
			b.AddASN1GeneralizedTime(now)
		}
	})
	add(oidSigningCertificateV2(), s.addSigningCertificate)
	return out, errors.Join(errs...)
}

// addSigningCertificate is SigningCertificateV2 (RFC 5035 3). The hash
// algorithm is SHA-256, its default, and so must not be encoded.
func (s *TSA) addSigningCertificate(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ESSCertIDv2
				b.AddASN1OctetString(s.certHash)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // IssuerSerial
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addDirectoryName(b, s.leaf.RawIssuer) })
					b.AddASN1BigInt(s.leaf.SerialNumber)
				})
			})
		})
	})
}
