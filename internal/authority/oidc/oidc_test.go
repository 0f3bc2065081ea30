package oidc_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

const (
	verifier  = "correct-horse-battery-staple-correct-horse-battery"
	redirect  = "http://localhost:4711/auth/callback?keep=me"
	formType  = "application/x-www-form-urlencoded"
	deviceFor = "urn:ietf:params:oauth:grant-type:device_code"
)

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyDir is a folder with a key: making an RSA key takes a second under -race.
var keyDir = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "oidc-test")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := oidc.Open(dir, oidc.Config{Issuer: "http://127.0.0.1"}); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "oidc.key"))
})

// clock is a time that a test can move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time          { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) move(d time.Duration)    { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }
func (i *issuer) url(path string) string { return i.Issuer() + path }

// issuer is a running provider and a browser that follows no redirect.
type issuer struct {
	*oidc.Provider
	dir     string
	clock   *clock
	browser *http.Client
}

func start(t *testing.T) *issuer {
	t.Helper()
	dir := t.TempDir()
	key, err := keyDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oidc.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{at: time.Now()}
	p, err := oidc.Open(dir, oidc.Config{Issuer: "http://" + l.Addr().String(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: p.Handler()}}
	s.Start()
	t.Cleanup(s.Close)
	return &issuer{p, dir, c, newBrowser()}
}

func newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil)
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (i *issuer) code(t *testing.T, email string) string {
	t.Helper()
	code, err := i.NewOneTimeCode(email)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func authorizeQuery() url.Values {
	return url.Values{"access_type": {"online"}, "client_id": {"sigstore"}, "response_type": {"code"}, "scope": {"openid email"},
		"redirect_uri": {redirect}, "state": {"some-state"}, "nonce": {"some-nonce"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}}
}

func tokenForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier},
		"redirect_uri": {redirect}, "client_id": {"sigstore"}}
}

func do(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func get(t *testing.T, c *http.Client, u string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, req)
}

func post(t *testing.T, c *http.Client, u string, form url.Values) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, u, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	return do(t, c, req)
}

// hidden finds the id of the login in a page.
func hidden(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no form in %s", page)
	}
	return m[1]
}

// openPage opens a login page and returns its id.
func (i *issuer) openPage(t *testing.T) string {
	t.Helper()
	resp, page := get(t, i.browser, i.url("/oauth2/auth?")+authorizeQuery().Encode())
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, page)
	}
	return hidden(t, page)
}

// logIn goes through a login page and returns the authorization code.
func (i *issuer) logIn(t *testing.T, email, secret string) string {
	t.Helper()
	resp, body := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {i.openPage(t)}, "email": {email}, "secret": {secret}})
	if resp.StatusCode != http.StatusFound {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := to.Query()
	if to.Host != "localhost:4711" || to.Path != "/auth/callback" || q.Get("state") != "some-state" || q.Get("keep") != "me" {
		t.Fatalf("redirected to %s", to)
	}
	return q.Get("code")
}

func oauthCode(body string) string {
	var e struct{ Error string }
	_ = json.Unmarshal([]byte(body), &e)
	return e.Error
}

