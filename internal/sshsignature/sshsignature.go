// Package sshsignature reads and verifies SSHSIG signatures (OpenSSH, PROTOCOL.sshsig)
// more strictly than OpenSSH does: one encoding, no certificates, no SHA-1, no short RSA
// keys, and no security key that nobody touched.
package sshsignature

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Flags of a security key's signature (PROTOCOL.u2f).
const (
	flagPresent  = 0x01
	flagVerified = 0x04
)

// Problem is what is wrong with a signature or key.
type Problem int

// Problems.
const (
	Malformed    Problem = iota + 1 // it cannot be read, or is written as ssh-keygen does not
	Kind                            // an SSH certificate, or a key of an unknown kind
	TooWeak                         // SHA-1, or too few bits
	Unverified                      // not made by the key that it names, or over something else
	NotTouched                      // a security key that nobody touched
	OtherPurpose                    // made for another namespace
)

// Error says what is wrong, as the end of a sentence that begins with the thing signed:
// "has an SSH signature that cannot be read".
type Error struct {
	Problem Problem
	Msg     string
}

func (e *Error) Error() string { return e.Msg }

func wrong(p Problem, format string, args ...any) *Error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

// ProblemOf is the problem of an error of this package, 0 of any other.
func ProblemOf(err error) Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return 0
}

// Signature is a signature that was read; nothing about it is verified.
type Signature struct {
	Key       ssh.PublicKey // that it names
	Namespace string
	Hash      string // "sha256" or "sha512"
	SecurityKey,
	Verified bool // a security key says that it verified its user (PIN or finger)

	sig *sshsig.Signature
}

// wire is the blob of PROTOCOL.sshsig, "Blob format".
type wire struct {
	Magic     [6]byte
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// Parse reads a blob. An error is an *Error.
func Parse(blob []byte) (*Signature, error) {
	var w wire
	var inner ssh.Signature
	err := ssh.Unmarshal(blob, &w)
	if err == nil {
		err = ssh.Unmarshal(w.Signature, &inner)
	}
	if err != nil {
		return nil, wrong(Malformed, "has an SSH signature that cannot be read: %v", err)
	}
	if inner.Format == ssh.KeyAlgoRSA || inner.Format == ssh.CertAlgoRSAv01 {
		return nil, wrong(TooWeak, "is signed with %s, which hashes with SHA-1", inner.Format)
	}
	sig, err := sshsig.ParseSignature(blob)
	if err != nil {
		return nil, wrong(Malformed, "has an SSH signature that cannot be read: %v", err)
	}
	if _, isCert := sig.PublicKey.(*ssh.Certificate); isCert {
		return nil, wrong(Kind, "is signed with an SSH certificate; only plain keys are accepted")
	}
	if !bytes.Equal(sig.Marshal(), blob) || sig.HashAlgorithm.Supported() != nil {
		return nil, wrong(Malformed, "has an SSH signature in an unusual encoding")
	}
	s := &Signature{Key: sig.PublicKey, Namespace: w.Namespace, Hash: w.Hash, SecurityKey: IsSecurityKey(sig.PublicKey), sig: sig}
	switch rest := sig.Signature.Rest; {
	case !s.SecurityKey && len(rest) > 0, s.SecurityKey && len(rest) != 5:
		return nil, wrong(Malformed, "has bytes after its SSH signature") // x/crypto/ssh overlooks them
	case s.SecurityKey && rest[0]&flagPresent == 0:
		return nil, wrong(NotTouched, "is signed by a security key that nobody touched")
	case s.SecurityKey:
		s.Verified = rest[0]&flagVerified != 0
	}
	return s, nil
}

// ClaimedKey is the fingerprint of the key that a blob names, "" when it names none.
func ClaimedKey(blob []byte) string {
	var w wire
	if ssh.Unmarshal(blob, &w) != nil {
		return ""
	}
	key, err := ssh.ParsePublicKey(w.PublicKey)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

// Verify checks that the key made the signature over message, for the namespace. The key
// must also be strong enough (CheckKey, of at least minRSA bits). An error is an *Error.
func (s *Signature) Verify(message []byte, namespace string, minRSA int) error {
	if s.Namespace != namespace {
		return wrong(OtherPurpose, "carries an SSH signature made for namespace %q, not for %s", clip(s.Namespace), namespace)
	}
	if err := CheckKey(s.Key, minRSA); err != nil {
		return err
	}
	if err := sshsig.Verify(bytes.NewReader(message), s.sig, s.Key, s.sig.HashAlgorithm, namespace); err != nil {
		return wrong(Unverified, "has a signature by ssh %s that does not verify: %v", ssh.FingerprintSHA256(s.Key), err)
	}
	return nil
}

// CheckKey refuses keys that are no plain keys of a kind that is strong enough. An error is an *Error.
func CheckKey(key ssh.PublicKey, minRSA int) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if pub, ok := key.(ssh.CryptoPublicKey); ok {
			if rsaKey, ok := pub.CryptoPublicKey().(*rsa.PublicKey); ok && rsaKey.N.BitLen() >= minRSA {
				return nil
			}
		}
		return wrong(TooWeak, "is signed with an RSA key of less than %d bits", minRSA)
	}
	return wrong(Kind, "is signed with a key of type %s, which is not accepted", clip(key.Type()))
}

// IsSecurityKey tells whether it is a FIDO key.
func IsSecurityKey(key ssh.PublicKey) bool {
	return key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256
}

// Unarmor decodes the block as ssh-keygen writes it: no headers, lines of base64, no
// blank lines.
func Unarmor(armored []byte) ([]byte, error) {
	body, ok1 := bytes.CutPrefix(armored, []byte("-----BEGIN SSH SIGNATURE-----\n"))
	body, ok2 := bytes.CutSuffix(body, []byte("-----END SSH SIGNATURE-----\n"))
	if !ok1 || !ok2 || len(body) == 0 {
		return nil, errors.New("its armor is not as ssh-keygen writes it")
	}
	var text []byte
	for line := range bytes.SplitSeq(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
		if len(line) == 0 || len(line) > 128 {
			return nil, errors.New("its armor has an empty or overlong line")
		}
		text = append(text, line...)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return nil, errors.New("its armor is not base64")
	}
	return blob, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
