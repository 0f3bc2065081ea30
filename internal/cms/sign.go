package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Sign makes a detached signature over content with the key of cert, in DER, with SHA-256 (Ed25519
// keys: SHA-512, RFC 8419, 3). It contains no certificate and the signing time at.
func Sign(content []byte, cert *x509.Certificate, key crypto.Signer, at time.Time) ([]byte, error) {
	if same, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(key.Public()) {
		return nil, errors.New("the key is not that of the certificate")
	}
	hash, hashID, opts := crypto.SHA256, oidSHA256, crypto.SignerOpts(crypto.SHA256)
	var algorithm string
	switch key.Public().(type) {
	case ed25519.PublicKey:
		hash, hashID, algorithm, opts = crypto.SHA512, oidSHA512, oidEd25519, crypto.Hash(0)
	case *ecdsa.PublicKey:
		algorithm = oidECDSA256
	case *rsa.PublicKey:
		algorithm = oidRSAWith256
	default:
		return nil, errors.New("only RSA, ECDSA and Ed25519 keys make CMS signatures")
	}
	h := hash.New()
	h.Write(content)
	attrs, err := attributes(h.Sum(nil), at)
	if err != nil {
		return nil, err
	}
	message := attrs
	if opts.HashFunc() != 0 {
		h := hash.New()
		h.Write(attrs)
		message = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		return nil, err
	}
	der, err := signedData(cert, hashID, algorithm, attrs, signature)
	if err != nil {
		return nil, err
	}
	if _, err := Verify(der, content, []*x509.Certificate{cert}); err != nil {
		return nil, errors.New("the key made a signature that does not verify: it is thrown away")
	}
	return der, nil
}

// attributes are the signed attributes as a SET in the order of DER.
func attributes(digest []byte, at time.Time) ([]byte, error) {
	attribute := func(id string, value func(*cryptobyte.Builder)) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, id)
			b.AddASN1(cbasn1.SET, value)
		})
		return b.BytesOrPanic() // fails for lengths that nothing here has
	}
	all := [][]byte{
		attribute(oidContentType, func(b *cryptobyte.Builder) { addOID(b, oidData) }),
		attribute(oidDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) }),
		attribute(oidSigningTime, func(b *cryptobyte.Builder) {
			if at = at.UTC(); at.Year() < 1950 || at.Year() >= 2050 { // RFC 5652, 11.3
				b.AddASN1GeneralizedTime(at)
			} else {
				b.AddASN1UTCTime(at)
			}
		}),
	}
	slices.SortFunc(all, slices.Compare)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		for _, a := range all {
			b.AddBytes(a)
		}
	})
	return b.Bytes()
}

func signedData(cert *x509.Certificate, hashID, algorithm string, attrs, signature []byte) ([]byte, error) {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, err
	}
	hash := func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, hashID) })
	}
	signer := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(cert.RawIssuer); b.AddBytes(serial) })
		hash(b)
		b.AddBytes(append([]byte{byte(tag0)}, attrs[1:]...))
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, algorithm)
			if algorithm == oidRSAWith256 {
				b.AddASN1NULL()
			}
		})
		b.AddASN1OctetString(signature)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, oidSignedData)
		b.AddASN1(tag0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, hash)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oidData) })
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, signer) })
			})
		})
	})
	return b.Bytes()
}

func addOID(b *cryptobyte.Builder, id string) {
	b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(id)) })
}