func TestCodeFlowWithOneTimeCode(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret := i.code(t, "alice@example.com")
	code := i.logIn(t, "", strings.ToLower(secret))
	form := tokenForm(code)
	form.Del("client_id")
	req, _ := http.NewRequest(http.MethodPost, i.url("/oauth2/token"), strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", formType)
	req.SetBasicAuth("sigstore", "") // as cosign does
	resp, body := do(t, i.browser, req)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s %v: %s", resp.Status, resp.Header, body)
	}
	var answer struct {
		IDToken     string `json:"id_token"`
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	tok, err := idtoken.Parse(answer.IDToken)
	if err != nil {
		t.Fatal(err)
	}
	nonce, _ := tok.Text("nonce")
	atHash, _ := tok.Text("at_hash")
	sum := sha256.Sum256([]byte(answer.AccessToken))
	if tok.Issuer != i.Issuer() || tok.Email != "alice@example.com" || nonce != "some-nonce" || tok.Algorithm != "RS256" ||
		len(tok.Audience) != 1 || tok.Audience[0] != "sigstore" || string(tok.Claims["email_verified"]) != "true" ||
		atHash != base64.RawURLEncoding.EncodeToString(sum[:16]) || tok.Expiry.Sub(tok.IssuedAt) != 10*time.Minute ||
		answer.TokenType != "Bearer" || answer.ExpiresIn != 600 {
		t.Fatalf("token claims %s of %+v", tok.Claims, answer)
	}
	digest := sha256.Sum256(tok.SigningInput())
	if err := rsa.VerifyPKCS1v15(jwksKey(t, i, tok.KeyID), crypto.SHA256, digest[:], tok.Signature); err != nil {
		t.Fatal(err)
	}

	// The code of a login and the one-time code both work once.
	if resp, body := post(t, i.browser, i.url("/oauth2/token"), tokenForm(code)); resp.StatusCode != 400 || oauthCode(body) != "invalid_grant" {
		t.Fatalf("code used twice: %s %s", resp.Status, body)
	}
	resp, _ = post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {i.openPage(t)}, "secret": {secret}})
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("one-time code used twice: %s", resp.Status)
	}
}

// jwksKey reads the key from the endpoint as a client does.
func jwksKey(t *testing.T, i *issuer, kid string) *rsa.PublicKey {
	t.Helper()
	_, body := get(t, i.browser, i.url("/oauth2/keys"))
	var set struct {
		Keys []struct{ Kty, Kid, Alg, N, E string }
	}
	if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0].Kid != kid || set.Keys[0].Alg != "RS256" {
		t.Fatalf("%v: %s", err, body)
	}
	key := i.PublicKey(kid).(*rsa.PublicKey)
	if set.Keys[0].N != base64.RawURLEncoding.EncodeToString(key.N.Bytes()) || set.Keys[0].E != "AQAB" {
		t.Fatal("the JWKS has another key")
	}
	if i.PublicKey("other") != nil || key.N.BitLen() < 2048 {
		t.Fatal("a key that should not be")
	}
	return key
}

func TestCodeFlowWithLoginSecret(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret, err := oidc.AddUser(i.dir, "bob@example.com") // while the issuer runs
	if err != nil {
		t.Fatal(err)
	}
	code := i.logIn(t, "bob@example.com", secret)
	if resp, body := post(t, i.browser, i.url("/oauth2/token"), tokenForm(code)); resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	again, err := i.AddUser("bob@example.com")
	if err != nil || again == secret {
		t.Fatalf("new secret: %v", err)
	}
	for _, tc := range []struct{ name, email, secret string }{
		{"the old secret", "bob@example.com", secret},
		{"another address", "carol@example.com", again},
		{"no address", "", again},
		{"no secret", "bob@example.com", ""},
		{"address in capitals", "BOB@example.com", again},
	} {
		resp, body := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {i.openPage(t)}, "email": {tc.email}, "secret": {tc.secret}})
		if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Location") != "" {
			t.Errorf("%s: %s %s", tc.name, resp.Status, body)
		}
	}
	data, err := os.ReadFile(filepath.Join(i.dir, "users.json"))
	if err != nil || strings.Contains(string(data), again) || strings.Contains(string(data), strings.ReplaceAll(again, "-", "")) {
		t.Fatalf("users.json: %v", err)
	}
	if st, err := os.Stat(filepath.Join(i.dir, "users.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("users.json: %v %v", st.Mode(), err)
	}
}

