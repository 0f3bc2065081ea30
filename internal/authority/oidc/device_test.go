package oidc_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

type deviceGrant struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int    `json:"expires_in"`
	Interval   int    `json:"interval"`
}

func deviceForm() url.Values {
	return url.Values{"client_id": {"sigstore"}, "scope": {"openid email"}, "code_challenge": {challenge()}, "code_challenge_method": {"S256"}}
}

func (i *issuer) startDevice(t *testing.T) deviceGrant {
	t.Helper()
	resp, body := post(t, i.browser, i.url("/oauth2/device/code"), deviceForm())
	var d deviceGrant
	if err := json.Unmarshal([]byte(body), &d); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	if d.ExpiresIn != 600 || d.Interval != 1 || d.URI != i.url("/oauth2/device") || d.Complete != d.URI+"?user_code="+d.UserCode {
		t.Fatalf("%+v", d)
	}
	return d
}

func (i *issuer) pollDevice(t *testing.T, d deviceGrant, proof string) (status int, oauth, body string) {
	t.Helper()
	resp, body := post(t, i.browser, i.url("/oauth2/token"), url.Values{"grant_type": {deviceFor}, "device_code": {d.DeviceCode},
		"client_id": {"sigstore"}, "scope": {"openid email"}, "code_verifier": {proof}})
	return resp.StatusCode, oauthCode(body), body
}

// answer fills the device page.
func (i *issuer) answer(t *testing.T, page string, form url.Values) (*http.Response, string) {
	t.Helper()
	_, body := get(t, i.browser, page)
	form.Set("request", hidden(t, body))
	return post(t, i.browser, i.url("/oauth2/device"), form)
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	i := start(t)
	d := i.startDevice(t)
	for n, want := range []string{"authorization_pending", "slow_down", "slow_down"} {
		if status, got, _ := i.pollDevice(t, d, verifier); status != 400 || got != want {
			t.Fatalf("poll %d: %d %s", n, status, got)
		}
	}
	i.clock.move(11 * time.Second)
	if _, got, _ := i.pollDevice(t, d, verifier); got != "authorization_pending" {
		t.Fatalf("after the wait: %s", got)
	}
	secret := i.code(t, "alice@example.com")
	resp, body := i.answer(t, d.URI, url.Values{"user_code": {"BCDF-GHJK"}, "secret": {secret}})
	if resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("another code: %s %s", resp.Status, body)
	}
	resp, _ = i.answer(t, d.Complete, url.Values{"user_code": {d.UserCode}, "secret": {"wrong"}})
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("wrong secret: %s", resp.Status)
	}
	i.clock.move(20 * time.Second)
	if _, got, _ := i.pollDevice(t, d, verifier); got != "authorization_pending" {
		t.Fatalf("after wrong logins: %s", got)
	}
	resp, body = i.answer(t, d.Complete, url.Values{"user_code": {strings.ToLower(strings.ReplaceAll(d.UserCode, "-", ""))}, "secret": {secret}})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "logged in") {
		t.Fatalf("%s %s", resp.Status, body)
	}
	status, _, body := i.pollDevice(t, d, verifier)
	var answer struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	tok, err := idtoken.Parse(answer.IDToken)
	if err != nil || tok.Email != "alice@example.com" {
		t.Fatalf("%v %v", tok, err)
	}
	if _, got, _ := i.pollDevice(t, d, verifier); got != "invalid_grant" {
		t.Fatalf("the device code worked twice: %s", got)
	}
}

