// Package translog reads transparency logs from outside, by their tiles
// (c2sp.org/tlog-tiles): the authority's own, Rekor v2 logs, and every other log of
// that kind.
//
// Trusted: the log's public key, for what the log signed, and nothing else. A
// checkpoint is believed when the log's key signed it and it extends the last one
// that was believed ([Folder]); tiles and entries are believed when they hash to a
// believed checkpoint's root ([View]), whether they come from the log, from a
// mirror or from our own cache. So neither the server nor who can write to the
// cache can make us believe an entry that the log did not commit to. A log that
// contradicts itself is a [Refusal] with the evidence, never a mere error.
package translog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Codes of refusals (docs/reasons.md).
const (
	CodeForked      = "LOG_FORKED"      // two signed trees contradict each other
	CodeShrunk      = "LOG_SHRUNK"      // a smaller tree than was seen before
	CodeTileBad     = "LOG_TILE_BAD"    // bytes that the signed root does not cover
	CodeProofBad    = "LOG_PROOF_BAD"   // no checkpoint by the log's key
	CodeUnwitnessed = "LOG_UNWITNESSED" // too few witnesses cosigned
)

// Refusal is a denial: what the log shows was found out, and must not be believed.
type Refusal struct{ policy.Reason }

func (r *Refusal) Error() string { return r.Message }

func refuse(code, subject, hint, format string, args ...any) *Refusal {
	return &Refusal{policy.Reason{Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)}}
}

// Log is who a log is: the name in its checkpoints and the key that signs them.
type Log struct {
	Origin string
	Key    crypto.PublicKey // Ed25519, or ECDSA over SHA-256
	// Witnesses are who must have cosigned each checkpoint that is believed.
	Witnesses trust.Witnesses

	hint uint32 // the first four bytes of the key id
}

// NewLog is a log by its origin and key. Rekor v2 logs and ours sign with Ed25519
// (c2sp.org/signed-note) or, as Rekor's may, with ECDSA, whose key id is then the
// SHA-256 of the SubjectPublicKeyInfo.
func NewLog(origin string, key crypto.PublicKey) (Log, error) {
	if origin == "" || strings.ContainsAny(origin, "\n+ ") {
		return Log{}, fmt.Errorf("%q cannot be a log's origin", clip(origin))
	}
	l := Log{Origin: origin, Key: key}
	switch k := key.(type) {
	case ed25519.PublicKey:
		id := trust.NoteKeyID(origin, k)
		l.hint = binary.BigEndian.Uint32(id[:])
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return Log{}, fmt.Errorf("the key of the log %s: %w", origin, err)
		}
		id := sha256.Sum256(der)
		l.hint = binary.BigEndian.Uint32(id[:])
	default:
		return Log{}, fmt.Errorf("the key of the log %s is neither Ed25519 nor ECDSA: it signs no tiled log's checkpoints", origin)
	}
	return l, nil
}

// ParseKey reads a log's key: a note verifier key "NAME+HASH+KEY", or a PEM public
// key together with the origin, which a verifier key must then not contradict.
func ParseKey(text, origin string) (Log, error) {
	text = strings.TrimSpace(text)
	if block, _ := pem.Decode([]byte(text)); block != nil {
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		switch {
		case err != nil || block.Type != "PUBLIC KEY":
			return Log{}, errors.New("the PEM block holds no public key")
		case origin == "":
			return Log{}, errors.New("a PEM key does not say whose it is: the log's origin is needed beside it")
		}
		return NewLog(origin, key)
	}
	name, rest, ok := strings.Cut(text, "+")
	hash, encoded, ok2 := strings.Cut(rest, "+")
	data, err := base64.StdEncoding.Strict().DecodeString(encoded)
	const algEd25519 = 1
	if !ok || !ok2 || err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != algEd25519 {
		return Log{}, errors.New("neither a note verifier key NAME+HASH+KEY with an Ed25519 key nor a PEM public key")
	}
	if origin != "" && origin != name {
		return Log{}, fmt.Errorf("the key is of %q, not of %q", clip(name), clip(origin))
	}
	l, err := NewLog(name, ed25519.PublicKey(data[1:]))
	if err != nil {
		return Log{}, err
	}
	if want, err := hex.DecodeString(hash); err != nil || len(want) != 4 || binary.BigEndian.Uint32(want) != l.hint {
		return Log{}, fmt.Errorf("%q is not the hash of this key", clip(hash))
	}
	return l, nil
}

// ID names the log for folders: its origin, made safe, and its key's hash.
func (l Log) ID() string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, l.Origin)
	return fmt.Sprintf("%.100s-%08x", strings.TrimLeft(safe, "."), l.hint)
}

var _ note.Verifier = verifier{}

// verifier is the log's key as package note wants it.
type verifier struct{ Log }

func (v verifier) Name() string    { return v.Origin }
func (v verifier) KeyHash() uint32 { return v.hint }

func (v verifier) Verify(msg, sig []byte) bool {
	switch k := v.Key.(type) {
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, msg, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	}
	return false
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
