package forge

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Witness cosigns checkpoints (c2sp.org/tlog-cosignature), whatever it is shown.
type Witness struct {
	trust.Witness
	Private ed25519.PrivateKey
	VKey    string // note verifier key
}

// NewWitness is a witness with a new key.
func NewWitness(name string) Witness {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	Must(0, err)
	data := append([]byte{trust.CosignatureV1}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	vkey := name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(data)
	return Witness{Must(trust.ParseWitness(vkey)), private, vkey}
}

// Line is the signature line of a note at a time.
func (w Witness) Line(note string, at time.Time) string {
	text, _, _ := strings.Cut(note, "\n\n")
	sig := ed25519.Sign(w.Private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at.Unix(), text))
	raw := binary.BigEndian.AppendUint64(append([]byte{}, w.Hint[:]...), uint64(at.Unix()))
	return "— " + w.Name + " " + base64.StdEncoding.EncodeToString(append(raw, sig...)) + "\n"
}
