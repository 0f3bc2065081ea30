package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/fulcio/pkg/certificate"
)

// TestEncoding: what we encode is byte for byte what crypto/x509 does, so that an SCT
// is over what any reader takes out of the certificate.
func TestEncoding(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		for _, keyID := range [][]byte{nil, {1, 2, 3}} {
			private, parent := root(t, curve, keyID)
			for name, change := range map[string]func(*x509.Certificate){
				"a person":    func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@example.com"} },
				"two of them": func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@example.com", "b@c"} },
				"a workflow": func(c *x509.Certificate) {
					c.URIs = []*url.URL{{Scheme: "https", Host: "github.com", Path: "/a/b/.github/workflows/r.yml@refs/heads/ä b"}}
				},
				"an address of its own": func(c *x509.Certificate) {
					c.ExtraExtensions = append([]pkix.Extension{{Id: []int{2, 5, 29, 17}, Critical: true, Value: []byte{0x30, 3, 0x82, 1, 'x'}}}, c.ExtraExtensions...)
				},
				"after 2049": func(c *x509.Certificate) {
					c.EmailAddresses = []string{"alice@example.com"}
					c.NotBefore, c.NotAfter = time.Date(2049, 12, 31, 23, 55, 0, 0, time.UTC), time.Date(2050, 1, 1, 0, 5, 0, 0, time.UTC)
				},
				"a long serial number": func(c *x509.Certificate) {
					c.SerialNumber = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
				},
			} {
				for _, public := range publicKeys(t) {
					template := template(t)
					change(template)
					der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private)
					if err != nil {
						t.Fatal(name, err)
					}
					want, err := x509.ParseCertificate(der)
					if err != nil {
						t.Fatal(name, err)
					}
					got, err := tbs(template, parent, want.RawSubjectPublicKeyInfo)
					if err != nil || !bytes.Equal(got, want.RawTBSCertificate) {
						t.Errorf("%s, %s, %T: %v\n%x\nwant\n%x", name, curve.Params().Name, public, err, got, want.RawTBSCertificate)
					}
					c := &CA{cfg: Config{CAKey: private}}
					sealed, err := c.seal(got)
					if err != nil {
						t.Fatal(name, err)
					}
					if cert, err := x509.ParseCertificate(sealed); err != nil || cert.CheckSignatureFrom(parent) != nil {
						t.Errorf("%s: the certificate does not verify: %v", name, err)
					}
				}
			}
		}
	}
}

func root(t *testing.T, curve elliptic.Curve, keyID []byte) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Ä"}, CommonName: "root"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: keyID}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if keyID == nil {
		cert.SubjectKeyId = nil // as others' roots have none
	}
	return private, cert
}

func publicKeys(t *testing.T) []crypto.PublicKey {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return []crypto.PublicKey{ec.Public(), ed, &rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1)), E: 65537}}
}

func template(t *testing.T) *x509.Certificate {
	t.Helper()
	extensions, err := certificate.Extensions{Issuer: "https://issuer.example", Subject: "ä subject", GithubWorkflowRepository: "a/b", BuildConfigURI: strings.Repeat("x", 300)}.Render()
	if err != nil {
		t.Fatal(err)
	}
	serial, err := serialNumber()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now().UTC().Truncate(time.Second)
	return &x509.Certificate{SerialNumber: serial, NotBefore: start, NotAfter: start.Add(Lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		SubjectKeyId: bytes.Repeat([]byte{0xa5}, 20), ExtraExtensions: extensions}
}

// TestEncodingRefuses: names that would not be what they seem, and a CA's key that
// signs badly or not as we do.
func TestEncodingRefuses(t *testing.T) {
	t.Parallel()
	private, parent := root(t, elliptic.P256(), nil)
	for name, change := range map[string]func(*x509.Certificate){
		"an address beyond ASCII": func(c *x509.Certificate) { c.EmailAddresses = []string{"ä@example.com"} },
		"a URI beyond ASCII":      func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Opaque: "ä"}} },
		"a time beyond 9999":      func(c *x509.Certificate) { c.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		template := template(t)
		change(template)
		if der, err := tbs(template, parent, nil); err == nil {
			t.Errorf("%s: %x", name, der)
		}
	}
	for name, k := range map[string]crypto.Signer{"a signature of something else": &wrongSigner{private}, "P-521": p521(t)} {
		c := &CA{cfg: Config{CAKey: k}}
		if der, err := c.seal([]byte{0x30, 0}); err == nil {
			t.Errorf("%s: %x", name, der)
		}
	}
}

// wrongSigner signs a digest with a bit that flipped.
type wrongSigner struct{ *ecdsa.PrivateKey }

func (w *wrongSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	flipped := bytes.Clone(digest)
	flipped[0] ^= 1
	return w.PrivateKey.Sign(r, flipped, opts)
}

func p521(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
