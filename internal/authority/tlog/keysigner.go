package tlog

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// NewSigner signs checkpoints as [Config.Key] would, with an Ed25519 key that may be
// anywhere. It is called by one goroutine at a time.
func NewSigner(origin string, key crypto.Signer) (Signer, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(public) != ed25519.PublicKeySize {
		return nil, errors.New("it is not an Ed25519 key")
	}
	const algEd25519 = 1
	id := sha256.Sum256(append(append([]byte(origin), '\n', algEd25519), public...))
	return keySigner{name: origin, key: key, public: public, id: id}, nil
}

// keySigner is noteSigner for a key of which only its methods are at hand.
type keySigner struct {
	name   string
	key    crypto.Signer
	public ed25519.PublicKey
	id     [sha256.Size]byte
}

var _ Signer = keySigner{}

func (s keySigner) Name() string             { return s.name }
func (s keySigner) KeyHash() uint32          { return binary.BigEndian.Uint32(s.id[:]) }
func (s keySigner) KeyID() [sha256.Size]byte { return s.id }

func (s keySigner) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

func (s keySigner) Verify(msg, sig []byte) bool { return ed25519.Verify(s.public, msg, sig) }
