package oidc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
)

// TestPagesOfOthersOpenNoLogins: what another site's page can make a browser load
// takes no place among the logins.
func TestPagesOfOthersOpenNoLogins(t *testing.T) {
	t.Parallel()
	i := start(t)
	for _, path := range []string{"/oauth2/auth?" + authorizeQuery().Encode(), "/oauth2/device"} {
		for _, tc := range []struct {
			dest, mode string
			want       int
		}{
			{"document", "navigate", 200}, {"", "", 200}, {"document", "", 200},
			{"image", "no-cors", 403}, {"script", "no-cors", 403}, {"empty", "cors", 403}, {"empty", "no-cors", 403},
			{"iframe", "navigate", 403}, {"frame", "navigate", 403}, {"object", "navigate", 403}, {"embed", "navigate", 403},
			{"document", "no-cors", 403}, {"", "no-cors", 403}, {"image", "", 403}, {"Document", "navigate", 403},
		} {
			req, _ := http.NewRequest(http.MethodGet, i.url(path), nil)
			for name, value := range map[string]string{"Sec-Fetch-Dest": tc.dest, "Sec-Fetch-Mode": tc.mode} {
				if value != "" {
					req.Header.Set(name, value)
				}
			}
			resp, body := do(t, newBrowser(), req)
			if resp.StatusCode != tc.want || (len(resp.Cookies()) == 1) != (tc.want == 200) || strings.Contains(body, "<form") != (tc.want == 200) {
				t.Errorf("%s for %q %q: %s with %d cookies", path[:12], tc.dest, tc.mode, resp.Status, len(resp.Cookies()))
			}
		}
	}
}

// many does a request 1,100 times, without a browser.
func many(t *testing.T, i *issuer, method, path, body string) {
	t.Helper()
	for range 1100 {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(method, i.url(path), strings.NewReader(body))
		if body != "" {
			req.Header.Set("Content-Type", formType)
		}
		i.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestManyOpenLoginsLockNobodyOut: the oldest pending login makes room for the newest.
func TestManyOpenLoginsLockNobodyOut(t *testing.T) {
	t.Parallel()
	i := start(t)
	old := i.openPage(t)
	i.clock.move(time.Second)
	many(t, i, "GET", "/oauth2/device", "")
	secret := i.code(t, "alice@example.com")
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {old}, "secret": {secret}}); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the oldest page: %s", resp.Status)
	}
	i.logIn(t, "", secret)

	first := i.startDevice(t)
	i.clock.move(time.Second)
	many(t, i, "POST", "/oauth2/device/code", deviceForm().Encode())
	if _, got, _ := i.pollDevice(t, first, verifier); got != "invalid_grant" {
		t.Errorf("the oldest device: %s", got)
	}
	d := i.startDevice(t)
	if resp, body := i.answer(t, d.URI, url.Values{"user_code": {d.UserCode}, "secret": {i.code(t, "a@b.c")}}); resp.StatusCode != http.StatusOK {
		t.Errorf("the newest device: %s %s", resp.Status, body)
	}
}

// TestMadeUpAddressesLockNobodyOut: wrong logins of all together are limited, the
// right one-time code works all the same, and a minute later everything does.
func TestMadeUpAddressesLockNobodyOut(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret, err := i.AddUser("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for n := range 2000 {
		if i.Allow(fmt.Sprintf("nobody%d@example.com", n)) {
			allowed++
		}
	}
	if allowed != 100 {
		t.Errorf("%d wrong logins of all together, want 100", allowed)
	}
	right := url.Values{"request": {i.openPage(t)}, "email": {"alice@example.com"}, "secret": {secret}}
	if resp, _ := post(t, i.browser, i.url("/oauth2/auth"), right); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a secret beyond the limit: %s", resp.Status)
	}
	i.logIn(t, "", i.code(t, "alice@example.com"))
	i.logIn(t, "alice@example.com", i.code(t, "alice@example.com"))
	i.clock.move(12 * time.Second)
	i.logIn(t, "alice@example.com", secret)
	i.clock.move(48 * time.Second)
	for n := range 2000 { // all at different times
		i.Allow(fmt.Sprintf("nobody%d@example.org", n))
		i.clock.move(50 * time.Millisecond)
	}
	i.clock.move(12 * time.Second)
	i.logIn(t, "alice@example.com", secret)
	i.clock.move(time.Minute)
	// One address does not use up what all have together.
	for range 500 {
		i.Allow("alice@example.com")
	}
	if !i.Allow("bob@example.com") {
		t.Error("wrong logins of one address locked another one out")
	}
}

// TestOnlyPeopleTryUserCodes: without a secret nothing tells a code that somebody
// waits for from any other; with one, ten can be tried.
func TestOnlyPeopleTryUserCodes(t *testing.T) {
	t.Parallel()
	i := start(t)
	d := i.startDevice(t)
	var answers [2]int
	for n, code := range []string{d.UserCode, "BBBB-BBBB"} {
		resp, body := i.answer(t, d.URI, url.Values{"user_code": {code}, "secret": {"wrong"}, "email": {"a@b.c"}})
		answers[n] = resp.StatusCode
		if strings.Contains(body, "waits") {
			t.Errorf("without a secret: %s", body)
		}
	}
	if answers != [2]int{401, 401} {
		t.Errorf("answers %v", answers)
	}
	secret := i.code(t, "alice@example.com")
	var g sync.WaitGroup
	statuses := make([]int, 11)
	for n := range statuses {
		g.Go(func() {
			resp, _ := i.answer(t, d.URI, url.Values{"user_code": {fmt.Sprintf("BBBB-BBB%c", 'C'+n)}, "secret": {secret}})
			statuses[n] = resp.StatusCode
		})
	}
	g.Wait()
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	if count[400] != 10 || count[429] != 1 {
		t.Errorf("answers %v", count)
	}
	if resp, _ := i.answer(t, d.URI, url.Values{"user_code": {d.UserCode}, "secret": {secret}}); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the right code after ten wrong ones: %s", resp.Status)
	}
	i.clock.move(10 * time.Second)
	if resp, _ := i.answer(t, d.URI, url.Values{"user_code": {d.UserCode}, "secret": {secret}}); resp.StatusCode != http.StatusOK {
		t.Errorf("later: %s", resp.Status)
	}
}

