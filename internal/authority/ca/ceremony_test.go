package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

const aYear = 8766 * time.Hour

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrOf(t *testing.T, key crypto.Signer, name pkix.Name) *x509.CertificateRequest {
	t.Helper()
	text, err := ca.NewCSR(key, name)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(text)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

var (
	rootName = pkix.Name{Organization: []string{"Example"}, CommonName: "Example root"}
	caName   = pkix.Name{Organization: []string{"Example"}, CommonName: "Example CA"}
)

// offline is a root and the chain that it gave to a key.
func offline(t *testing.T, rootCurve elliptic.Curve, key crypto.Signer, purpose string) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	rootKey := newKey(t, rootCurve)
	root, err := ca.NewOfflineRoot(rootKey, rootName, time.Now(), 10*aYear)
	if err != nil {
		t.Fatal(err)
	}
	made, err := ca.Certify(root, rootKey, csrOf(t, key, caName), purpose, time.Now(), 3*aYear)
	if err != nil {
		t.Fatal(err)
	}
	return rootKey, []*x509.Certificate{made, root}
}

// TestChains: a CA of either curve under a root of either issues certificates that
// verify up to the root, and says its whole chain.
func TestChains(t *testing.T) {
	t.Parallel()
	p, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		for _, own := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			key := newKey(t, own)
			_, chain := offline(t, root, key, ca.PurposeCA)
			ct := p256(t)
			c, err := ca.New(ca.Config{CAKey: key, Chain: chain, CTKey: ct, Issuers: set(t, issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p})})
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewServer(c.Handler())
			defer s.Close()
			a := &authority{url: s.URL, oidc: p, client: s.Client()}
			private := p256(t)
			status, answer := a.post(t, a.email(t, "alice@example.com"), body(publicPEM(t, private.Public()), prove(t, private, "alice@example.com")))
			certs := chainOf(t, status, answer)
			if len(certs) != 3 || !certs[1].Equal(chain[0]) || !certs[2].Equal(chain[1]) {
				t.Fatalf("%s under %s: %d certificates", own.Params().Name, root.Params().Name, len(certs))
			}
			checkSCT(t, certs[0], chain[0], &ct.PublicKey)
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(chain[1])
			between.AddCert(chain[0])
			if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
				t.Error(err)
			}
			for _, path := range []string{"/api/v1/rootCert", "/api/v2/trustBundle"} {
				resp, err := a.client.Get(s.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		}
	}
}

