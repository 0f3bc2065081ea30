package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sigstore/fulcio/pkg/certificate"
)

// legacy asks Fulcio's API v1.
func (a *authority) legacy(t *testing.T, method, path, token string, request any) (*http.Response, string) {
	t.Helper()
	data, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, a.url+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

// TestLegacyAPI: the request of cosign 2, with the key as DER or PEM, is answered
// with the certificate and its chain as PEM.
func TestLegacyAPI(t *testing.T) {
	t.Parallel()
	a := start(t)
	key := p256(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(content, proof []byte) any {
		return map[string]any{"publicKey": map[string]any{"content": content, "algorithm": "ecdsa"},
			"signedEmailAddress": proof, "certificateSigningRequest": nil}
	}
	for _, content := range [][]byte{der, []byte(publicPEM(t, key.Public()))} {
		resp, answer := a.legacy(t, http.MethodPost, "/api/v1/signingCert", a.email(t, "alice@example.com"), ask(content, prove(t, key, "alice@example.com")))
		if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "application/pem-certificate-chain" || resp.Header.Get("SCT") != "" {
			t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, answer)
		}
		block, chain := pem.Decode([]byte(answer))
		if block == nil {
			t.Fatal(answer)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || len(leaf.EmailAddresses) != 1 || leaf.EmailAddresses[0] != "alice@example.com" || !key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("%v, %v", leaf, err)
		}
		checkSCT(t, leaf, a.root, &a.ct.PublicKey)
		if extensions, err := certificate.ParseExtensions(leaf.Extensions); err != nil || extensions.Issuer != issuerURL {
			t.Errorf("%+v, %v", extensions, err)
		}
		if _, root := a.legacy(t, http.MethodGet, "/api/v1/rootCert", "", nil); root != string(chain) || !strings.Contains(root, "CERTIFICATE") {
			t.Errorf("root %s, chain %s", root, chain)
		}
	}
	alice := a.email(t, "alice@example.com")
	for name, c := range map[string]struct {
		token   string
		request any
		status  int
		why     string
	}{
		"no token":               {"", ask(der, prove(t, key, "alice@example.com")), 401, "no identity token"},
		"another's proof":        {alice, ask(der, prove(t, key, "mallory@example.com")), 400, "could not be verified"},
		"no key":                 {alice, map[string]any{"signedEmailAddress": []byte("x")}, 400, "publicKey is missing"},
		"not a key":              {alice, ask([]byte("x"), []byte("x")), 400, "could not be parsed"},
		"a CSR":                  {alice, map[string]any{"certificateSigningRequest": []byte("x")}, 400, "want one PEM block"},
		"the request of API v2":  {alice, body(publicPEM(t, key.Public()), prove(t, key, "alice@example.com")), 400, "of API v1"},
		"the request of another": {alice, []any{}, 400, "of API v1"},
	} {
		resp, answer := a.legacy(t, http.MethodPost, "/api/v1/signingCert", c.token, c.request)
		if resp.StatusCode != c.status || !strings.Contains(answer, c.why) || strings.Contains(answer, alice) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		}
	}
	if resp, _ := a.legacy(t, http.MethodGet, "/api/v1/signingCert", alice, nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}
