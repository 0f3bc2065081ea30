package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// reserved claims are set by the issuer and nobody else.
func reserved(name string) bool {
	switch name {
	case "iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "azp":
		return true
	}
	return false
}

// Mint signs a token for an e-mail address without a login; whoever can call it
// could read the key too. audience "" is the client id; ttl is at most TokenLifetime.
func (p *Provider) Mint(email, audience string, ttl time.Duration) (string, error) {
	if err := checkEmail(email); err != nil {
		return "", err
	}
	return p.sign(emailClaims(email), audience, ttl)
}

// MintClaims is Mint for any claims: sub must be there, the issuer's own claims
// (iss, aud, times) are set by it whatever claims says.
func (p *Provider) MintClaims(claims map[string]any, audience string, ttl time.Duration) (string, error) {
	if s, ok := claims["sub"].(string); !ok || s == "" {
		return "", fmt.Errorf(`claim "sub" is missing or no string`)
	}
	return p.sign(claims, audience, ttl)
}

func emailClaims(email string) map[string]any {
	return map[string]any{"sub": email, "email": email, "email_verified": true}
}

// sign makes an RS256 JWT (RFC 7515). extra wins over nothing that the issuer sets.
func (p *Provider) sign(claims map[string]any, audience string, ttl time.Duration) (string, error) {
	return p.signLogin(claims, audience, ttl, nil)
}

func (p *Provider) signLogin(claims map[string]any, audience string, ttl time.Duration, login map[string]string) (string, error) {
	if audience == "" {
		audience = p.cfg.ClientID
	}
	if ttl <= 0 || ttl > TokenLifetime {
		ttl = TokenLifetime
	}
	now := p.cfg.Now()
	out := map[string]any{}
	for name, value := range claims {
		if !reserved(name) {
			out[name] = value
		}
	}
	for name, value := range login { // nonce and at_hash
		out[name] = value
	}
	out["iss"], out["aud"] = p.cfg.Issuer, audience
	out["iat"], out["exp"] = now.Unix(), now.Add(ttl).Unix()
	payload, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("identity token: %w", err)
	}
	header := `{"alg":"RS256","kid":"` + p.keyID + `","typ":"JWT"}`
	input := b64([]byte(header)) + "." + b64(payload)
	digest := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("identity token: %w", err)
	}
	return input + "." + b64(sig), nil
}

// tokens is the answer to a good token request (OpenID Connect Core 1.0, 3.1.3.3).
// The access token opens nothing here; clients want one to be there.
func (p *Provider) tokens(email, nonce string) (map[string]any, error) {
	access := random(32)
	sum := sha256.Sum256([]byte(access))
	login := map[string]string{"at_hash": b64(sum[:16])} // 3.1.3.6: left half
	if nonce != "" {
		login["nonce"] = nonce
	}
	id, err := p.signLogin(emailClaims(email), "", TokenLifetime, login)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token": access, "id_token": id, "token_type": "Bearer",
		"expires_in": int(TokenLifetime.Seconds()), "scope": "openid email",
	}, nil
}

// random is n random bytes in base64url.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b64(b)
}

// checkEmail takes addresses that fit an rfc822Name unchanged: ASCII, one @, and
// nothing that another reader could take for something else.
func checkEmail(email string) error {
	local, domain, ok := strings.Cut(email, "@")
	bad := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`@"(),:;<>[\]`, r)
	}
	if !ok || local == "" || domain == "" || len(email) > 254 ||
		strings.ContainsFunc(local, bad) || strings.ContainsFunc(domain, bad) ||
		strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(domain, "..") {
		return fmt.Errorf("%q is not an e-mail address (name@host, ASCII)", clip(email))
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 80)] }