func TestOneTimeCodeBelongsToItsAddress(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret := i.code(t, "alice@example.com")
	resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {i.openPage(t)}, "email": {"root@example.com"}, "secret": {secret}})
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("for another address: %s", resp.Status)
	}
	i.logIn(t, "alice@example.com", secret) // and it was not lost by that
	if _, err := i.NewOneTimeCode("not an address"); err == nil {
		t.Fatal("a code for no address")
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	t.Parallel()
	i := start(t)
	page := func(c *http.Client, q url.Values) (*http.Response, string) {
		return get(t, c, i.url("/oauth2/auth?")+q.Encode())
	}
	// What is sent to nobody: we do not know where it would go.
	for name, change := range map[string]func(url.Values){
		"no client":              func(q url.Values) { q.Del("client_id") },
		"another client":         func(q url.Values) { q.Set("client_id", "other") },
		"no redirect":            func(q url.Values) { q.Del("redirect_uri") },
		"another machine":        func(q url.Values) { q.Set("redirect_uri", "http://example.com/cb") },
		"loopback as user":       func(q url.Values) { q.Set("redirect_uri", "http://localhost@example.com/cb") },
		"with a user":            func(q url.Values) { q.Set("redirect_uri", "http://me@localhost/cb") },
		"loopback as name":       func(q url.Values) { q.Set("redirect_uri", "http://localhost.example.com/cb") },
		"name like an address":   func(q url.Values) { q.Set("redirect_uri", "http://127.0.0.1.nip.io/cb") },
		"https":                  func(q url.Values) { q.Set("redirect_uri", "https://localhost/cb") },
		"another scheme":         func(q url.Values) { q.Set("redirect_uri", "javascript:alert(1)//localhost") },
		"without a scheme":       func(q url.Values) { q.Set("redirect_uri", "//localhost/cb") },
		"fragment":               func(q url.Values) { q.Set("redirect_uri", "http://localhost/cb#x") },
		"backslash":              func(q url.Values) { q.Set("redirect_uri", `http://localhost\@example.com/cb`) },
		"line break":             func(q url.Values) { q.Set("redirect_uri", "http://localhost/cb\r\nX: y") },
		"unspecified address":    func(q url.Values) { q.Set("redirect_uri", "http://0.0.0.0/cb") },
		"redirect twice":         func(q url.Values) { q.Add("redirect_uri", "http://localhost/other") },
		"state twice":            func(q url.Values) { q.Add("state", "other") },
		"very long state":        func(q url.Values) { q.Set("state", strings.Repeat("a", 3000)) },
		"out of band":            func(q url.Values) { q.Set("redirect_uri", "urn:ietf:wg:oauth:2.0:oob") },
		"decimal address":        func(q url.Values) { q.Set("redirect_uri", "http://2130706433/cb") },
		"another address family": func(q url.Values) { q.Set("redirect_uri", "http://[::2]/cb") },
	} {
		q := authorizeQuery()
		change(q)
		if resp, _ := page(i.browser, q); resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" {
			t.Errorf("%s: %s to %q", name, resp.Status, resp.Header.Get("Location"))
		}
	}
	// What the program that asked is told.
	for name, tc := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"no state":          {func(q url.Values) { q.Del("state") }, "invalid_request"},
		"no nonce":          {func(q url.Values) { q.Del("nonce") }, "invalid_request"},
		"no PKCE":           {func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }, "invalid_request"},
		"PKCE plain":        {func(q url.Values) { q.Set("code_challenge_method", "plain") }, "invalid_request"},
		"PKCE no method":    {func(q url.Values) { q.Del("code_challenge_method") }, "invalid_request"},
		"PKCE short":        {func(q url.Values) { q.Set("code_challenge", "abc") }, "invalid_request"},
		"PKCE padded":       {func(q url.Values) { q.Set("code_challenge", challenge()[:42]+"=") }, "invalid_request"},
		"implicit flow":     {func(q url.Values) { q.Set("response_type", "id_token") }, "unsupported_response_type"},
		"hybrid flow":       {func(q url.Values) { q.Set("response_type", "code id_token") }, "unsupported_response_type"},
		"no openid":         {func(q url.Values) { q.Set("scope", "email") }, "invalid_scope"},
		"request object":    {func(q url.Values) { q.Set("request", "e30.e30.") }, "request_not_supported"},
		"fragment answer":   {func(q url.Values) { q.Set("response_mode", "fragment") }, "invalid_request"},
		"nobody to ask":     {func(q url.Values) { q.Set("prompt", "none") }, "login_required"},
		"request object at": {func(q url.Values) { q.Set("request_uri", "http://localhost/x") }, "request_not_supported"},
	} {
		q := authorizeQuery()
		tc.change(q)
		resp, _ := page(i.browser, q)
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || resp.StatusCode != http.StatusFound || to.Query().Get("error") != tc.want ||
			to.Query().Get("state") != q.Get("state") || to.Query().Get("code") != "" || to.Host != "localhost:4711" {
			t.Errorf("%s: %s to %s", name, resp.Status, to)
		}
	}
	for _, good := range []string{"http://localhost/cb", "http://127.9.9.9:1/", "http://[::1]:65535/x/y?z=1"} {
		q := authorizeQuery()
		q.Set("redirect_uri", good)
		if resp, body := page(i.browser, q); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", good, resp.Status, body)
		}
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret, err := i.AddUser("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(url.Values)
		wait   time.Duration
		want   string
	}{
		"wrong verifier":       {func(f url.Values) { f.Set("code_verifier", verifier+"x") }, 0, "invalid_grant"},
		"no verifier":          {func(f url.Values) { f.Del("code_verifier") }, 0, "invalid_grant"},
		"challenge as itself":  {func(f url.Values) { f.Set("code_verifier", challenge()) }, 0, "invalid_grant"},
		"another redirect":     {func(f url.Values) { f.Set("redirect_uri", "http://localhost:4712/auth/callback") }, 0, "invalid_grant"},
		"redirect without ?":   {func(f url.Values) { f.Set("redirect_uri", "http://localhost:4711/auth/callback") }, 0, "invalid_grant"},
		"no redirect":          {func(f url.Values) { f.Del("redirect_uri") }, 0, "invalid_grant"},
		"after a minute":       {func(url.Values) {}, time.Minute, "invalid_grant"},
		"no code":              {func(f url.Values) { f.Del("code") }, 0, "invalid_grant"},
		"no client":            {func(f url.Values) { f.Del("client_id") }, 0, "invalid_client"},
		"another client":       {func(f url.Values) { f.Set("client_id", "other") }, 0, "invalid_client"},
		"client with a secret": {func(f url.Values) { f.Set("client_secret", "x") }, 0, "invalid_client"},
		"password grant":       {func(f url.Values) { f.Set("grant_type", "password") }, 0, "unsupported_grant_type"},
		"client credentials":   {func(f url.Values) { f.Set("grant_type", "client_credentials") }, 0, "unsupported_grant_type"},
		"code twice in a form": {func(f url.Values) { f.Add("code", "x") }, 0, "invalid_request"},
		"too large":            {func(f url.Values) { f.Set("x", strings.Repeat("a", 20<<10)) }, 0, "invalid_request"},
	} {
		f := tokenForm(i.logIn(t, "alice@example.com", secret))
		tc.change(f)
		i.clock.move(tc.wait)
		resp, body := post(t, i.browser, i.url("/oauth2/token"), f)
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || oauthCode(body) != tc.want || strings.Contains(body, "id_token") {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	// A wrong guess spends the code.
	code := i.logIn(t, "alice@example.com", secret)
	wrong := tokenForm(code)
	wrong.Set("code_verifier", strings.Repeat("w", 43))
	post(t, i.browser, i.url("/oauth2/token"), wrong)
	if resp, _ := post(t, i.browser, i.url("/oauth2/token"), tokenForm(code)); resp.StatusCode != 400 {
		t.Errorf("the code survived a wrong verifier: %s", resp.Status)
	}
	// JSON instead of a form, parameters in the address.
	req, _ := http.NewRequest(http.MethodPost, i.url("/oauth2/token"), strings.NewReader(`{}`))
	req.Header.Set("Content-Type", "application/json")
	if resp, _ := do(t, i.browser, req); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("JSON: %s", resp.Status)
	}
	if resp, _ := post(t, i.browser, i.url("/oauth2/token?grant_type=authorization_code"), tokenForm("x")); resp.StatusCode != 400 {
		t.Errorf("parameters in the address: %s", resp.Status)
	}
}

