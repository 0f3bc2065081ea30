package git

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Detached is an OpenPGP signature of a file, parsed and not verified. It can be
// verified by whoever knows the hash of the file followed by [Detached.Suffix],
// without the file (RFC 9580, 5.2.4).
type Detached struct {
	sig *packet.Signature
	raw []byte
}

// ParseDetached reads an armored signature: exactly one packet, over a binary
// document, with a hash that cannot be forged.
func ParseDetached(armored []byte) (*Detached, error) {
	sig, raw, err := readSignature(armored)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the OpenPGP signature is not acceptable: %w", err)
	case sig.SigType != packet.SigTypeBinary:
		return nil, errors.New("the OpenPGP signature is not over a binary document")
	case sig.Version != 4: // version 6 hashes a salt before the file
		return nil, fmt.Errorf("the OpenPGP signature is of version %d; version 4 is accepted", sig.Version)
	}
	switch sig.Hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return &Detached{sig: sig, raw: raw}, nil
	}
	return nil, fmt.Errorf("the OpenPGP signature by %s uses %v; SHA-256, SHA-384 and SHA-512 are accepted", openpgpIssuer(sig), sig.Hash)
}

// Algorithm is the hash: "sha256", "sha384" or "sha512".
func (d *Detached) Algorithm() string {
	switch d.sig.Hash {
	case crypto.SHA384:
		return "sha384"
	case crypto.SHA512:
		return "sha512"
	}
	return "sha256"
}

// Suffix are the bytes that are hashed after the file.
func (d *Detached) Suffix() []byte { return bytes.Clone(d.sig.HashSuffix) }

// Verify says why the signature does not count, given the hash of the file and
// the suffix: no listed signing key made it, or key or signature are not valid at
// now.
func (d *Detached) Verify(k *Keyring, sum []byte, now time.Time) error {
	if len(sum) != d.sig.Hash.Size() {
		return fmt.Errorf("a hash of %d bytes, where %s has %d", len(sum), d.Algorithm(), d.sig.Hash.Size())
	}
	if d.sig.IssuerKeyId == nil {
		return errors.New("the signature does not say by which key it is")
	}
	last := fmt.Errorf("it is signed by openpgp %s, a key that is not listed for signing", openpgpIssuer(d.sig))
	for _, c := range k.entities.KeysByIdUsage(*d.sig.IssuerKeyId, packet.KeyFlagSign) {
		if len(d.sig.IssuerFingerprint) > 0 && !bytes.Equal(d.sig.IssuerFingerprint, c.PublicKey.Fingerprint) {
			continue
		}
		if last = d.verify(c, sum, now); last == nil {
			return nil
		}
	}
	return last
}

func (d *Detached) verify(c openpgp.Key, sum []byte, now time.Time) error {
	v := verification{what: "the file", sig: Signature{Kind: "openpgp"}, now: now, minRSA: minRSABits}
	if r := v.openpgpStrength(c.Entity, c.PublicKey); r != nil {
		return errors.New(r.Message)
	}
	// The library checks the key's life, its revocation and the signature's own times
	// only where it hashes the file itself. It is given a hash that is done already.
	done := &finished{sum: sum}
	if err := c.PublicKey.VerifySignature(done, d.sig); err != nil {
		return fmt.Errorf("the signature by openpgp %s does not verify: %w", hex.EncodeToString(c.Entity.PrimaryKey.Fingerprint), err)
	}
	if !done.asked {
		return errors.New("the signature was not compared with the file")
	}
	return alive(c, d.sig, now)
}

// alive reports why a key or its signature does not count at now.
func alive(c openpgp.Key, sig *packet.Signature, now time.Time) error {
	fp := hex.EncodeToString(c.Entity.PrimaryKey.Fingerprint)
	self, _ := c.Entity.PrimarySelfSignature()
	switch {
	case self == nil:
		return fmt.Errorf("openpgp %s has no signature of its own", fp)
	case c.Entity.Revoked(now), c.Revoked(now):
		return fmt.Errorf("openpgp %s is revoked", fp)
	case c.Entity.PrimaryKey.KeyExpired(self, now), self.SigExpired(now):
		return fmt.Errorf("openpgp %s is not valid now", fp)
	case c.PublicKey != c.Entity.PrimaryKey && (c.PublicKey.KeyExpired(c.SelfSignature, now) || c.SelfSignature.SigExpired(now)):
		return fmt.Errorf("the subkey of openpgp %s that signed is not valid now", fp)
	case sig.CreationTime.Before(c.PublicKey.CreationTime):
		return fmt.Errorf("the signature by openpgp %s is older than its key", fp)
	case sig.SigExpired(now):
		return fmt.Errorf("the signature by openpgp %s is not valid now", fp)
	}
	return nil
}

// finished is a hash whose sum is known: what is written to it was hashed before.
type finished struct {
	sum   []byte
	asked bool
}

var (
	_ hash.Hash                = (*finished)(nil)
	_ encoding.BinaryMarshaler = (*finished)(nil)
)

func (f *finished) Write(p []byte) (int, error) { return len(p), nil }
func (f *finished) Sum(b []byte) []byte         { f.asked = true; return append(b, f.sum...) }
func (f *finished) Reset()                      {}
func (f *finished) Size() int                   { return len(f.sum) }
func (f *finished) BlockSize() int              { return 64 }
func (f *finished) MarshalBinary() ([]byte, error) {
	return nil, errors.New("not a hash to go on with")
}

// OpenPGP is what an OpenPGP signature says of itself: its version, and the id of
// the key as 16 hexadecimal digits, "" when it has none.
func (s Signature) OpenPGP() (version int, keyID string, ok bool) {
	if s.Kind != "openpgp" {
		return 0, "", false
	}
	sig, _, err := readSignature(s.Armored)
	if err != nil {
		return 0, "", false
	}
	if sig.IssuerKeyId != nil {
		keyID = fmt.Sprintf("%016x", *sig.IssuerKeyId)
	}
	return sig.Version, keyID, true
}
