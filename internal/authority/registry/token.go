package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Tokens of the token protocol (distribution's docs/content/spec/auth/jwt.md):
// JWTs that say who may do what for some minutes. Only this process reads them,
// so they carry a MAC (RFC 7518, HS256) under a key that ends with the process:
// after a restart clients ask for new ones, which they do by themselves.

const (
	tokenLifetime = 5 * time.Minute
	maxToken      = 32 << 10 // bytes
)

// tokenHeader is the one header that is given and taken; a token with any other
// is none of ours, whatever it says of its algorithm (RFC 8725, section 3.1).
var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// access is one grant of a token.
type access struct {
	Type    string   `json:"type"` // "repository"
	Name    string   `json:"name"`
	Actions []Action `json:"actions"`
}

// tokenClaims are the claims of a token; times are Unix seconds.
type tokenClaims struct {
	Issuer    string   `json:"iss"`
	Audience  string   `json:"aud"`
	Subject   string   `json:"sub"`
	IssuedAt  int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	Access    []access `json:"access"`
}

// tokens makes and checks the tokens of one registry.
type tokens struct {
	key      [32]byte
	issuer   string // base URL
	audience string // host:port: the service
	now      func() time.Time
}

func newTokens(issuer, service string, now func() time.Time) *tokens {
	t := &tokens{issuer: issuer, audience: service, now: now}
	_, _ = rand.Read(t.key[:]) // never fails
	return t
}

func (t *tokens) mac(signed string) []byte {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(signed))
	return m.Sum(nil)
}

// issue makes a token for p with exactly these grants.
func (t *tokens) issue(p Principal, grants []access) (string, time.Time, error) {
	now := t.now()
	payload, err := json.Marshal(tokenClaims{
		Issuer: t.issuer, Audience: t.audience, Subject: string(p),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(tokenLifetime).Unix(), Access: grants,
	})
	if err != nil {
		return "", now, err
	}
	signed := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(t.mac(signed)), now, nil
}

var errToken = errors.New("the token is not one of this registry, or has expired")

// check returns the claims of a token that is ours and valid now.
func (t *tokens) check(raw string) (tokenClaims, error) {
	var c tokenClaims
	end := strings.LastIndexByte(raw, '.')
	if len(raw) > maxToken || end < 0 {
		return c, errToken
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(raw[end+1:])
	// Nothing of a token is looked at before its MAC.
	if err != nil || !hmac.Equal(sig, t.mac(raw[:end])) {
		return c, errToken
	}
	header, payload, _ := strings.Cut(raw[:end], ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || header != tokenHeader || json.Unmarshal(data, &c) != nil {
		return c, errToken
	}
	now := t.now().Unix()
	if c.Issuer != t.issuer || c.Audience != t.audience || now < c.NotBefore || now >= c.Expires {
		return c, errToken
	}
	return c, nil
}
