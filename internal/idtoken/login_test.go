package idtoken_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// mixingIssuer is an issuer that logs everybody in and whose token endpoint
// answers with whatever change makes of the right claims.
func mixingIssuer(t *testing.T, change func(claims map[string]any), redirect bool) string {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	var nonce string
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/auth",
			"token_endpoint": s.URL + "/token", "code_challenge_methods_supported": []string{"S256"}})
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		nonce = q.Get("nonce")
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c"}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	answer := func(w http.ResponseWriter, _ *http.Request) {
		claims := map[string]any{"iss": s.URL, "sub": "a", "aud": "sigstore", "exp": time.Now().Add(time.Minute).Unix(), "nonce": nonce}
		change(claims)
		_ = json.NewEncoder(w).Encode(map[string]string{"id_token": assemble(t, `{"alg":"RS256"}`, claims), "access_token": "x"})
	}
	mux.HandleFunc("/elsewhere", answer)
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if redirect {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		answer(w, r)
	})
	return s.URL
}

// A token that is not of this login, or comes from where the code was not sent,
// is not used to sign.
func TestTokensOfOtherLogins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(map[string]any)
		redirect bool
		want     string // "" is accepted
	}{
		"right":          {change: func(map[string]any) {}},
		"another nonce":  {change: func(c map[string]any) { c["nonce"] = "other" }, want: `"nonce"`},
		"no nonce":       {change: func(c map[string]any) { delete(c, "nonce") }, want: `"nonce"`},
		"nonce no text":  {change: func(c map[string]any) { c["nonce"] = 1 }, want: `"nonce"`},
		"another issuer": {change: func(c map[string]any) { c["iss"] = "https://other.example" }, want: `"iss"`},
		"a redirect":     {change: func(map[string]any) {}, redirect: true, want: "token endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: mixingIssuer(t, c.change, c.redirect), Interactive: true, OpenBrowser: func(u string) error {
				resp, err := http.Get(u)
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				return resp.Body.Close()
			}})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
