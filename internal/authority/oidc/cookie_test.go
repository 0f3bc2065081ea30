package oidc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Who knows the number of somebody's login page, but not the value of the cookie
// in that person's browser, cannot finish the login.
func TestCookieValueCounts(t *testing.T) {
	t.Parallel()
	i := start(t)
	resp, _ := get(t, i.browser, i.url("/oauth2/auth?"+authorizeQuery().Encode()))
	cookies := resp.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	name, right := cookies[0].Name, cookies[0].Value
	form := url.Values{"request": {strings.TrimPrefix(name, "hallmark-login-")}, "secret": {i.code(t, "a@b.example")}}.Encode()
	for _, value := range []string{"", "x", right[:len(right)-1], right + "x", strings.ToLower(right) + "_", right} {
		req, err := http.NewRequest(http.MethodPost, i.url("/oauth2/auth"), strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", formType)
		req.AddCookie(&http.Cookie{Name: name, Value: value})
		want := http.StatusForbidden
		if value == right { // the wrong ones have cost neither the page nor the code
			want = http.StatusFound
		}
		if resp, _ := do(t, newBrowser(), req); resp.StatusCode != want {
			t.Errorf("cookie %q: %d, want %d", value, resp.StatusCode, want)
		}
	}
}
