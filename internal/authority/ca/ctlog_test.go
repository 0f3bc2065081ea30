package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/hmtest/ctlog"
)

// withLog is a CA that submits to a log.
func withLog(t *testing.T, l *ctlog.Log) (*authority, []*x509.Certificate, *httptest.Server) {
	t.Helper()
	p, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	at := httptest.NewServer(l)
	t.Cleanup(at.Close)
	log, err := ca.NewCTLog(at.URL+"/2026/", l.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := p256(t)
	_, chain := offline(t, elliptic.P384(), key, ca.PurposeCA)
	c, err := ca.New(ca.Config{CAKey: key, Chain: chain, CTLog: log, Issuers: set(t, issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p})})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c.Handler())
	t.Cleanup(s.Close)
	return &authority{url: s.URL, oidc: p, client: s.Client()}, chain, at
}

func (a *authority) ask(t *testing.T) (int, string) {
	t.Helper()
	private := p256(t)
	return a.post(t, a.email(t, "alice@example.com"), body(publicPEM(t, private.Public()), prove(t, private, "alice@example.com")))
}

// TestCTLog: the precertificate with its whole chain is submitted before the
// certificate is issued, and the certificate differs from it in the SCT alone.
func TestCTLog(t *testing.T) {
	t.Parallel()
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, key := range []crypto.Signer{p256(t), rsaKey} {
		l := &ctlog.Log{Key: key}
		a, chain, _ := withLog(t, l)
		status, answer := a.ask(t)
		certs := chainOf(t, status, answer)
		if len(l.Seen()) != 1 || len(l.Seen()[0]) != 3 || !l.Seen()[0][1].Equal(chain[0]) || !l.Seen()[0][2].Equal(chain[1]) {
			t.Fatalf("the log saw %d chains", len(l.Seen()))
		}
		precertificate, _ := without(t, l.Seen()[0][0].RawTBSCertificate, "1.3.6.1.4.1.11129.2.4.3")
		final, sct := without(t, certs[0].RawTBSCertificate, "1.3.6.1.4.1.11129.2.4.2")
		if string(precertificate) != string(final) || len(sct) == 0 {
			t.Error("the certificate is not the one that was logged")
		}
	}
}

// TestCTLogRefuses: without an SCT that holds there is no certificate, and the answer
// names the service and the step.
func TestCTLogRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(map[string]any)
		status int
		want   string
	}{
		"an error":           {nil, 500, "add-pre-chain: http://127.0.0.1:"},
		"a redirect":         {nil, 302, "status 302"},
		"another version":    {func(a map[string]any) { a["sct_version"] = 1 }, 0, "version 1"},
		"no version":         {func(a map[string]any) { delete(a, "sct_version") }, 0, "RFC 6962"},
		"another log":        {func(a map[string]any) { a["id"] = make([]byte, 32) }, 0, "another key"},
		"of last year":       {func(a map[string]any) { a["timestamp"] = time.Now().Add(-8766 * time.Hour).UnixMilli() }, 0, "not of now"},
		"of tomorrow":        {func(a map[string]any) { a["timestamp"] = time.Now().Add(24 * time.Hour).UnixMilli() }, 0, "not of now"},
		"a moment later":     {func(a map[string]any) { a["timestamp"] = a["timestamp"].(uint64) + 1 }, 0, "does not match"},
		"other extensions":   {func(a map[string]any) { a["extensions"] = []byte{7, 8} }, 0, "does not match"},
		"another signature":  {func(a map[string]any) { s := a["signature"].([]byte); s[len(s)-1] ^= 1 }, 0, "does not match"},
		"SHA-1":              {func(a map[string]any) { a["signature"].([]byte)[0] = 2 }, 0, "does not match"},
		"called RSA":         {func(a map[string]any) { a["signature"].([]byte)[1] = 1 }, 0, "does not match"},
		"bytes behind":       {func(a map[string]any) { a["signature"] = append(a["signature"].([]byte), 0) }, 0, "does not match"},
		"no signature":       {func(a map[string]any) { delete(a, "signature") }, 0, "does not match"},
		"a huge answer":      {func(a map[string]any) { a["x"] = strings.Repeat("x", 70<<10) }, 0, "longer"},
		"a time out of time": {func(a map[string]any) { a["timestamp"] = uint64(1) << 63 }, 0, "not of now"},
	} {
		a, _, _ := withLog(t, &ctlog.Log{Key: p256(t), Spoil: tc.change, Status: tc.status})
		status, answer := a.ask(t)
		if status != http.StatusServiceUnavailable || !strings.Contains(answer, "certificate transparency log") || !strings.Contains(answer, tc.want) ||
			!strings.Contains(answer, `"code":14`) || strings.Contains(answer, "BEGIN CERTIFICATE") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	a, _, at := withLog(t, &ctlog.Log{Key: p256(t)})
	at.Close()
	if status, answer := a.ask(t); status != http.StatusServiceUnavailable || !strings.Contains(answer, "refused") {
		t.Errorf("no log: %d %s", status, answer)
	}
	key := newKey(t, elliptic.P256())
	for url, public := range map[string]crypto.PublicKey{"http://ct.example": key.Public(), "ftp://127.0.0.1": key.Public(), "https://ct.example": "no key"} {
		if _, err := ca.NewCTLog(url, public); err == nil {
			t.Errorf("%s: taken", url)
		}
	}
}

// TestIssuerUnavailable: an issuer that cannot be asked is not a bad token.
func TestIssuerUnavailable(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	p, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	key, root, err := ca.NewRoot(time.Now(), "Hallmark", "test CA")
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	c, err := ca.New(ca.Config{CAKey: key, Chain: []*x509.Certificate{root}, CTKey: p256(t), Issuers: set(t,
		issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p},
		issuers.Issuer{URL: gone.URL, ClientID: "sigstore", Type: issuers.TypeEmail}), Log: slog.New(slog.NewTextHandler(&written, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c.Handler())
	defer s.Close()
	a := &authority{url: s.URL, oidc: p, client: s.Client(), es: p256(t)}
	private := p256(t)
	token := a.es256(t, func(_, c map[string]any) { c["iss"] = gone.URL })
	status, answer := a.post(t, token, body(publicPEM(t, private.Public()), prove(t, private, "carol@example.com")))
	if status != http.StatusServiceUnavailable || !strings.Contains(answer, gone.URL) || !strings.Contains(answer, "the authority's log says why") || !strings.Contains(answer, `"code":14`) {
		t.Errorf("%d %s", status, answer)
	}
	// What happened on the way to another host is not for who chose it.
	for _, detail := range []string{"OIDC discovery", "refused", "dial"} {
		if strings.Contains(answer, detail) || !strings.Contains(written.String(), "OIDC discovery") {
			t.Errorf("the client is told %s; the log %s", answer, written.String())
		}
	}
	// Our own issuer's tokens are taken all the same.
	if status, answer := a.ask(t); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	resp, err := a.client.Get(s.URL + "/api/v2/configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var said struct{ Issuers []map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || len(said.Issuers) != 2 || said.Issuers[1]["issuerUrl"] != gone.URL {
		t.Errorf("%v, %v", said, err)
	}
}
