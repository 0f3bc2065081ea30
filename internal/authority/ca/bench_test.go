package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

// BenchmarkIssue is a whole request, with token, proof, certificate and SCT, under a
// CA's key on each curve.
func BenchmarkIssue(b *testing.B) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		b.Run(curve.Params().Name, func(b *testing.B) { benchmarkIssue(b, curve) })
	}
}

func benchmarkIssue(b *testing.B, curve elliptic.Curve) {
	p, err := provider()
	if err != nil {
		b.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	root, err := ca.NewOfflineRoot(private, pkix.Name{Organization: []string{"Hallmark"}, CommonName: "test CA"}, time.Now(), 24*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	c, err := ca.New(ca.Config{CAKey: private, Chain: []*x509.Certificate{root}, CTKey: p256(b),
		Issuers: set(b, issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p})})
	if err != nil {
		b.Fatal(err)
	}
	client := p256(b)
	token, err := p.Mint("alice@example.com", "", 0)
	if err != nil {
		b.Fatal(err)
	}
	request, err := json.Marshal(body(publicPEM(b, client.Public()), prove(b, client, "alice@example.com")))
	if err != nil {
		b.Fatal(err)
	}
	h := c.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/api/v2/signingCert", bytes.NewReader(request))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

func set(t testing.TB, all ...issuers.Issuer) *issuers.Set {
	t.Helper()
	s, err := issuers.New(issuers.Config{Issuers: all})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
