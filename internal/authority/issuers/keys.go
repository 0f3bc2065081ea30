package issuers

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const maxKeys = 100 // of one issuer

// keySet is what an issuer says of itself: its signing keys and algorithms.
type keySet struct {
	keys       []publicKey
	algorithms []string // not empty
}

type publicKey struct {
	id        string
	algorithm string // "" when the key does not say
	public    crypto.PublicKey
}

// has reports whether a token that names this key can be judged with the set.
func (s *keySet) has(kid string) bool {
	if kid == "" {
		return len(s.keys) == 1
	}
	return slices.ContainsFunc(s.keys, func(k publicKey) bool { return k.id == kid })
}

// find is the keys that a token's header may mean: those with its kid, or without
// one the only key there is.
func (s *keySet) find(kid, algorithm string) (out []crypto.PublicKey) {
	if kid == "" && len(s.keys) != 1 {
		return nil
	}
	for _, k := range s.keys {
		if (kid == "" || k.id == kid) && (k.algorithm == "" || k.algorithm == algorithm) {
			out = append(out, k.public)
		}
	}
	return out
}

// metadata is the part of the discovery document that matters here (OpenID Connect
// Discovery 1.0, section 3).
type metadata struct {
	issuer, jwks string
	algorithms   []string
}

// members reads an object whose schema others may extend: names are compared
// exactly, and none may occur twice.
func members(data []byte) (map[string]json.RawMessage, error) {
	if err := strictjson.Valid(data, 32); err != nil {
		return nil, errors.New("the answer is not strict JSON")
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil || m == nil {
		return nil, errors.New("the answer is no JSON object")
	}
	return m, nil
}

// stringOf is the string member name, "" when there is none.
func stringOf(m map[string]json.RawMessage, name string) (s string) {
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

func parseMetadata(data []byte) (metadata, error) {
	m, err := members(data)
	if err != nil {
		return metadata{}, err
	}
	d := metadata{issuer: stringOf(m, "issuer"), jwks: stringOf(m, "jwks_uri")}
	if d.issuer == "" || d.jwks == "" {
		return metadata{}, errors.New("issuer or jwks_uri is missing")
	}
	var said []string
	if raw := m["id_token_signing_alg_values_supported"]; raw != nil && json.Unmarshal(raw, &said) != nil {
		return metadata{}, errors.New("id_token_signing_alg_values_supported is no list of strings")
	}
	for _, a := range said {
		if _, known := algorithms[a]; known && !slices.Contains(d.algorithms, a) {
			d.algorithms = append(d.algorithms, a)
		}
	}
	switch {
	case len(said) == 0:
		d.algorithms = []string{"RS256"} // which every issuer must have
	case len(d.algorithms) == 0:
		return metadata{}, errors.New("it signs with no algorithm that we know")
	}
	return d, nil
}

// parseKeys reads a JWK set (RFC 7517, 5). A key of a kind that we do not know, or
// that is not for signatures, is passed over, as section 5 asks; one that says
// something wrong about itself makes the set wrong.
func parseKeys(data []byte) ([]publicKey, error) {
	m, err := members(data)
	if err != nil {
		return nil, err
	}
	var all []map[string]json.RawMessage
	if json.Unmarshal(m["keys"], &all) != nil || all == nil {
		return nil, errors.New("keys is no list of keys")
	}
	if len(all) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	var out []publicKey
	for n, one := range all {
		if use := stringOf(one, "use"); use != "" && use != "sig" {
			continue
		}
		k := publicKey{id: stringOf(one, "kid"), algorithm: stringOf(one, "alg")}
		if _, known := algorithms[k.algorithm]; k.algorithm != "" && !known {
			continue
		}
		if k.public, err = publicOf(one); err != nil {
			return nil, fmt.Errorf("key %d: %w", n, err)
		}
		if k.public != nil {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it has no key for signatures")
	}
	return out, nil
}

// publicOf is the key of a JWK (RFC 7518, 6; RFC 8037, 2), nil for a kind that we
// do not know.
func publicOf(m map[string]json.RawMessage) (crypto.PublicKey, error) {
	number := func(name string) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(stringOf(m, name))
		if err != nil {
			return nil
		}
		return b
	}
	switch stringOf(m, "kty") {
	case "RSA":
		n, e := new(big.Int).SetBytes(number("n")), new(big.Int).SetBytes(number("e"))
		if bits := n.BitLen(); bits < 2048 || bits > 16384 || n.Bit(0) == 0 {
			return nil, errors.New("an RSA key of less than 2048 or more than 16384 bits")
		}
		if !e.IsInt64() || e.Int64() < 65537 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
			return nil, errors.New("an RSA key with an exponent below 65537, or an even or a huge one")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[stringOf(m, "crv")]
		if curve == nil {
			return nil, nil
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := number("x"), number("y")
		if len(x) != size || len(y) != size {
			return nil, errors.New("an EC key whose coordinates are not as long as its field")
		}
		k, err := ecdsa.ParseUncompressedPublicKey(curve, bytes.Join([][]byte{{4}, x, y}, nil))
		if err != nil {
			return nil, errors.New("an EC key that is not on its curve")
		}
		return k, nil
	case "OKP":
		if stringOf(m, "crv") != "Ed25519" {
			return nil, nil
		}
		x := number("x")
		if len(x) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key of another length than 32 bytes")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, nil
}

// errRedirect is where an issuer's answer led to.
var errRedirect = errors.New("it redirects to another host")

// ready is a lock that a caller may give up waiting for.
type ready chan struct{}

func newReady() ready { return make(ready, 1) }

func (r ready) lock(ctx context.Context) error {
	select {
	case r <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r ready) unlock() { <-r }
