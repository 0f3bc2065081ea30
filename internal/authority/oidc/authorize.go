package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/loopback"
)

const (
	loginLifetime = 10 * time.Minute // of a login page
	codeLifetime  = 60 * time.Second // of an authorization code
	maxPending    = 1000             // login pages, codes or device codes at a time
	maxWrong      = 5                // wrong secrets on one page
	failureDelay  = 250 * time.Millisecond
	cookieName    = "hallmark-login-"
)

// login is one login page that was handed out. The page's form carries its id,
// the browser a cookie that belongs to it: another site has neither.
type login struct {
	cookie  [32]byte // SHA-256
	expires time.Time
	wrong   int

	// Of the authorization code flow; zero on device pages.
	redirect  *url.URL
	state     string
	nonce     string
	challenge string
}

// grant is an authorization code that was not used yet.
type grant struct {
	email, nonce, redirect, challenge string
	expires                           time.Time
}

// serveAuthorize is the authorization endpoint (RFC 6749, 3.1; RFC 7636, 4.3).
// Nothing is sent to the redirect URI before it has been checked.
func (p *Provider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > maxBody {
		p.errorPage(w, http.StatusBadRequest, "The login address cannot be read.")
		return
	}
	if why := wellFormed(q); why != "" {
		p.errorPage(w, http.StatusBadRequest, "The login address is wrong: "+why+".")
		return
	}
	if q.Get("client_id") != p.cfg.ClientID {
		p.errorPage(w, http.StatusBadRequest, "The login address is wrong: unknown client_id.")
		return
	}
	redirect, why := checkRedirect(q.Get("redirect_uri"))
	if why != "" {
		p.errorPage(w, http.StatusBadRequest, "The login address is wrong: "+why+".")
		return
	}
	if code, description := checkAuthorize(q); code != "" {
		back := url.Values{"error": {code}, "error_description": {description}}
		if s := q.Get("state"); s != "" {
			back.Set("state", s)
		}
		sendBack(w, r, redirect, back)
		return
	}
	l := &login{redirect: redirect, state: q.Get("state"), nonce: q.Get("nonce"), challenge: q.Get("code_challenge")}
	p.page(w, http.StatusOK, pageData{Request: p.newLogin(w, l), Action: "/oauth2/auth", Client: redirect.Host}, redirect)
}

// checkAuthorize says which parameter is wrong, with its OAuth error code.
func checkAuthorize(q url.Values) (code, description string) {
	switch {
	case q.Get("response_type") != "code":
		return "unsupported_response_type", "response_type must be code"
	case !hasWord(q.Get("scope"), "openid"):
		return "invalid_scope", "scope must contain openid"
	case q.Get("state") == "":
		return "invalid_request", "state is required"
	case q.Get("nonce") == "":
		return "invalid_request", "nonce is required"
	case q.Get("code_challenge_method") != "S256":
		return "invalid_request", "PKCE with code_challenge_method S256 is required"
	case !isChallenge(q.Get("code_challenge")):
		return "invalid_request", "code_challenge must be the base64url SHA-256 of the verifier"
	case q.Has("request") || q.Has("request_uri"):
		return "request_not_supported", "request objects are not supported"
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		return "invalid_request", "response_mode must be query"
	case hasWord(q.Get("prompt"), "none"):
		return "login_required", "somebody must log in"
	}
	return "", ""
}

func hasWord(list, word string) bool {
	for _, w := range strings.Fields(list) {
		if w == word {
			return true
		}
	}
	return false
}