// TestOtherSitesGetNothing: DNS rebinding, foreign origins, forms without our page.
func TestOtherSitesGetNothing(t *testing.T) {
	t.Parallel()
	i := start(t)
	host := strings.TrimPrefix(i.Issuer(), "http://")
	port := host[strings.LastIndexByte(host, ':'):]
	for _, path := range []string{"/.well-known/openid-configuration", "/oauth2/keys", "/oauth2/auth?" + authorizeQuery().Encode(), "/oauth2/device", "/rehearse/github/token?audience=x"} {
		for _, name := range []string{"evil.example", "evil.example" + port, "localhost" + port, "127.0.0.1", "127.0.0.1.nip.io" + port, host + "."} {
			req, _ := http.NewRequest(http.MethodGet, i.url(path), nil)
			req.Host = name
			if resp, body := do(t, i.browser, req); resp.StatusCode != http.StatusMisdirectedRequest || oauthCode(body) != "invalid_request" || len(resp.Cookies()) != 0 {
				t.Errorf("%s as %s: %s", path, name, resp.Status)
			}
		}
	}
	for _, path := range []string{"/oauth2/token", "/oauth2/auth", "/oauth2/device", "/oauth2/device/code"} {
		for _, origin := range []string{"http://evil.example", "null", "https://" + host, i.Issuer() + "/"} {
			req, _ := http.NewRequest(http.MethodPost, i.url(path), strings.NewReader(""))
			req.Header.Set("Content-Type", formType)
			req.Header.Set("Origin", origin)
			resp, _ := do(t, i.browser, req)
			if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s from %s: %s", path, origin, resp.Status)
			}
		}
		req, _ := http.NewRequest(http.MethodOptions, i.url(path), nil)
		req.Header.Set("Origin", "http://evil.example")
		if resp, _ := do(t, i.browser, req); resp.StatusCode < 400 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of %s: %s", path, resp.Status)
		}
	}
	secret := i.code(t, "alice@example.com")
	id := i.openPage(t)
	login := url.Values{"request": {id}, "secret": {secret}}
	if resp, _ := post(t, newBrowser(), i.url("/oauth2/auth"), login); resp.StatusCode != http.StatusForbidden {
		t.Errorf("without the cookie: %s", resp.Status)
	}
	if resp, _ := post(t, i.browser, i.url("/oauth2/device"), login); resp.StatusCode != http.StatusForbidden {
		t.Errorf("page of another flow: %s", resp.Status)
	}
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {""}, "secret": {secret}}); resp.StatusCode != http.StatusForbidden {
		t.Errorf("no page: %s", resp.Status)
	}
	req, _ := http.NewRequest(http.MethodPost, i.url("/oauth2/auth"), strings.NewReader(login.Encode()))
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Sec-Fetch-Site", "same-site")
	if resp, _ := do(t, i.browser, req); resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another port of this host: %s", resp.Status)
	}
	// The secret still works: none of these attempts reached it.
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), login); resp.StatusCode != http.StatusFound {
		t.Errorf("the right form: %s", resp.Status)
	}
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), login); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the same page again: %s", resp.Status)
	}
	old := i.openPage(t)
	i.clock.move(11 * time.Minute)
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {old}, "secret": {i.code(t, "a@b.c")}}); resp.StatusCode != http.StatusForbidden {
		t.Errorf("an old page: %s", resp.Status)
	}
}

