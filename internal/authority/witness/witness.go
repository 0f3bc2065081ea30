// Package witness has both ends of the C2SP witness protocol (c2sp.org/tlog-witness):
// a [Server] that cosigns the checkpoints of logs that it knows, and a [Group] of
// witnesses that our own log asks.
//
// A cosignature says that the tree with this root is the largest that the witness
// has seen of the log, and that it extends all that it saw before. So a log that
// shows two people two trees needs witnesses who lie for it.
//
// The server trusts its key and its folder. Who puts back an older copy of the
// folder makes it cosign a tree that contradicts one it cosigned before; that it
// can be made to do nothing else, its tests hold.
package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

const (
	// maxProof is the most hashes that a request may have.
	maxProof = 63
	// maxRequest bounds a request: the proof and a checkpoint.
	maxRequest = 8<<10 + translog.MaxCheckpoint
	// sizeType is the media type of a tree size in a 409 answer.
	sizeType = "text/x.tlog.size"
)

// request is the body of add-checkpoint.
type request struct {
	old   int64
	proof tlog.TreeProof
	note  []byte
}

func (r request) encode() []byte {
	b := strconv.AppendInt([]byte("old "), r.old, 10)
	b = append(b, '\n')
	for _, h := range r.proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), r.note...)
}

// parseRequest reads a body strictly: "old N", the proof's hashes, an empty line,
// the checkpoint.
func parseRequest(body []byte) (request, error) {
	var r request
	head, note, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return r, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	old, err := parseSize(size)
	if !ok || err != nil {
		return r, errors.New("the first line is not the old size")
	}
	if len(lines)-1 > maxProof {
		return r, fmt.Errorf("more than %d hashes", maxProof)
	}
	r.old, r.note = old, note
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != tlog.HashSize {
			return r, errors.New("a line of the proof is no hash")
		}
		r.proof = append(r.proof, tlog.Hash(h))
	}
	return r, nil
}

// parseSize reads a tree size in its only spelling.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%.40q is no tree size", s)
	}
	return n, nil
}

// VerifierKey is a witness's key as trust bundles name it (c2sp.org/signed-note,
// with the algorithm of Ed25519 cosignatures).
func VerifierKey(name string, key ed25519.PublicKey) string {
	hint := keyHint(name, key)
	return name + "+" + hex.EncodeToString(hint[:]) + "+" + base64.StdEncoding.EncodeToString(append([]byte{trust.CosignatureV1}, key...))
}

func keyHint(name string, key ed25519.PublicKey) [4]byte {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), trust.CosignatureV1), key...))
	return [4]byte(sum[:4])
}

// checkName holds a name to what a signature line can carry.
func checkName(name string) error {
	if name == "" || !utf8.ValidString(name) || strings.ContainsRune(name, '+') ||
		strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) >= 0 {
		return fmt.Errorf("%.100q cannot be the name of a witness", name)
	}
	return nil
}

// cosign is the signature line over a checkpoint's text at a time.
func cosign(name string, key ed25519.PrivateKey, text string, now time.Time) []byte {
	at := uint64(now.Unix())
	hint := keyHint(name, key.Public().(ed25519.PublicKey))
	sig := binary.BigEndian.AppendUint64(hint[:], at)
	sig = append(sig, ed25519.Sign(key, translog.CosignedMessage(text, at))...)
	return []byte("— " + name + " " + base64.StdEncoding.EncodeToString(sig) + "\n")
}

// textOf is the signed part of a note.
func textOf(note []byte) string {
	text, _, _ := strings.Cut(string(note), "\n\n")
	return text + "\n"
}
