package interop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/ctlog"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// newKey is an ECDSA key.
func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// offlineRoot is a root of P-384 that certifies what a data folder asks for.
type offlineRoot struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newOfflineRoot(t *testing.T) *offlineRoot {
	t.Helper()
	r := &offlineRoot{key: newKey(t, elliptic.P384())}
	var err error
	name := pkix.Name{Organization: []string{"Example"}, CommonName: "Example offline root"}
	if r.cert, err = ca.NewOfflineRoot(r.key, name, time.Now(), 10*8766*time.Hour); err != nil {
		t.Fatal(err)
	}
	return r
}

// certify takes the folder's key of a service through the ceremony.
func (r *offlineRoot) certify(t *testing.T, dir, service string) {
	t.Helper()
	text, fingerprint, err := authority.CSR(dir, service, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(text)
	if err != nil || key.Fingerprint(csr.PublicKey) != fingerprint {
		t.Fatal(fingerprint, err)
	}
	made, err := ca.Certify(r.cert, r.key, csr, service, time.Now(), 8766*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, c := range []*x509.Certificate{made, r.cert} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if got, _, err := authority.TakeChain(dir, writeFile(t, "chain.pem", string(chain)), time.Now()); err != nil || got != service {
		t.Fatal(got, err)
	}
}

// TestOfflineRoot puts an authority under a root that stays offline, replaces its CA's
// key under that root, lets it submit to a CT log elsewhere and take tokens of another
// authority's issuer. After each step stock cosign 3 and 2 with a fresh TUF client
// believe all that was ever signed, and so do we.
func TestOfflineRoot(t *testing.T) {
	t.Parallel()
	r, other := hmtest.Authority(t), hmtest.Authority(t)
	root := newOfflineRoot(t)
	log := &ctlog.Log{Key: newKey(t, elliptic.P256())}
	server := httptest.NewServer(log)
	t.Cleanup(server.Close)
	public, err := key.PublicPEM(log.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "ca.yaml")
	text := fmt.Sprintf("oidc-issuers:\n  %[1]s:\n    issuer-url: %[1]s\n    client-id: sigstore\n    type: email\nct-log:\n  url: %[2]s/2026\n  public-key: |\n    %[3]s\n",
		other.URL, server.URL, strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n    "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var past []signedOnce
	one := func(when, issuer, token string, certifiedBy string) {
		t.Helper()
		c3, c2 := newCosign(t, r), newCosign2(t, r)
		s := signedOnce{when: when, issuer: issuer, blob: writeFile(t, "blob", when)}
		s.b3, s.b2 = s.blob+".3.json", s.blob+".2.json"
		c3.must("sign-blob", "--yes", "--identity-token", token, "--bundle", s.b3, s.blob)
		c2.must("sign-blob", "--new-bundle-format", "--yes", "--identity-token", token, "--fulcio-url", r.URL, "--rekor-url", r.URL, "--bundle", s.b2, s.blob)
		past = append(past, s)
		now := readRoot(t, r)
		for _, old := range past {
			by := []string{"--certificate-identity", alice, "--certificate-oidc-issuer", old.issuer}
			c3.must(args("verify-blob", by, "--bundle", old.b3, old.blob)...)
			c3.must(args("verify-blob", by, "--bundle", old.b2, old.blob)...)
			c2.must(args("verify-blob", "--new-bundle-format", by, "--bundle", old.b2, old.blob)...)
			for _, b := range []string{old.b2, old.b3} {
				if why := judged(t, now, b, old.when); why != "" {
					t.Errorf("signed %s, now %s: %s: %s", old.when, when, filepath.Base(b), why)
				}
			}
		}
		// An image, with cosign 2's older signature: the certificate and its chain as PEM.
		image := r.Image("app", when)
		c2.must("sign", "--yes", "--identity-token", token, "--fulcio-url", r.URL, "--rekor-url", r.URL, image)
		c2.must("verify", "--certificate-identity", alice, "--certificate-oidc-issuer", issuer, image)
		c3.must("verify", "--certificate-identity", alice, "--certificate-oidc-issuer", issuer, image)
		data, err := os.ReadFile(s.b3)
		if err != nil {
			t.Fatal(err)
		}
		claim, err := bundle.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(claim.Certificates[0])
		if err != nil || len(leaf.AuthorityKeyId) == 0 {
			t.Fatal(err)
		}
		certs, err := ca.ParseChain([]byte(get(t, r.URL+"/api/v1/rootCert")))
		if err != nil || leaf.CheckSignatureFrom(certs[0]) != nil || certs[len(certs)-1].Subject.CommonName != certifiedBy {
			t.Errorf("%s: the chain ends at %v, %v", when, certs[len(certs)-1].Subject, err)
		}
	}
	own := "Hallmark CA on 127.0.0.1"
	one("before the ceremony", r.URL, r.Token(alice), own)
	restart := func(cfg authority.Config) {
		t.Helper()
		cfg.Dir = r.Dir
		r = hmtest.Start(t, cfg)
	}
	r.Stop()
	root.certify(t, r.Dir, authority.ServiceCA)
	restart(authority.Config{})
	one("under the root", r.URL, r.Token(alice), root.cert.Subject.CommonName)
	r.Stop()
	root.certify(t, r.Dir, authority.ServiceTSA)
	restart(authority.Config{})
	one("with timestamps under the root", r.URL, r.Token(alice), root.cert.Subject.CommonName)
	r.Stop()
	if _, err := authority.Rotate(authority.RotateConfig{Dir: r.Dir, Service: authority.ServiceCA}); err != nil {
		t.Fatal(err)
	}
	root.certify(t, r.Dir, authority.ServiceCA)
	restart(authority.Config{})
	one("with a new key under the root", r.URL, r.Token(alice), root.cert.Subject.CommonName)
	r.Stop()
	restart(authority.Config{CAConfig: config})
	one("logged elsewhere", r.URL, r.Token(alice), root.cert.Subject.CommonName)
	if n := len(log.Seen()); n != 3 || len(log.Seen()[0]) != 3 {
		t.Errorf("the log saw %d chains", n)
	}
	one("by another issuer", other.URL, other.Token(alice), root.cert.Subject.CommonName)
	// Without the configuration the log's key stays published, and the chain in use.
	r.Stop()
	restart(authority.Config{})
	one("logged nowhere again", r.URL, r.Token(alice), root.cert.Subject.CommonName)
	if got, err := authority.Check(r.Dir); err != nil || len(got.Damage) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
