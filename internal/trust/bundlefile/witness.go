package bundlefile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Witness is a party that cosigns checkpoints (c2sp.org/tlog-witness).
type Witness struct {
	Name string
	// Hint is the first four bytes of the key id, as signature lines carry it.
	Hint [4]byte
	Key  ed25519.PublicKey
}

// cosignatureV1 is the algorithm byte of Ed25519 cosignatures (c2sp.org/tlog-cosignature).
const cosignatureV1 = 4

// ParseWitness reads a note verifier key "NAME+HASH+KEY" (c2sp.org/signed-note) of
// the kind that cosigns.
func ParseWitness(vkey string) (Witness, error) {
	var w Witness
	name, rest, ok := strings.Cut(vkey, "+")
	hash, encoded, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 || name == "" || strings.ContainsAny(name, " \t\n") || checkText(name) != nil {
		return w, fmt.Errorf("witness %q: want a note verifier key NAME+HASH+KEY", clip(vkey))
	}
	w.Name = name
	data, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != cosignatureV1 {
		return w, fmt.Errorf("witness %s: its key is not one of Ed25519 cosignatures (algorithm %d)", clip(name), cosignatureV1)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	if want, err := hex.DecodeString(hash); err != nil || !bytes.Equal(want, sum[:4]) {
		return w, fmt.Errorf("witness %s: %q is not the hash of its key", clip(name), clip(hash))
	}
	w.Hint, w.Key = [4]byte(sum[:4]), data[1:]
	return w, nil
}

// WitnessKeys are the parsed Witnesses; Quorum of them must have cosigned.
func (f *File) WitnessKeys() ([]Witness, error) {
	var out []Witness
	for _, vkey := range f.Witnesses {
		w, err := ParseWitness(vkey)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

func (f *File) checkWitnesses() error {
	ws, err := f.WitnessKeys()
	if err != nil {
		return fmt.Errorf("witnesses: %w", err)
	}
	keys, names := map[string]bool{}, map[string]bool{}
	for _, w := range ws {
		if keys[string(w.Key)] || names[w.Name] {
			return fmt.Errorf("witnesses: %s, or its key, is there twice: a quorum counts different parties", w.Name)
		}
		keys[string(w.Key)], names[w.Name] = true, true
	}
	if f.Quorum < 0 || f.Quorum > len(ws) || (f.Quorum == 0) != (len(ws) == 0) {
		return errors.New("witnessQuorum: not between 1 and the number of witnesses")
	}
	return nil
}