// isChallenge: 32 bytes in unpadded base64url (RFC 7636, 4.2).
func isChallenge(s string) bool {
	return len(s) == 43 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// checkRedirect takes only programs on the person's own machine (RFC 8252, 7.3):
// plain http to localhost, 127.0.0.0/8 or [::1] with any port and path.
func checkRedirect(raw string) (u *url.URL, why string) {
	if raw == "" {
		return nil, "redirect_uri is missing"
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.String() != raw || strings.ContainsAny(raw, `\ `) {
		return nil, "redirect_uri is not a plain URL"
	}
	if u.Scheme != "http" || u.User != nil || u.Fragment != "" || strings.HasSuffix(raw, "#") || !loopback.Host(u.Host) {
		return nil, "redirect_uri must be http on this machine (localhost, 127.0.0.1 or [::1])"
	}
	return u, ""
}

// sendBack redirects to a checked redirect URI with parameters added to its own.
func sendBack(w http.ResponseWriter, r *http.Request, to *url.URL, add url.Values) {
	u := *to
	q := u.Query()
	for name, values := range add {
		q[name] = values
	}
	u.RawQuery = q.Encode()
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, u.String(), http.StatusFound)
}

// newLogin registers a page and gives the browser its cookie. The oldest page
// makes room for it: whoever opens pages without end locks nobody out.
func (p *Provider) newLogin(w http.ResponseWriter, l *login) (id string) {
	id, cookie := random(16), random(32)
	l.cookie, l.expires = sha256.Sum256([]byte(cookie)), p.cfg.Now().Add(loginLifetime)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep()
	makeRoom(p.logins, func(l *login) time.Time { return l.expires })
	p.logins[id] = l
	http.SetCookie(w, &http.Cookie{Name: cookieName + id, Value: cookie, Path: "/oauth2/", MaxAge: int(loginLifetime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: strings.HasPrefix(p.cfg.Issuer, "https:")})
	return id
}

// makeRoom takes the oldest out of pending until one more fits.
func makeRoom[T any](pending map[string]T, expires func(T) time.Time) {
	for len(pending) >= maxPending {
		oldest, first := "", time.Time{}
		for key, v := range pending {
			if at := expires(v); oldest == "" || at.Before(first) {
				oldest, first = key, at
			}
		}
		delete(pending, oldest)
	}
}

// sweep forgets what has expired. The caller holds mu.
func (p *Provider) sweep() {
	now := p.cfg.Now()
	for key, l := range p.logins {
		if !now.Before(l.expires) {
			delete(p.logins, key)
		}
	}
	for key, g := range p.codes {
		if !now.Before(g.expires) {
			delete(p.codes, key)
		}
	}
	for key, d := range p.devices {
		if !now.Before(d.expires.Add(loginLifetime)) { // "expired_token" is answered for a while
			delete(p.devices, key)
		}
	}
}

// pageOf finds the login page that a form came from; nil when the form did not
// come from a page of ours in the same browser.
func (p *Provider) pageOf(r *http.Request, id string) *login {
	cookie, err := r.Cookie(cookieName + id)
	if err != nil {
		return nil
	}
	if s := r.Header.Get("Sec-Fetch-Site"); s != "" && s != "same-origin" {
		return nil
	}
	sum := sha256.Sum256([]byte(cookie.Value))
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.logins[id]
	if l == nil || !p.cfg.Now().Before(l.expires) || l.wrong >= maxWrong || subtle.ConstantTimeCompare(l.cookie[:], sum[:]) != 1 {
		return nil
	}
	return l
}

const lostPage = "This login page is too old, was used already, or was not opened in this browser. Start the login again."

// serveLogin takes the login form of the authorization code flow.
func (p *Provider) serveLogin(w http.ResponseWriter, r *http.Request) {
	values, ok := form(w, r)
	if !ok {
		return
	}
	id := values.Get("request")
	l := p.pageOf(r, id)
	if l == nil || l.redirect == nil {
		p.errorPage(w, http.StatusForbidden, lostPage)
		return
	}
	code := random(32)
	email, ok := p.logIn(w, r, attempt{id: id, page: l, values: values,
		again: pageData{Request: id, Action: "/oauth2/auth", Client: l.redirect.Host},
		grant: func(email string) error {
			p.sweep()
			if len(p.codes) >= maxPending {
				return errFull
			}
			p.codes[hashKey(code)] = &grant{email: email, nonce: l.nonce, redirect: l.redirect.String(),
				challenge: l.challenge, expires: p.cfg.Now().Add(codeLifetime)}
			return nil
		}})
	if !ok {
		return
	}
	p.cfg.Log.InfoContext(r.Context(), "login", "email", email, "flow", "code")
	sendBack(w, r, l.redirect, url.Values{"code": {code}, "state": {l.state}})
}

// attempt is a login form that came back.
type attempt struct {
	id     string
	page   *login
	values url.Values
	again  pageData                 // what to show after a failure
	grant  func(email string) error // what the login is for; called with mu held
}

// logIn checks what was typed into a page; ok is false when it has answered. A
// page serves one login: it is gone when logIn returns true.
func (p *Provider) logIn(w http.ResponseWriter, r *http.Request, a attempt) (email string, ok bool) {
	page := a.again
	page.Email = strings.TrimSpace(a.values.Get("email"))
	who, err := p.authenticate(page.Email, strings.TrimSpace(a.values.Get("secret")))
	err = p.settle(a, who, err)
	status := statusOf(err)
	switch {
	case err == nil:
		http.SetCookie(w, &http.Cookie{Name: cookieName + a.id, Path: "/oauth2/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		return who.email, true
	case err == errLost:
		p.errorPage(w, status, lostPage)
		return "", false
	case status == http.StatusInternalServerError:
		p.cfg.Log.ErrorContext(r.Context(), "login", "error", err)
		p.errorPage(w, status, "The list of users cannot be read; the log of the authority says why.")
		return "", false
	case err == errTooMany || err == errFull:
		w.Header().Set("Retry-After", "60")
	default:
		p.cfg.Log.WarnContext(r.Context(), "wrong login")
		select { // costs a guesser time, and only him
		case <-time.After(failureDelay):
		case <-r.Context().Done():
		}
	}
	page.Problem = sentence(err)
	p.page(w, status, page, a.page.redirect)
	return "", false
}

func statusOf(err error) int {
	switch err {
	case nil:
		return http.StatusOK
	case errLost:
		return http.StatusForbidden
	case errWrong:
		return http.StatusUnauthorized
	case errNoDevice:
		return http.StatusBadRequest
	case errTooMany:
		return http.StatusTooManyRequests
	case errFull:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// settle ends an attempt that authenticate has judged: the page and a one-time
// code are spent together with what they bought, or not at all.
func (p *Provider) settle(a attempt, who proof, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logins[a.id] != a.page {
		return errLost // in another request, meanwhile
	}
	if err == nil && !p.holds(who) {
		err = errWrong
	}
	if err == nil {
		err = a.grant(who.email)
	}
	if err != nil {
		if err != errFull {
			a.page.wrong++
		}
		return err
	}
	delete(p.logins, a.id)
	p.spend(who)
	return nil
}

// hashKey keeps bearer codes out of memory maps, and lookups free of timing.
func hashKey(code string) string { sum := sha256.Sum256([]byte(code)); return string(sum[:]) }
