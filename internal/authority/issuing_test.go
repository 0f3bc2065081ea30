package authority_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// otherIssuer is an issuer on this machine that signs whatever claims it is told to.
func otherIssuer(t *testing.T) (url string, token func(claims map[string]any) string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = map[string]any{"keys": []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": base64.RawURLEncoding.EncodeToString(public)}}}
		if r.URL.Path == "/.well-known/openid-configuration" {
			answer = map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys", "id_token_signing_alg_values_supported": []string{"EdDSA"}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s.URL, func(claims map[string]any) string {
		now := time.Now().Unix()
		all := map[string]any{"iss": s.URL, "sub": "1", "aud": "sigstore", "iat": now, "exp": now + 60}
		maps.Copy(all, claims)
		var parts []string
		for _, part := range []any{map[string]any{"alg": "EdDSA", "kid": "1"}, all} {
			data, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, base64.RawURLEncoding.EncodeToString(data))
		}
		input := strings.Join(parts, ".")
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(input)))
	}
}

// TestConnectorIsNotUs: an issuer whose tokens may name others gets no certificate in
// the name of the authority's own issuer.
func TestConnectorIsNotUs(t *testing.T) {
	t.Parallel()
	other, token := otherIssuer(t)
	config := save(t, "ca.yaml", "oidc-issuers:\n  "+other+":\n    issuer-url: "+other+"\n    client-id: sigstore\n    type: email\n    issuer-claim: $.via\n")
	a, _ := up(t, authority.Config{Dir: t.TempDir(), CAConfig: config})
	for via, want := range map[string]int{"https://accounts.example.com": http.StatusOK, a.Info().Issuer: http.StatusUnauthorized, a.Info().Issuer + "/": http.StatusUnauthorized} {
		raw := token(map[string]any{"email": "boss@example.com", "email_verified": true, "via": via})
		if status, body := postTo(t, a.Info().URL+"/api/v2/signingCert", requestFor(t, raw, "boss@example.com")); status != want {
			t.Errorf("by way of %s: %d %s", via, status, body)
		}
	}
}
