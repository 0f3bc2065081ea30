package verify

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Key is a public key that may sign without a certificate.
type Key struct {
	Public crypto.PublicKey
	Name   string // for people
	// ValidFor is when it may have signed; the zero Window is always. Every trusted
	// time of a signature must lie in it. Without a trusted time the signature was
	// made at some time up to now: that is before the end while now is, but nothing
	// shows that it was after the start, so a key with a start is then refused.
	ValidFor trust.Window
}

type bareKey struct {
	public crypto.PublicKey
	spki   []byte
	id     string // "sha256:…" of spki
	name   string
	window trust.Window
}

// bareKeys checks the keys of a Config.
func bareKeys(cfg Config) ([]bareKey, error) {
	all := make([]Key, 0, len(cfg.Keys)+len(cfg.NamedKeys))
	for _, k := range cfg.Keys {
		all = append(all, Key{Public: k})
	}
	var out []bareKey
	for _, k := range append(all, cfg.NamedKeys...) {
		if len(schemes(k.Public)) == 0 {
			return nil, fmt.Errorf("a %T of this size cannot verify signatures; ECDSA (P-256, P-384, P-521), Ed25519 and RSA (2048, 3072, 4096 bits) can", k.Public)
		}
		spki, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil {
			return nil, err
		}
		out = append(out, bareKey{k.Public, spki, "sha256:" + hex.EncodeToString(spkiHash(spki)), k.Name, k.ValidFor})
	}
	return out, nil
}

// String names the key for people.
func (k bareKey) String() string {
	if k.name != "" {
		return k.name + " " + k.id
	}
	return k.id
}

func (v *Verifier) keyNames() string {
	name := v.keys[0].String()
	if n := len(v.keys) - 1; n > 0 {
		return fmt.Sprintf("%s and %d more", name, n)
	}
	return name
}

// validAt wants every trusted time of a signature in the key's window, or, where
// there is none, that no time at which it can have been made is outside.
func (k bareKey) validAt(times []evidence.Timestamp, now time.Time) *refusal {
	if k.window == (trust.Window{}) {
		return nil
	}
	for _, t := range times {
		if !k.window.Contains(t.At) {
			return refuse(KeyExpired, "the signature is of %s; the key %s is believed %s", stamp(t.At), k, windowText(k.window))
		}
	}
	if len(times) > 0 || k.window.Start.IsZero() && k.window.Contains(now) {
		return nil
	}
	return refuse(TimeUntrusted, "no trusted time says when the signature was made, and the key %s is believed only %s", k, windowText(k.window)).
		hint("the signer can sign again with a timestamp; to check the one that is there, give the trust root of its authority")
}

// windowText is a window for people; a start that is not there is not spelt out.
func windowText(w trust.Window) string {
	if w.Start.IsZero() {
		return "until " + stamp(w.End)
	}
	return w.String()
}
