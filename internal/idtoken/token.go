// Package idtoken finds the identity token of a keyless signer: the one that was
// given, the one that a CI system, cloud or workload API hands out, or the one
// that a person gets by logging in with a browser or a device code.
//
// A [Token] is parsed and not believed: only whoever issued it and the CA that
// takes it check its signature. It is a bearer secret for as long as it lives,
// so no error and no log of this package contains a byte of it.
//
// Environment variables and the services that they name are trusted: whoever
// can set them can make the user sign under another identity, but cannot get a
// certificate for one that the issuer did not grant.
package idtoken

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxSize bounds a token; GitHub's have about 2 KiB.
const MaxSize = 16 << 10

// Token is an ID token (OpenID Connect Core 1.0, section 2) in the JWS compact
// serialization (RFC 7515, 3.1), parsed and not verified.
type Token struct {
	Raw      string // a bearer secret: never print or log it
	Issuer   string
	Subject  string
	Email    string // "" when the token has none
	Audience []string
	Expiry   time.Time
	IssuedAt time.Time // zero when the token has no iat

	Algorithm string // header "alg", never "none"
	KeyID     string // header "kid", may be ""
	Claims    map[string]json.RawMessage
	Signature []byte
}

// String keeps a token out of logs that print with %v or %s.
func (t Token) String() string { return "identity token of " + t.Issuer }

// GoString keeps a token out of logs that print with %#v.
func (t Token) GoString() string { return t.String() }

// ProofSubject is what a signer signs to prove to the CA that it has its key:
// the e-mail address if the token has one, else the subject.
func (t Token) ProofSubject() string {
	if t.Email != "" {
		return t.Email
	}
	return t.Subject
}

// SigningInput is what the signature is over (RFC 7515, 5.2).
func (t Token) SigningInput() []byte {
	return []byte(t.Raw[:strings.LastIndexByte(t.Raw, '.')])
}

// Text is the string claim name, "" when it is absent; ok is false when it is
// there and no string.
func (t Token) Text(name string) (value string, ok bool) {
	raw, present := t.Claims[name]
	if !present {
		return "", true
	}
	if json.Unmarshal(raw, &value) != nil || string(raw) == "null" {
		return "", false
	}
	return value, true
}

// Time is the NumericDate claim name (RFC 7519, section 2), zero when absent.
func (t Token) Time(name string) (time.Time, error) {
	raw, present := t.Claims[name]
	if !present {
		return time.Time{}, nil
	}
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil || string(raw) == "null" ||
		math.IsNaN(seconds) || seconds < 1 || seconds > 253402300799 { // the end of the year 9999
		return time.Time{}, fmt.Errorf("claim %q is not a time in seconds", name)
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// errShape tells what a token looks like without showing any of one.
var errShape = errors.New("not an identity token: want three base64url parts with dots between them (a JWT)")

// Parse reads a token strictly: three parts, unpadded canonical base64url, JSON
// without duplicate members, an algorithm, no critical extensions, and the
// claims iss, sub, aud and exp. Errors name the claim and show nothing of the token.
func Parse(raw string) (Token, error) {
	if len(raw) > MaxSize {
		return Token{}, fmt.Errorf("not an identity token: longer than %d bytes", MaxSize)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return Token{}, errShape
	}
	var decoded [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		// DecodeString skips line breaks, which compact serialization does not have.
		if err != nil || len(b) == 0 || strings.ContainsAny(part, "\r\n") {
			return Token{}, errShape
		}
		decoded[i] = b
	}
	t := Token{Raw: raw, Signature: decoded[2]}
	if err := t.header(decoded[0]); err != nil {
		return Token{}, err
	}
	if err := strictjson.Unmarshal(decoded[1], &t.Claims); err != nil {
		return Token{}, fmt.Errorf("the identity token's claims are not strict JSON: %w", redact(err))
	}
	if err := t.standardClaims(); err != nil {
		return Token{}, fmt.Errorf("identity token: %w", err)
	}
	return t, nil
}

// redact keeps only the reason of a strict reader's error: member names are the token's.
func redact(err error) error {
	var s *strictjson.Error
	if errors.As(err, &s) && strings.Contains(s.Msg, "duplicate") {
		return errors.New("a member occurs twice")
	}
	return errors.New("refused by the strict reader")
}

func (t *Token) header(data []byte) error {
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("the identity token's header is not strict JSON: %w", redact(err))
	}
	text := func(name string) string {
		var s string
		if json.Unmarshal(fields[name], &s) != nil {
			return ""
		}
		return s
	}
	t.Algorithm, t.KeyID = text("alg"), text("kid")
	if t.Algorithm == "" || strings.EqualFold(t.Algorithm, "none") {
		return errors.New(`the identity token is not signed (header "alg")`)
	}
	if _, ok := fields["crit"]; ok { // RFC 7515, 4.1.11: what is not understood must be refused
		return errors.New(`the identity token has critical extensions (header "crit")`)
	}
	return nil
}

func (t *Token) standardClaims() (err error) {
	for name, field := range map[string]*string{"iss": &t.Issuer, "sub": &t.Subject, "email": &t.Email} {
		value, ok := t.Text(name)
		if !ok {
			return fmt.Errorf("claim %q is not a string", name)
		}
		*field = value
	}
	if t.Issuer == "" {
		return errors.New(`claim "iss" (issuer) is missing`)
	}
	if t.Subject == "" {
		return errors.New(`claim "sub" (subject) is missing`)
	}
	if t.Audience, err = audience(t.Claims["aud"]); err != nil {
		return err
	}
	if t.Expiry, err = t.Time("exp"); err != nil {
		return err
	}
	if t.Expiry.IsZero() {
		return errors.New(`claim "exp" (expiry) is missing`)
	}
	t.IssuedAt, err = t.Time("iat")
	return err
}

// audience is a string or an array of strings (RFC 7519, 4.1.3).
func audience(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, errors.New(`claim "aud" (audience) is missing`)
	}
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}, nil
	}
	var many []*string
	if json.Unmarshal(raw, &many) != nil || len(many) == 0 {
		return nil, errors.New(`claim "aud" (audience) is neither a string nor a list of strings`)
	}
	out := make([]string, len(many))
	for i, a := range many {
		if a == nil || *a == "" {
			return nil, errors.New(`claim "aud" (audience) is neither a string nor a list of strings`)
		}
		out[i] = *a
	}
	return out, nil
}
