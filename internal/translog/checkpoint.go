package translog

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// MaxCheckpoint is the most bytes of a checkpoint that are read: 64 signature
// lines, of which those of post-quantum cosigners have a few thousand characters.
const MaxCheckpoint = 256 << 10

// Checkpoint is a log's signed tree head (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   int64 // entries
	Root   tlog.Hash
	Note   []byte // as it was signed, with all signature lines
	// Cosigned are the names of the known witnesses that cosigned.
	Cosigned []string
}

// Same reports whether two checkpoints are of one tree.
func (c *Checkpoint) Same(d *Checkpoint) bool { return c.Size == d.Size && c.Root == d.Root }

// ParseCheckpoint verifies and reads a checkpoint: the log's key must have signed
// it under the log's origin, and as many witnesses as the log needs must have
// cosigned it at a time that is not after now.
func (l Log) ParseCheckpoint(signed []byte, now time.Time) (*Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return nil, fmt.Errorf("the checkpoint has more than %d bytes", MaxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(verifier{l}))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return nil, refuse(CodeProofBad, l.Origin, "check that the key belongs to this log: --trusted-root, or --key",
			"the checkpoint is not signed by the log %s", l.Origin)
	case err != nil:
		return nil, errors.New("it is not a signed note")
	}
	c, err := parseText(n.Text)
	if err != nil {
		return nil, err
	}
	if c.Origin != l.Origin {
		return nil, refuse(CodeProofBad, l.Origin, "", "the checkpoint is of log %q, not of %q", clip(c.Origin), l.Origin)
	}
	c.Note = signed
	for _, w := range l.Witnesses.Keys {
		if cosigned(n, w, now) {
			c.Cosigned = append(c.Cosigned, w.Name)
		}
	}
	if len(c.Cosigned) < l.Witnesses.Quorum {
		return nil, refuse(CodeUnwitnessed, l.Origin, "ask the log's operator which witnesses cosign it",
			"the checkpoint of log %s is cosigned by %d known witnesses; %d must have", l.Origin, len(c.Cosigned), l.Witnesses.Quorum)
	}
	return c, nil
}

// OriginOf is the first line of a checkpoint whose log is not known yet.
func OriginOf(signed []byte) string {
	origin, _, _ := strings.Cut(string(signed[:min(len(signed), 1<<10)]), "\n")
	return origin
}

// parseText reads the three lines; others after them belong to the log.
func parseText(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return nil, errors.New("origin, size or root hash is missing")
	}
	if slices.Contains(lines[3:len(lines)-1], "") {
		return nil, errors.New("it has an empty line before its signatures")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return nil, errors.New("its second line is no tree size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return nil, errors.New("its third line is no root hash")
	}
	c := &Checkpoint{Origin: lines[0], Size: size, Root: tlog.Hash(root)}
	if empty, err := tlog.TreeHash(0, nil); size == 0 && (err != nil || c.Root != empty) {
		return nil, errors.New("its root hash is not that of an empty tree")
	}
	return c, nil
}

// cosigned reports whether a witness cosigned (c2sp.org/tlog-cosignature, Ed25519).
// A line that claims to be by it and is not counts for nothing.
func cosigned(n *note.Note, w trust.Witness, now time.Time) bool {
	for _, s := range n.UnverifiedSigs {
		if s.Name != w.Name || s.Hash != binary.BigEndian.Uint32(w.Hint[:]) {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		if err == nil && len(raw) > 4 && Cosignature(raw[4:]).Verify(w.Key, n.Text, now) {
			return true
		}
	}
	return false
}

// Cosignature is what a witness's signature line carries after the key id: the time
// in seconds since 1970, 8 bytes, and an Ed25519 signature.
type Cosignature []byte

// maxSkew is how far a witness's clock may be ahead of ours.
const maxSkew = 5 * time.Minute

// Verify reports whether it is a cosignature by key of a checkpoint's text, made
// not after now.
func (c Cosignature) Verify(key ed25519.PublicKey, text string, now time.Time) bool {
	if len(c) != 8+ed25519.SignatureSize || len(key) != ed25519.PublicKeySize {
		return false
	}
	at := binary.BigEndian.Uint64(c)
	return at > 0 && at <= uint64(now.Add(maxSkew).Unix()) && ed25519.Verify(key, CosignedMessage(text, at), c[8:])
}

// CosignedMessage is what a witness signs: the checkpoint's text after two lines
// that say what the signature is and when it was made.
func CosignedMessage(text string, at uint64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
}