func TestPageIsPlainAndCannotBeFramed(t *testing.T) {
	t.Parallel()
	i := start(t)
	q := authorizeQuery()
	q.Set("state", `"><script>alert(1)</script>`)
	resp, page := get(t, i.browser, i.url("/oauth2/auth?")+q.Encode())
	_, device := get(t, i.browser, i.url("/oauth2/device?user_code=")+url.QueryEscape(`"><script>alert(1)</script>`))
	if strings.Contains(page+device, "<script") || strings.Contains(page+device, "style=") {
		t.Fatalf("script or style in %s %s", page, device)
	}
	csp := resp.Header.Get("Content-Security-Policy")
	if resp.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") ||
		!strings.Contains(csp, "form-action 'self' http://localhost:4711;") || resp.Header.Get("Referrer-Policy") != "same-origin" {
		t.Fatalf("headers %v", resp.Header)
	}
	cookie := resp.Header.Get("Set-Cookie")
	if !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") {
		t.Fatalf("cookie %s", cookie)
	}
}

func TestGuessingIsLimited(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret, err := i.AddUser("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	// The page dies after five wrong secrets.
	id := i.openPage(t)
	for n := range 5 {
		if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {id}, "email": {"alice@example.com"}, "secret": {"x"}}); resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("guess %d: %s", n, resp.Status)
		}
	}
	right := url.Values{"request": {id}, "email": {"alice@example.com"}, "secret": {secret}}
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), right); resp.StatusCode != http.StatusForbidden {
		t.Fatalf("page after five guesses: %s", resp.Status)
	}
	// The address is locked after ten, on any page, even for the right secret.
	id = i.openPage(t)
	for range 5 {
		post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {id}, "email": {"alice@example.com"}, "secret": {"x"}})
	}
	right.Set("request", i.openPage(t))
	last, _ := post(t, i.browser, i.url("/oauth2/auth"), right)
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Fatalf("eleventh: %s", last.Status)
	}
	i.clock.move(time.Minute)
	if last, _ = post(t, i.browser, i.url("/oauth2/auth"), right); last.StatusCode != http.StatusFound {
		t.Fatalf("after a minute: %s", last.Status)
	}
}

