package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// maxPure is the largest file that a pure Ed25519 key signs: it needs the whole
// message at once.
const maxPure = 256 << 20

// Blob signs the bytes of r as they are (a bundle's message signature, as cosign
// sign-blob makes it) and returns the bundle as a claim and as JSON.
func (s *Signer) Blob(ctx context.Context, r io.Reader) (*evidence.Claim, []byte, error) {
	m, err := s.material(ctx)
	if err != nil {
		return nil, nil, err
	}
	message, err := signReader(m.signer, r)
	if err != nil {
		return nil, nil, err
	}
	if len(message.Digest) == sha256.Size {
		digest := evidence.Digest(fmt.Sprintf("sha256:%x", message.Digest))
		if err := s.notRevoked(s.cfg.Revoked.Artifact(digest, s.cfg.Now())); err != nil {
			return nil, nil, err
		}
	}
	d, err := m.made(message.Digest, message.Signature)
	if err != nil {
		return nil, nil, err
	}
	u := s.unfinished(d)
	if err := s.prove(ctx, d, &u); err != nil {
		return nil, nil, err
	}
	claim, err := u.claim(d)
	if err != nil {
		return nil, nil, err
	}
	claim.Message = message
	data, err := bundle.Marshal(claim)
	return claim, data, err
}

// signReader signs what r gives. A key that signs digests lets it pass by, a pure
// Ed25519 key and one in an ssh-agent need all of it; with the former the digest is only
// the bundle's hint which file it is about.
func signReader(k key.Signer, r io.Reader) (*evidence.MessageSignature, error) {
	hash, pure := k.Hash(), k.Whole()
	var whole bytes.Buffer
	if hash == 0 {
		hash = crypto.SHA256
	}
	if pure {
		r = io.TeeReader(io.LimitReader(r, maxPure+1), &whole)
	}
	sum := hash.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return nil, err
	}
	message := &evidence.MessageSignature{DigestAlgorithm: hashName(hash), Digest: sum.Sum(nil)}
	switch {
	case pure && n > maxPure:
		return nil, fmt.Errorf("an Ed25519 key without a log, and any in an ssh-agent, signs files of at most %d MiB", maxPure>>20)
	case pure:
		message.Signature, err = k.Sign(whole.Bytes())
	default:
		message.Signature, err = k.SignDigest(message.Digest)
	}
	return message, err
}
