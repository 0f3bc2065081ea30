package cli

import (
	"crypto"

	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// InTheirWindows are keys that a call or a pin names. One that the trust bundle
// believes for some time only is believed for no longer by being named.
func InTheirWindows(keys []crypto.PublicKey, known []verify.Key) []verify.Key {
	var out []verify.Key
	for _, public := range keys {
		named := len(out)
		for _, k := range known {
			if key.Fingerprint(k.Public) == key.Fingerprint(public) {
				out = append(out, k) // it may be believed in several windows
			}
		}
		if len(out) == named {
			out = append(out, verify.Key{Public: public})
		}
	}
	return out
}

// PinnedKeys are the keys that pins name.
func PinnedKeys(pins []bundlefile.Pin) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, p := range pins {
		if _, public := p.Requirement(); public != nil {
			keys = append(keys, public)
		}
	}
	return keys
}
