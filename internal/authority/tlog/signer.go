package tlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs a log's checkpoints and knows its own signatures again. Its name
// is the one in the signature line; the checkpoint's origin begins with it.
type Signer interface {
	note.Signer
	note.Verifier
	// KeyID is the whole hash whose first four bytes are KeyHash.
	KeyID() [sha256.Size]byte
}

// noteSigner signs as c2sp.org/signed-note has it for Ed25519. Its key id is
// SHA-256(name, "\n", 0x01, key).
type noteSigner struct {
	name string
	key  ed25519.PrivateKey
	id   [sha256.Size]byte
}

var _ Signer = noteSigner{}

func newNoteSigner(origin string, key ed25519.PrivateKey) noteSigner {
	const algEd25519 = 1
	msg := append([]byte(origin), '\n', algEd25519)
	msg = append(msg, key.Public().(ed25519.PublicKey)...)
	return noteSigner{name: origin, key: key, id: sha256.Sum256(msg)}
}

func (s noteSigner) Name() string             { return s.name }
func (s noteSigner) KeyHash() uint32          { return binary.BigEndian.Uint32(s.id[:]) }
func (s noteSigner) KeyID() [sha256.Size]byte { return s.id }

func (s noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

func (s noteSigner) Verify(msg, sig []byte) bool {
	return ed25519.Verify(s.key.Public().(ed25519.PublicKey), msg, sig)
}