func TestMint(t *testing.T) {
	t.Parallel()
	i := start(t)
	raw, err := i.Mint("alice@example.com", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := idtoken.Parse(raw)
	if err != nil || tok.ProofSubject() != "alice@example.com" || tok.Issuer != i.Issuer() {
		t.Fatalf("%v %v", tok, err)
	}
	raw, err = i.MintClaims(map[string]any{"sub": "x", "iss": "http://evil", "exp": 1 << 40, "aud": "y", "extra": []int{1}}, "other", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	tok, err = idtoken.Parse(raw)
	if err != nil || tok.Issuer != i.Issuer() || tok.Audience[0] != "other" || tok.Expiry.Sub(tok.IssuedAt) != 10*time.Minute || string(tok.Claims["extra"]) != "[1]" {
		t.Fatalf("%s %v", tok.Claims, err)
	}
	for _, bad := range []string{"", "alice", "@b", "a@", "a@b@c", "a b@c", "a\n@b", "<a@b>", "ä@b.c", "a@b..c", "a@.b", "a@b.", strings.Repeat("a", 250) + "@b.cc"} {
		if _, err := i.Mint(bad, "", 0); err == nil {
			t.Errorf("minted for %q", bad)
		}
		if _, err := i.AddUser(bad); err == nil {
			t.Errorf("added %q", bad)
		}
	}
	if _, err := i.MintClaims(map[string]any{}, "", 0); err == nil {
		t.Error("minted without sub")
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	i := start(t)
	if _, err := i.AddUser("alice@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"oidc.key", "users.json"} {
		path := filepath.Join(i.dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte{}, good...)
		flipped[len(flipped)/2] ^= 1
		for what, bad := range map[string][]byte{"flipped": flipped, "truncated": good[:len(good)-3], "empty": {}} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := oidc.Open(i.dir, oidc.Config{Issuer: i.Issuer()})
			var corrupt *durable.CorruptError
			if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(bad) {
				t.Errorf("%s %s was overwritten", name, what)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := oidc.Open(i.dir, oidc.Config{Issuer: i.Issuer(), Existing: true})
	if err != nil || string(again.JWKS()) != string(i.JWKS()) {
		t.Fatalf("%v", err)
	}
	empty := t.TempDir()
	if _, err := oidc.Open(empty, oidc.Config{Issuer: i.Issuer(), Existing: true}); err == nil {
		t.Error("a key was made where one had to exist")
	}
	for _, bad := range []string{"", "127.0.0.1:1", "http://127.0.0.1/", "http://127.0.0.1/x", "ftp://x", "http://u@x", "http://x?y"} {
		if _, err := oidc.Open(empty, oidc.Config{Issuer: bad}); err == nil {
			t.Errorf("issuer %q", bad)
		}
	}
}