// TestOneTimeCodeOutlivesFailedLogins: what a login fails for does not cost the
// code; what succeeds does, once.
func TestOneTimeCodeOutlivesFailedLogins(t *testing.T) {
	t.Parallel()
	i := start(t)
	secret := i.code(t, "alice@example.com")

	// The device expired, or was refused by another, after the page was opened.
	d := i.startDevice(t)
	i.clock.move(10 * time.Minute)
	for _, deny := range []string{"", "yes"} {
		form := url.Values{"user_code": {d.UserCode}, "secret": {secret}}
		if deny != "" {
			form.Set("deny", deny)
		}
		if resp, _ := i.answer(t, d.URI, form); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("expired, deny %q: %s", deny, resp.Status)
		}
	}

	// There is no room for one more authorization code.
	for range 1000 {
		i.fillCode(t)
	}
	page := i.openPage(t)
	form := url.Values{"request": {page}, "secret": {secret}}
	resp, _ := post(t, i.browser, i.url("/oauth2/auth"), form)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("full: %s", resp.Status)
	}
	i.clock.move(time.Minute)

	// Two logins with one code at the same time: one of them.
	second := i.openPage(t)
	var g sync.WaitGroup
	var statuses [2]int
	for n, id := range []string{page, second} {
		g.Go(func() {
			resp, _ := post(t, i.browser, i.url("/oauth2/auth"), url.Values{"request": {id}, "secret": {secret}})
			statuses[n] = resp.StatusCode
		})
	}
	g.Wait()
	if statuses != [2]int{302, 401} && statuses != [2]int{401, 302} {
		t.Errorf("one code, two logins: %v", statuses)
	}
}

// fillCode logs in and leaves the authorization code where it is.
func (i *issuer) fillCode(t *testing.T) {
	t.Helper()
	h := i.Handler()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", i.url("/oauth2/auth?")+authorizeQuery().Encode(), nil))
	form := url.Values{"request": {hidden(t, w.Body.String())}, "secret": {i.code(t, "bob@example.com")}}
	req := httptest.NewRequest("POST", i.url("/oauth2/auth"), strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", formType)
	req.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, req); w.Code != http.StatusFound || !strings.Contains(w.Header().Get("Location"), "code=") {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Location"))
	}
}

// TestDefaultPort: the scheme's own port may be said or not, in Host and in the
// browser's Origin, which leaves it out.
func TestDefaultPort(t *testing.T) {
	t.Parallel()
	key, err := keyDir()
	if err != nil {
		t.Fatal(err)
	}
	for base, tc := range map[string]struct{ good, bad []string }{
		"https://sigstore.example.com": {[]string{"sigstore.example.com", "sigstore.example.com:443", "SIGSTORE.example.com"},
			[]string{"sigstore.example.com:80", "sigstore.example.com:8443", "", ":443", "example.com", "sigstore.example.com:443:443"}},
		"https://sigstore.example.com:443": {[]string{"sigstore.example.com", "sigstore.example.com:443"}, []string{"sigstore.example.com:4430"}},
		"http://127.0.0.1:80":              {[]string{"127.0.0.1", "127.0.0.1:80"}, []string{"127.0.0.1:443", "localhost"}},
		"http://127.0.0.1:8420":            {[]string{"127.0.0.1:8420"}, []string{"127.0.0.1", "127.0.0.1:80"}},
	} {
		p := open(t, key, base)
		for want, hosts := range map[int][]string{http.StatusOK: tc.good, http.StatusMisdirectedRequest: tc.bad} {
			for _, host := range hosts {
				req := httptest.NewRequest("GET", "/oauth2/keys", nil)
				req.Host = host
				w := httptest.NewRecorder()
				if p.Handler().ServeHTTP(w, req); w.Code != want {
					t.Errorf("%s with Host %q: %d", base, host, w.Code)
				}
				if host == "" || want == http.StatusOK && host != strings.ToLower(host) {
					continue
				}
				req = httptest.NewRequest("POST", "/oauth2/device/code", strings.NewReader(deviceForm().Encode()))
				req.Host = tc.good[0]
				req.Header.Set("Content-Type", formType)
				req.Header.Set("Origin", base[:strings.Index(base, "/")]+"//"+host)
				w = httptest.NewRecorder()
				p.Handler().ServeHTTP(w, req)
				if (w.Code == http.StatusOK) != (want == http.StatusOK) || want != http.StatusOK && w.Code != http.StatusForbidden {
					t.Errorf("%s with an Origin of %q: %d %s", base, host, w.Code, w.Body)
				}
			}
		}
	}
}

func open(t *testing.T, key []byte, issuer string) *oidc.Provider {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "oidc.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := oidc.Open(dir, oidc.Config{Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
