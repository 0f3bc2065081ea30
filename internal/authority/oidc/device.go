package oidc

import (
	"crypto/rand"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	deviceLifetime = 10 * time.Minute
	deviceInterval = time.Second // between polls; this is one machine, not the internet
	slowDown       = 5 * time.Second

	// Consonants without look-alikes (RFC 8628, 6.1): 8 of 20 letters, 34 bits,
	// and only a person who has logged in may try one.
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
)

// device is a device code on its way.
type device struct {
	userCode  string
	challenge string
	expires   time.Time
	interval  time.Duration
	polled    time.Time // zero before the first poll
	email     string    // who approved it, "" before
	refused   bool
}

// serveDeviceCode is the device authorization endpoint (RFC 8628, 3.1 and 3.2).
func (p *Provider) serveDeviceCode(w http.ResponseWriter, r *http.Request) {
	values, ok := form(w, r)
	if !ok {
		return
	}
	switch {
	case !p.clientIs(r, values):
		oauthError(w, http.StatusUnauthorized, "invalid_client", "client_id must be "+p.cfg.ClientID+", without a secret")
		return
	case !hasWord(values.Get("scope"), "openid"):
		oauthError(w, http.StatusBadRequest, "invalid_scope", "scope must contain openid")
		return
	case values.Get("code_challenge_method") != "S256" || !isChallenge(values.Get("code_challenge")):
		oauthError(w, http.StatusBadRequest, "invalid_request", "PKCE with code_challenge_method S256 is required")
		return
	}
	code := random(32)
	d := &device{userCode: newUserCode(), challenge: values.Get("code_challenge"),
		expires: p.cfg.Now().Add(deviceLifetime), interval: deviceInterval}
	p.mu.Lock()
	p.sweep()
	full := len(p.devices) >= maxPending || p.deviceOf(d.userCode) != nil
	if !full {
		p.devices[hashKey(code)] = d
	}
	p.mu.Unlock()
	if full {
		oauthError(w, http.StatusServiceUnavailable, "temporarily_unavailable", "too many logins are open")
		return
	}
	page := p.cfg.Issuer + "/oauth2/device"
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": d.userCode, "verification_uri": page,
		"verification_uri_complete": page + "?user_code=" + url.QueryEscape(d.userCode),
		"expires_in":                int(deviceLifetime.Seconds()), "interval": int(deviceInterval.Seconds()),
	})
}

func newUserCode() string {
	var b strings.Builder
	for i := range 8 {
		if i == 4 {
			b.WriteByte('-')
		}
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(userCodeLetters)))) // never fails
		b.WriteByte(userCodeLetters[n.Int64()])
	}
	return b.String()
}

// deviceOf finds a device that waits for its person. The caller holds mu.
func (p *Provider) deviceOf(userCode string) *device {
	want := plain(userCode)
	for _, d := range p.devices {
		if plain(d.userCode) == want && d.email == "" && !d.refused && p.cfg.Now().Before(d.expires) {
			return d
		}
	}
	return nil
}

// serveDevicePage shows the form (RFC 8628, 3.3).
func (p *Provider) serveDevicePage(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || wellFormed(q) != "" {
		p.errorPage(w, http.StatusBadRequest, "The login address cannot be read.")
		return
	}
	id, ok := p.newLogin(w, &login{})
	if !ok {
		p.errorPage(w, http.StatusServiceUnavailable, "Too many logins are open. Try again in some minutes.")
		return
	}
	p.page(w, http.StatusOK, devicePage(id, q.Get("user_code")), nil)
}

func devicePage(id, userCode string) pageData {
	return pageData{Request: id, Action: "/oauth2/device", Device: true, UserCode: userCode[:min(len(userCode), 32)]}
}

// serveDeviceLogin takes the form: who it is first, then which code, so that only
// somebody with a secret can try codes.
func (p *Provider) serveDeviceLogin(w http.ResponseWriter, r *http.Request) {
	values, ok := form(w, r)
	if !ok {
		return
	}
	id, userCode := values.Get("request"), values.Get("user_code")
	l := p.pageOf(r, id)
	if l == nil || l.redirect != nil {
		p.errorPage(w, http.StatusForbidden, lostPage)
		return
	}
	// A one-time code must not be lost to a typing error in the other field.
	p.mu.Lock()
	known := p.deviceOf(userCode) != nil
	p.mu.Unlock()
	if !known && values.Get("deny") == "" {
		p.unknownDevice(w, id, l, values)
		return
	}
	email, ok := p.logIn(w, r, id, l, values, devicePage(id, userCode))
	if !ok {
		return
	}
	p.mu.Lock()
	d := p.deviceOf(userCode)
	if d != nil {
		d.email, d.refused = email, values.Get("deny") != ""
	}
	p.mu.Unlock()
	switch {
	case d == nil:
		p.errorPage(w, http.StatusBadRequest, "This code is not known any more. Start the login again.")
	case d.refused:
		p.donePage(w, "The login was refused", "Whoever showed you this code gets no token.")
	default:
		p.cfg.Log.InfoContext(r.Context(), "login", "email", email, "flow", "device")
		p.donePage(w, "You are logged in", "You can close this page and go back to the terminal.")
	}
}

// unknownDevice answers a code that nobody waits for. It costs the page a try and
// time, so that codes cannot be searched.
func (p *Provider) unknownDevice(w http.ResponseWriter, id string, l *login, values url.Values) {
	p.mu.Lock()
	l.wrong++
	p.mu.Unlock()
	if !p.allow("user code") {
		w.Header().Set("Retry-After", "60")
		p.errorPage(w, http.StatusTooManyRequests, sentence(errTooMany))
		return
	}
	time.Sleep(failureDelay)
	page := devicePage(id, values.Get("user_code"))
	page.Email, page.Problem = values.Get("email"), "Nobody waits for this code. Look at the terminal again."
	p.page(w, http.StatusBadRequest, page, nil)
}

// exchangeDevice answers a poll (RFC 8628, 3.4 and 3.5).
func (p *Provider) exchangeDevice(w http.ResponseWriter, r *http.Request, values url.Values) {
	key := hashKey(values.Get("device_code"))
	p.mu.Lock()
	code, description, email := p.poll(key, values.Get("code_verifier"))
	p.mu.Unlock()
	if code != "" {
		oauthError(w, http.StatusBadRequest, code, description)
		return
	}
	p.giveTokens(w, r, email, "")
}

// poll decides about one poll. The caller holds mu.
func (p *Provider) poll(key, verifier string) (code, description, email string) {
	now, d := p.cfg.Now(), p.devices[key]
	if d == nil {
		return "invalid_grant", "the device_code is unknown or was used already", ""
	}
	early := !d.polled.IsZero() && now.Sub(d.polled) < d.interval
	d.polled = now
	switch {
	case !verifies(verifier, d.challenge):
		delete(p.devices, key)
		return "invalid_grant", "code_verifier does not match the code_challenge of the login", ""
	case !now.Before(d.expires):
		delete(p.devices, key)
		return "expired_token", "nobody logged in in time", ""
	case d.refused:
		delete(p.devices, key)
		return "access_denied", "the login was refused", ""
	case d.email == "" && early:
		d.interval += slowDown
		return "slow_down", "wait longer between two polls", ""
	case d.email == "":
		return "authorization_pending", "nobody has logged in yet", ""
	}
	delete(p.devices, key)
	return "", "", d.email
}
