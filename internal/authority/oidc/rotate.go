package oidc

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Files in the issuer's folder: its key, and the public key before that one, for the
// tokens that it signed.
const (
	FileKey    = keyFile
	FileBefore = "before.sealed"
)

// before is a key that signs no more.
type before struct {
	SPKI  []byte    `json:"spki"`  // DER
	Until time.Time `json:"until"` // its last token has expired by then

	key   *rsa.PublicKey
	keyID string
}

// Rotate replaces the signing key of the issuer in dir, which must not be open. Tokens
// of the old key are taken until they expire; its private half is gone. After a crash
// the old key is there still, or the new one with the old one's tokens.
func Rotate(dir string, now time.Time) error {
	path := filepath.Join(dir, keyFile)
	key, err := loadKey(path, true)
	if err != nil {
		return err
	}
	b := before{Until: now.Add(TokenLifetime + time.Minute).UTC().Truncate(time.Second)}
	if b.SPKI, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return err
	}
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := durable.WriteSealed(filepath.Join(dir, FileBefore), append(data, '\n'), 0o600); err != nil {
		return err
	}
	_, err = makeKey(path)
	return err
}

// KeyID is the id of the present signing key of the issuer in dir (JWS header "kid").
func KeyID(dir string) (string, error) {
	key, err := loadKey(filepath.Join(dir, keyFile), true)
	if err != nil {
		return "", err
	}
	return thumbprint(&key.PublicKey), nil
}

// loadBefore reads the key before, nil without one.
func loadBefore(dir string) (*before, error) {
	path := filepath.Join(dir, FileBefore)
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("OIDC key: %w", err)
	}
	b := new(before)
	if err := json.Unmarshal(data, b); err != nil {
		return nil, &durable.CorruptError{Path: path, Why: "it is not a key that was replaced"}
	}
	parsed, err := x509.ParsePKIXPublicKey(b.SPKI)
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, &durable.CorruptError{Path: path, Why: "it is not a key that was replaced"}
	}
	b.key, b.keyID = key, thumbprint(key)
	return b, nil
}

// former is the key before, while a token of it can be valid, else nil.
func (p *Provider) former() *before {
	if p.before == nil || p.before.keyID == p.keyID || p.cfg.Now().After(p.before.Until) {
		return nil
	}
	return p.before
}

// jwk is a public key as a JSON Web Key (RFC 7517, section 4).
func jwk(kid string, key *rsa.PublicKey) map[string]any {
	return map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
		"n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
	}
}