func TestDeviceFlowRefuses(t *testing.T) {
	t.Parallel()
	i := start(t)
	for name, change := range map[string]func(url.Values){
		"no client":  func(f url.Values) { f.Del("client_id") },
		"no scope":   func(f url.Values) { f.Del("scope") },
		"no PKCE":    func(f url.Values) { f.Del("code_challenge") },
		"PKCE plain": func(f url.Values) { f.Set("code_challenge_method", "plain") },
		"scope x2":   func(f url.Values) { f.Add("scope", "openid") },
	} {
		f := deviceForm()
		change(f)
		if resp, body := post(t, i.browser, i.url("/oauth2/device/code"), f); resp.StatusCode < 400 || oauthCode(body) == "" {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	if _, got, _ := i.pollDevice(t, deviceGrant{DeviceCode: "x"}, verifier); got != "invalid_grant" {
		t.Errorf("unknown code: %s", got)
	}
	// Another verifier ends it, even after the approval.
	d := i.startDevice(t)
	i.answer(t, d.Complete, url.Values{"user_code": {d.UserCode}, "secret": {i.code(t, "a@b.c")}})
	if _, got, _ := i.pollDevice(t, d, strings.Repeat("x", 50)); got != "invalid_grant" {
		t.Errorf("wrong verifier: %s", got)
	}
	if _, got, _ := i.pollDevice(t, d, verifier); got != "invalid_grant" {
		t.Errorf("after a wrong verifier: %s", got)
	}
	// Refused by its person; refusing needs a login too.
	d = i.startDevice(t)
	i.answer(t, d.Complete, url.Values{"user_code": {d.UserCode}, "secret": {i.code(t, "a@b.c")}, "deny": {"yes"}})
	if _, got, _ := i.pollDevice(t, d, verifier); got != "access_denied" {
		t.Errorf("refused: %s", got)
	}
	// Expired: neither approved nor given.
	d = i.startDevice(t)
	i.clock.move(10 * time.Minute)
	if resp, _ := i.answer(t, d.Complete, url.Values{"user_code": {d.UserCode}, "secret": {i.code(t, "a@b.c")}}); resp.StatusCode != 400 {
		t.Errorf("approving an expired code: %s", resp.Status)
	}
	if _, got, _ := i.pollDevice(t, d, verifier); got != "expired_token" {
		t.Errorf("expired: %s", got)
	}
}

func claimsFile() map[string]any {
	claims := map[string]any{"iss": "https://token.actions.githubusercontent.com", "exp": 1, "environment": "release"}
	for _, name := range oidc.GitHubClaims() {
		claims[name] = "value-of-" + name
	}
	return claims
}

func TestRehearseGitHub(t *testing.T) {
	t.Parallel()
	i := start(t)
	ask := func(u, auth string) (*http.Response, string) {
		req, _ := http.NewRequest(http.MethodGet, u, nil)
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		return do(t, i.browser, req)
	}
	if resp, _ := ask(i.url("/rehearse/github/token?audience=sigstore"), "Bearer x"); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("not enabled: %s", resp.Status)
	}
	data, _ := json.Marshal(claimsFile())
	u, bearer, err := i.EnableRehearseGitHub(data)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := ask(u+"&audience=sigstore", "Bearer "+bearer)
	var answer struct{ Value string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	tok, err := idtoken.Parse(answer.Value)
	if err != nil || tok.Issuer != i.Issuer() || tok.Audience[0] != "sigstore" || !tok.Expiry.After(i.clock.now()) {
		t.Fatalf("%s %v", tok.Claims, err)
	}
	for _, name := range append(oidc.GitHubClaims(), "environment") {
		if got, _ := tok.Text(name); got != claimsFile()[name] {
			t.Errorf("claim %s is %q", name, got)
		}
	}
	for name, auth := range map[string]string{"none": "", "wrong": "Bearer x", "longer": "Bearer " + bearer + "x", "Basic": "Basic " + bearer, "empty": "Bearer "} {
		if resp, body := ask(u+"&audience=sigstore", auth); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "value\"") {
			t.Errorf("bearer %s: %s", name, resp.Status)
		}
	}
	for _, q := range []string{"", "&audience=", "&audience=a&audience=b"} {
		if resp, _ := ask(u+q, "Bearer "+bearer); resp.StatusCode != 400 {
			t.Errorf("%q: %s", q, resp.Status)
		}
	}
	for _, name := range oidc.GitHubClaims() {
		claims := claimsFile()
		delete(claims, name)
		data, _ := json.Marshal(claims)
		if _, _, err := i.EnableRehearseGitHub(data); err == nil || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "[]", "{", `{"sub":"a","sub":"b"}`, strings.Replace(string(data), "{", `{"email":"a@b.c",`, 1), string(data) + "x"} {
		if _, _, err := i.EnableRehearseGitHub([]byte(bad)); err == nil {
			t.Errorf("took %.40s", bad)
		}
	}
}