// chainOf is the certificates of an answer.
func chainOf(t *testing.T, status int, answer string) (certs []*x509.Certificate) {
	t.Helper()
	var got struct {
		Embedded struct {
			Chain struct{ Certificates []string }
		} `json:"signedCertificateEmbeddedSct"`
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	for _, text := range got.Embedded.Chain.Certificates {
		block, _ := pem.Decode([]byte(text))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

// TestCeremonyCertificates: what they say (Fulcio, docs/certificate-specification.md).
func TestCeremonyCertificates(t *testing.T) {
	t.Parallel()
	_, chain := offline(t, elliptic.P384(), p256(t), ca.PurposeCA)
	own, root := chain[0], chain[1]
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if !root.IsCA || root.MaxPathLen != 1 || root.KeyUsage != usage || len(root.ExtKeyUsage) != 0 || len(root.SubjectKeyId) == 0 || root.Subject.String() != root.Issuer.String() {
		t.Errorf("root %+v", root)
	}
	if !own.IsCA || own.MaxPathLen != 0 || !own.MaxPathLenZero || own.KeyUsage != usage || !slices.Equal(own.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) ||
		string(own.AuthorityKeyId) != string(root.SubjectKeyId) || len(own.SubjectKeyId) == 0 || own.NotAfter.Sub(own.NotBefore) > 3*aYear || own.NotAfter.After(root.NotAfter) {
		t.Errorf("intermediate %+v", own)
	}
	key := newKey(t, elliptic.P384())
	_, chain = offline(t, elliptic.P256(), key, ca.PurposeTSA)
	if tsa := chain[0]; tsa.IsCA || tsa.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(tsa.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		t.Errorf("timestamp authority %+v", tsa)
	}
	if err := ca.CheckTSAChain(chain, key.Public()); err != nil {
		t.Error(err)
	}
	if err := ca.CheckChain(chain, key.Public()); err == nil {
		t.Error("a timestamp authority is taken for a CA")
	}
}

func TestCeremonyRefuses(t *testing.T) {
	t.Parallel()
	key, rootKey := p256(t), newKey(t, elliptic.P384())
	root, err := ca.NewOfflineRoot(rootKey, rootName, time.Now(), 5*aYear)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, k := range map[string]crypto.Signer{"P-521": newKey(t, elliptic.P521()), "Ed25519": ed, "RSA": rsaKey} {
		if _, err := ca.NewOfflineRoot(k, rootName, time.Now(), aYear); err == nil {
			t.Errorf("%s: a root", name)
		}
		if _, err := ca.Certify(root, rootKey, csrOf(t, k, caName), ca.PurposeCA, time.Now(), aYear); err == nil {
			t.Errorf("%s: a CA", name)
		}
	}
	for name, try := range map[string]func() error{
		"another key": func() error {
			_, err := ca.Certify(root, newKey(t, elliptic.P384()), csrOf(t, key, caName), ca.PurposeCA, time.Now(), aYear)
			return err
		},
		"longer than the root": func() error {
			_, err := ca.Certify(root, rootKey, csrOf(t, key, caName), ca.PurposeCA, time.Now(), 6*aYear)
			return err
		},
		"the root's name": func() error {
			_, err := ca.Certify(root, rootKey, csrOf(t, key, rootName), ca.PurposeCA, time.Now(), aYear)
			return err
		},
		"no organization": func() error {
			_, err := ca.Certify(root, rootKey, csrOf(t, key, pkix.Name{CommonName: "x"}), ca.PurposeCA, time.Now(), aYear)
			return err
		},
		"another purpose": func() error {
			_, err := ca.Certify(root, rootKey, csrOf(t, key, caName), "web", time.Now(), aYear)
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: certified", name)
		}
	}
	chain := func(change func(*x509.Certificate)) []*x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: caName, NotBefore: root.NotBefore, NotAfter: root.NotAfter, IsCA: true, BasicConstraintsValid: true,
			MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
		change(template)
		der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), rootKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return []*x509.Certificate{c, root}
	}
	good := chain(func(*x509.Certificate) {})
	if err := ca.CheckChain(good, key.Public()); err != nil {
		t.Fatal(err)
	}
	_, others := offline(t, elliptic.P384(), key, ca.PurposeCA)
	for name, tc := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"no CA":           {chain(func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }), "not one of a CA"},
		"may not sign":    {chain(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "not one of a CA"},
		"for timestamps":  {chain(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }), "code signing"},
		"for web, too":    {chain(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "code signing alone"},
		"for anything":    {chain(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "code signing alone"},
		"after the root":  {chain(func(c *x509.Certificate) { c.NotAfter = root.NotAfter.Add(time.Hour) }), "when the next is not"},
		"before the root": {chain(func(c *x509.Certificate) { c.NotBefore = root.NotBefore.Add(-time.Hour) }), "when the next is not"},
		"no root":         {good[:1], "does not follow"},
		"turned round":    {[]*x509.Certificate{root, good[0]}, "not of the key"},
		"another root":    {[]*x509.Certificate{good[0], others[1]}, "not signed by the next"},
		"the root twice":  {[]*x509.Certificate{good[0], root, root}, "allows fewer"},
		"empty":           {nil, "0 certificates"},
		"another key's":   {func() []*x509.Certificate { _, c := offline(t, elliptic.P256(), p256(t), ca.PurposeCA); return c }(), "not of the key"},
		"the root's own":  {[]*x509.Certificate{root}, "not of the key"},
	} {
		if err := ca.CheckChain(tc.chain, key.Public()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
