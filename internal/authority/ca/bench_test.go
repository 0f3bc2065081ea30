package ca_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
)

// BenchmarkIssue is a whole request, with token, proof, certificate and SCT.
func BenchmarkIssue(b *testing.B) {
	p, err := provider()
	if err != nil {
		b.Fatal(err)
	}
	private, root, err := ca.NewRoot(time.Now(), "Hallmark", "test CA")
	if err != nil {
		b.Fatal(err)
	}
	c, err := ca.New(ca.Config{CAKey: private, CACert: root, CTKey: p256(b), Issuers: []ca.Issuer{
		{URL: issuerURL, ClientID: "sigstore", Type: ca.TypeEmail, Keys: p}}})
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
