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
	// and only a person who has a secret may try one, ten in a row.
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
)

// device is a device code on its way.
type device struct {
	userCode  string // XXXX-XXXX
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
	makeRoom(p.devices, func(d *device) time.Time { return d.expires })
	for p.deviceOf(d.userCode) != nil {
		d.userCode = newUserCode()
	}
	p.devices[hashKey(code)] = d
	p.mu.Unlock()
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
	if len(want) != 8 {
		return nil
	}
	for _, d := range p.devices {
		if d.userCode[:4] == want[:4] && d.userCode[5:] == want[4:] && d.email == "" && !d.refused && p.cfg.Now().Before(d.expires) {
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
	id := p.newLogin(w, &login{})
	p.page(w, http.StatusOK, devicePage(id, q.Get("user_code")), nil)
}

func devicePage(id, userCode string) pageData {
	return pageData{Request: id, Action: "/oauth2/device", Device: true, UserCode: userCode[:min(len(userCode), 32)]}
}

// serveDeviceLogin takes the form: who it is first, then which code, so that only
// somebody with a secret can try codes. A typing error in the code does not cost
// a one-time code: logIn spends it only when the device was found.
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
	deny := values.Get("deny") != ""
	email, ok := p.logIn(w, r, attempt{id: id, page: l, values: values, again: devicePage(id, userCode),
		grant: func(email string) error { return p.answerDevice(userCode, email, deny) }})
	switch {
	case !ok:
	case deny:
		p.donePage(w, "The login was refused", "Whoever showed you this code gets no token.")
	default:
		p.cfg.Log.InfoContext(r.Context(), "login", "email", email, "flow", "device")
		p.donePage(w, "You are logged in", "You can close this page and go back to the terminal.")
	}
}

// answerDevice gives a waiting device its person, or that person's refusal. Wrong
// codes are counted for each person, so that codes cannot be searched. The caller
// holds mu.
func (p *Provider) answerDevice(userCode, email string, deny bool) error {
	tries := p.left("user codes of "+email, burst)
	if tries == nil || tries.left < 1 {
		return errTooMany
	}
	d := p.deviceOf(userCode)
	if d == nil {
		tries.left--
		return errNoDevice
	}
	d.email, d.refused = email, deny
	return nil
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
