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
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
					sameAsX509(t, name, template, parent, public, private)
				}
			}
		}
	}
}

// sameAsX509 encodes a certificate as we do and as crypto/x509 does, with and without
// one more extension at the end.
func sameAsX509(t *testing.T, name string, template, parent *x509.Certificate, public crypto.PublicKey, private *ecdsa.PrivateKey) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(name, err)
	}
	content, err := newTBS(template, parent, spki)
	if err != nil {
		t.Fatal(name, err)
	}
	c := &CA{cfg: Config{CAKey: private}}
	for _, last := range [][]pkix.Extension{nil, {{Id: oidSCTList(), Value: bytes.Repeat([]byte{4}, 124)}}, {poison()}} {
		whole := *template
		whole.ExtraExtensions = append(slices.Clone(template.ExtraExtensions), last...)
		der, err := x509.CreateCertificate(rand.Reader, &whole, parent, public, private)
		if err != nil {
			t.Fatal(name, err)
		}
		want, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := content.with(last...)
		if err != nil || !bytes.Equal(got, want.RawTBSCertificate) {
			t.Fatalf("%s, %s, %T: %v\n%.2000x\nwant\n%.2000x", name, private.Params().Name, public, err, got, want.RawTBSCertificate)
		}
		sealed, err := c.seal(got)
		if err != nil {
			t.Fatal(name, err)
		}
		cert, err := x509.ParseCertificate(sealed)
		if err != nil || cert.CheckSignatureFrom(parent) != nil {
			t.Fatalf("%s: the certificate does not verify: %v", name, err)
		}
		if algorithm := outer(t, sealed); !bytes.Equal(algorithm, outer(t, der)) || !bytes.Equal(cert.RawTBSCertificate, want.RawTBSCertificate) {
			t.Fatalf("%s: signed with %x", name, algorithm)
		}
	}
}

// outer is a certificate's signature algorithm outside of what is signed, DER.
func outer(t *testing.T, der []byte) []byte {
	t.Helper()
	var c struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(der, &c); err != nil || len(rest) > 0 || c.Signature.BitLength%8 != 0 {
		t.Fatal("not a certificate:", err)
	}
	return c.Algorithm.FullBytes
}

// TestEncodingOfAnything: the same with names, numbers, times and lengths by chance,
// where elements begin to have longer lengths.
func TestEncodingOfAnything(t *testing.T) {
	t.Parallel()
	private, parent := root(t, elliptic.P256(), []byte("the root's"))
	public := publicKeys(t)[1]
	seed := uint64(time.Now().UnixNano())
	r := mathrand.New(mathrand.NewPCG(seed, 0))
	lengths := []int{0, 1, 2, 100, 126, 127, 128, 129, 240, 254, 255, 256, 1000, 65530, 65535, 65536, 70000}
	for i := range 300 {
		template := template(t)
		template.SerialNumber = new(big.Int).Add(new(big.Int).Rsh(template.SerialNumber, uint(r.IntN(120))), big.NewInt(1))
		template.NotBefore = time.Unix(r.Int64N(253402300799-600), 0).In(time.FixedZone("", r.IntN(86400)-43200))
		template.NotAfter = template.NotBefore.Add(Lifetime)
		template.ExtraExtensions = nil
		for n := range r.IntN(4) {
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: []int{1, 3, 6, 1, 4, 1, 57264, 1, n, r.IntN(1 << 20)},
				Critical: r.IntN(2) == 0, Value: bytes.Repeat([]byte{'v'}, lengths[r.IntN(len(lengths))])})
		}
		for range r.IntN(3) {
			template.EmailAddresses = append(template.EmailAddresses, strings.Repeat("a", lengths[r.IntN(12)])+"@example.com")
		}
		for range r.IntN(3) {
			template.URIs = append(template.URIs, &url.URL{Scheme: "https", Host: "example.com", Path: "/" + strings.Repeat("ü", lengths[r.IntN(9)])})
		}
		sameAsX509(t, fmt.Sprintf("number %d of the seed %d", i, seed), template, parent, public, private)
	}
}

// TestUnreadableNames: a name that crypto/x509 writes and does not read is refused, and
// not handed out in a certificate that no verifier takes.
func TestUnreadableNames(t *testing.T) {
	t.Parallel()
	private, parent := root(t, elliptic.P256(), nil)
	c := &CA{cfg: Config{CAKey: private}}
	spki, err := x509.MarshalPKIXPublicKey(publicKeys(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	for uri, good := range map[string]bool{
		"https://gitlab.example.com/x": true, "spiffe://example.org/x": true,
		"https://a..b/x": false, "https://gitlab.example.com./x": false, "spiffe://example.org./x": false,
	} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template := template(t)
		template.URIs = []*url.URL{u}
		content, err := newTBS(template, parent, spki)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.sealed(content, poison())
		if unreadable := errors.As(err, new(*nameError)); unreadable == good || good && err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// TestEncodingOpenSSL: another reader takes it for what it is, too.
func TestEncodingOpenSSL(t *testing.T) {
	t.Parallel()
	private, parent := root(t, elliptic.P384(), []byte("the root's"))
	template := template(t)
	template.EmailAddresses = []string{"alice@example.com"}
	spki, err := x509.MarshalPKIXPublicKey(publicKeys(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	content, err := newTBS(template, parent, spki)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := (&CA{cfg: Config{CAKey: private}}).sealed(content, pkix.Extension{Id: []int{1, 2, 3}, Value: []byte{5, 0}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, der := range map[string][]byte{"root": parent.Raw, "leaf": leaf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(certPEM(der)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(args ...string) string {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	openssl("verify", "-CAfile", "root", "leaf")
	text := openssl("x509", "-in", "leaf", "-noout", "-text", "-certopt", "ext_dump")
	for _, want := range []string{"Version: 3 (0x2)", "Signature Algorithm: ecdsa-with-SHA384", "Subject: \n", "NIST CURVE: P-521",
		"X509v3 Key Usage: critical\n                Digital Signature\n", "X509v3 Extended Key Usage: \n                Code Signing\n",
		"X509v3 Subject Alternative Name: critical\n                email:alice@example.com\n", "1.2.3: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
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
		if got, err := newTBS(template, parent, nil); err == nil {
			t.Errorf("%s: %x", name, got)
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
