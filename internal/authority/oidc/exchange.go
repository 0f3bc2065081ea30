package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// serveToken is the token endpoint (RFC 6749, 3.2).
func (p *Provider) serveToken(w http.ResponseWriter, r *http.Request) {
	values, ok := form(w, r)
	if !ok {
		return
	}
	if !p.clientIs(r, values) {
		w.Header().Set("WWW-Authenticate", `Basic realm="hallmark"`)
		oauthError(w, http.StatusUnauthorized, "invalid_client", "client_id must be "+p.cfg.ClientID+", without a secret")
		return
	}
	switch values.Get("grant_type") {
	case "authorization_code":
		p.exchangeCode(w, r, values)
	case deviceGrant:
		p.exchangeDevice(w, r, values)
	default:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "grant_type must be authorization_code or "+deviceGrant)
	}
}

// clientIs checks the public client: HTTP Basic with an empty secret, or the
// form's client_id (RFC 6749, 2.3.1 and 3.2.1). If both are there, both must be it.
func (p *Provider) clientIs(r *http.Request, values url.Values) bool {
	if values.Get("client_secret") != "" {
		return false
	}
	inForm := values.Get("client_id")
	if len(r.Header.Values("Authorization")) > 0 {
		user, password, ok := r.BasicAuth()
		id, err := url.QueryUnescape(user)
		return ok && err == nil && password == "" && id == p.cfg.ClientID && (inForm == "" || inForm == id)
	}
	return inForm == p.cfg.ClientID
}

// exchangeCode gives a token for a code (RFC 6749, 4.1.3; RFC 7636, 4.6). Whatever
// is wrong, the code is spent: a stolen one is worth a single guess.
func (p *Provider) exchangeCode(w http.ResponseWriter, r *http.Request, values url.Values) {
	p.mu.Lock()
	key := hashKey(values.Get("code"))
	g := p.codes[key]
	delete(p.codes, key)
	p.mu.Unlock()
	switch {
	case g == nil || !p.cfg.Now().Before(g.expires):
		oauthError(w, http.StatusBadRequest, "invalid_grant", "the code is unknown, used already, or older than a minute")
	case values.Get("redirect_uri") != g.redirect:
		oauthError(w, http.StatusBadRequest, "invalid_grant", "redirect_uri is not the one of the login")
	case !verifies(values.Get("code_verifier"), g.challenge):
		oauthError(w, http.StatusBadRequest, "invalid_grant", "code_verifier does not match the code_challenge of the login")
	default:
		p.giveTokens(w, r, g.email, g.nonce)
	}
}

func (p *Provider) giveTokens(w http.ResponseWriter, r *http.Request, email, nonce string) {
	answer, err := p.tokens(email, nonce)
	if err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "signing a token", "error", err)
		oauthError(w, http.StatusInternalServerError, "server_error", "the token could not be signed")
		return
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749, 5.1
	writeJSON(w, http.StatusOK, answer)
}

// verifies checks PKCE's S256 (RFC 7636, 4.1 and 4.6).
func verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || strings.ContainsFunc(verifier, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	}) {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(b64(sum[:])), []byte(challenge)) == 1
}
