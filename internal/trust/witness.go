package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

// Witnesses are parties that must have seen a log's checkpoint, so that the log
// cannot show two people two trees. The zero Witnesses asks for none.
type Witnesses struct {
	Keys   []Witness
	Quorum int // how many of them must have cosigned
}

// Witness is a party that cosigns checkpoints (c2sp.org/tlog-witness).
type Witness struct {
	Name string
	// Hint is the first four bytes of the key id, as signature lines carry it.
	Hint [4]byte
	Key  ed25519.PublicKey
}

// CosignatureV1 is the algorithm byte of Ed25519 cosignatures (c2sp.org/tlog-cosignature).
const CosignatureV1 = 4

// ParseWitness reads a note verifier key "NAME+HASH+KEY" (c2sp.org/signed-note) of
// the kind that cosigns.
func ParseWitness(vkey string) (Witness, error) {
	var w Witness
	name, rest, ok := strings.Cut(vkey, "+")
	hash, encoded, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 || name == "" || strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) >= 0 {
		return w, fmt.Errorf("witness %q: want a note verifier key NAME+HASH+KEY", clip(vkey))
	}
	w.Name = name
	data, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != CosignatureV1 {
		return w, fmt.Errorf("witness %s: its key is not one of Ed25519 cosignatures (algorithm %d)", clip(name), CosignatureV1)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	if want, err := hex.DecodeString(hash); err != nil || !bytes.Equal(want, sum[:4]) {
		return w, fmt.Errorf("witness %s: %q is not the hash of its key", clip(name), clip(hash))
	}
	w.Hint, w.Key = [4]byte(sum[:4]), data[1:]
	return w, nil
}
