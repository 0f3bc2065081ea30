package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// rootCA is an offline root.
type rootCA struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newRootCA(t *testing.T, start time.Time, life time.Duration) rootCA {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.NewOfflineRoot(k, pkix.Name{Organization: []string{"Example"}, CommonName: "Example root"}, start, life)
	if err != nil {
		t.Fatal(err)
	}
	return rootCA{k, c}
}

// chain is what the root makes of a request, PEM.
func (r rootCA) chain(t *testing.T, csr []byte, purpose string, start time.Time, life time.Duration) string {
	t.Helper()
	parsed, err := ca.ParseCSR(csr)
	if err != nil {
		t.Fatal(err)
	}
	made, err := ca.Certify(r.cert, r.key, parsed, purpose, start, life)
	if err != nil {
		t.Fatal(err)
	}
	return pemText(made) + pemText(r.cert)
}

func pemText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func save(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// publishedCAs are the chains of the folder's trusted root.
func publishedRoot(t *testing.T, dir string) *trust.Root {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.ParseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTakeChain: a chain is published at once beside the one before and is kept; what
// will not do is refused, and nothing is changed by it.
func TestTakeChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, end := up(t, authority.Config{Dir: dir})
	now, year := time.Now(), 8766*time.Hour
	root := newRootCA(t, now, 10*year)
	request := func(service string) []byte {
		t.Helper()
		csr, fingerprint, err := authority.CSR(dir, service, nil)
		if err != nil {
			t.Fatal(err)
		}
		if parsed, err := ca.ParseCSR(csr); err != nil || key.Fingerprint(parsed.PublicKey) != fingerprint {
			t.Fatal(fingerprint, err)
		}
		return csr
	}
	csr, tsaCSR := request(authority.ServiceCA), request(authority.ServiceTSA) // beside a running authority
	good := root.chain(t, csr, ca.PurposeCA, now, year)
	if _, _, err := authority.TakeChain(dir, save(t, "chain.pem", good), now); err == nil || !strings.Contains(fault.HintOf(err), "stop it first") {
		t.Errorf("beside a running one: %v", err)
	}
	if _, _, err := authority.CSR(dir, authority.ServiceLog, nil); fault.KindOf(err) != fault.Usage {
		t.Errorf("the log's certificate: %v", err)
	}
	end()
	before, err := os.ReadFile(filepath.Join(dir, "authority.json"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ca.NewCSR(stranger, pkix.Name{Organization: []string{"x"}, CommonName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	expired := newRootCA(t, now.Add(-3*year), 5*year)
	only, _, _ := strings.Cut(good, "-----END CERTIFICATE-----\n")
	only += "-----END CERTIFICATE-----\n"
	for name, tc := range map[string]struct{ text, want string }{
		"another key's":         {root.chain(t, theirs, ca.PurposeCA, now, year), "none of the present keys"},
		"for the other purpose": {root.chain(t, csr, ca.PurposeTSA, now, year), "not one of a CA"},
		"of the other service":  {root.chain(t, tsaCSR, ca.PurposeCA, now, year), "timestamps alone"},
		"usage not critical":    {notCritical(t, root, tsaCSR), "is not critical"},
		"over":                  {expired.chain(t, csr, ca.PurposeCA, now.Add(-2*year), year), "is valid from"},
		"not yet":               {root.chain(t, csr, ca.PurposeCA, now.Add(year), year), "is valid from"},
		"no root":               {only, "and then the root"},
		"another root":          {only + pemText(newRootCA(t, now, 10*year).cert), "not issued by the next"},
		"turned round":          {pemText(root.cert) + only, "not issued by the next"},
		"text behind":           {good + "x", "something else"},
		"a key in it":           {good + "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "something else"},
		"empty":                 {"", "no certificate"},
	} {
		if _, _, err := authority.TakeChain(dir, save(t, "chain.pem", tc.text), now); err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "authority.json")); err != nil || string(after) != string(before) {
		t.Error("a refused chain changed the state")
	}
	for range 2 { // the same again changes nothing
		service, chain, err := authority.TakeChain(dir, save(t, "chain.pem", good), now)
		if err != nil || service != authority.ServiceCA || len(chain) != 2 {
			t.Fatal(service, err)
		}
		if r := publishedRoot(t, dir); len(r.CAs) != 2 || len(r.TSAs) != 1 {
			t.Errorf("%d CAs and %d timestamp authorities are published", len(r.CAs), len(r.TSAs))
		}
	}
	if service, _, err := authority.TakeChain(dir, save(t, "chain.pem", root.chain(t, tsaCSR, ca.PurposeTSA, now, year)), now); err != nil || service != authority.ServiceTSA {
		t.Fatal(service, err)
	}
	// A renewed one: three are published, and the newest signs.
	renewed := root.chain(t, csr, ca.PurposeCA, now, 2*year)
	if _, _, err := authority.TakeChain(dir, save(t, "chain.pem", renewed), now); err != nil {
		t.Fatal(err)
	}
	if r := publishedRoot(t, dir); len(r.CAs) != 3 || len(r.TSAs) != 2 {
		t.Errorf("%d CAs and %d timestamp authorities are published", len(r.CAs), len(r.TSAs))
	}
	if got, err := authority.Check(dir); err != nil || len(got.Damage) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	a, _ := up(t, authority.Config{Dir: dir})
	if got := string(fetch(t, a.Info().URL+"/api/v1/rootCert")); got != renewed {
		t.Error("the chain that signs is not the newest")
	}
}

// TestCAConfigRefuses: a wrong configuration ends the start before anything is made.
func TestCAConfigRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"oidc-issuers: {}\n":                       "0 issuers",
		"ct-log: {url: \"http://ct.example\"}\n":   "key",
		"ct-log: {url: https://ct.example}\n":      "key",
		"ct-log: {public-key: x}\n":                "key",
		"oidc-issuers:\n  x: {issuer-url: x}\n":    "https URL",
		"oidc-issuers:\n  x: {issuer-url: x, y}\n": "y",
	} {
		path := save(t, "ca.yaml", text)
		_, err := authority.Open(authority.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CAConfig: path})
		if err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
	dir := t.TempDir()
	a, end := up(t, authority.Config{Dir: dir})
	end()
	own := a.Info().Issuer
	path := save(t, "ca.yaml", "oidc-issuers:\n  "+own+": {issuer-url: \""+own+"\", client-id: x, type: email}\n")
	if _, err := authority.Open(authority.Config{Dir: dir, Listen: a.Info().Registry, CAConfig: path}); err == nil || !strings.Contains(err.Error(), "own issuer") {
		t.Error(err)
	}
}

// fetch is the body of a URL that answers 200.
func fetch(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return data
}
