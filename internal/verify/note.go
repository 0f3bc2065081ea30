package verify

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// checkpoint is a signed note with a tree head (c2sp.org/tlog-checkpoint).
type checkpoint struct {
	text       []byte // what is signed, with its last newline
	origin     string
	size       int64
	root       []byte
	signatures []noteSignature
}

type noteSignature struct {
	name string
	hint [4]byte
	sig  []byte
}

// maxNoteSignatures bounds the signature lines of a checkpoint.
const maxNoteSignatures = 64

// parseCheckpoint reads a checkpoint strictly. Other text after the root hash
// belongs to the log and is only signed, not understood.
func parseCheckpoint(note string) (*checkpoint, error) {
	text, sigs, ok := strings.Cut(note, "\n\n")
	if !ok || !strings.HasSuffix(sigs, "\n") || strings.Contains(sigs, "\n\n") {
		return nil, errors.New("it is not a signed note")
	}
	for _, r := range note {
		if r < 0x20 && r != '\n' || r == 0xfffd {
			return nil, errors.New("it holds characters that no note holds")
		}
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] == "" {
		return nil, errors.New("origin, size or root hash is missing")
	}
	c := &checkpoint{text: []byte(text + "\n"), origin: lines[0]}
	var err error
	if c.size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.size < 1 || strconv.FormatInt(c.size, 10) != lines[1] {
		return nil, errors.New("its second line is no tree size")
	}
	if c.root, err = base64.StdEncoding.Strict().DecodeString(lines[2]); err != nil || len(c.root) != 32 {
		return nil, errors.New("its third line is no root hash")
	}
	for _, line := range strings.Split(strings.TrimSuffix(sigs, "\n"), "\n") {
		s, ok := parseNoteSignature(line)
		if !ok || len(c.signatures) == maxNoteSignatures {
			return nil, errors.New("its signature lines are not those of a note")
		}
		c.signatures = append(c.signatures, s)
	}
	return c, nil
}

func parseNoteSignature(line string) (noteSignature, bool) {
	var s noteSignature
	rest, ok := strings.CutPrefix(line, "— ")
	name, value, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || name == "" || strings.Contains(name, "+") {
		return s, false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(raw) < 5 || base64.StdEncoding.EncodeToString(raw) != value {
		return s, false
	}
	s.name, s.sig = name, raw[4:]
	copy(s.hint[:], raw)
	return s, true
}

// signedBy reports whether a key signed the note under a name. As in every note,
// signatures by others are ignored; a line that claims to be by this key and is
// not refuses the note.
func (c *checkpoint) signedBy(name string, id []byte, key crypto.PublicKey) bool {
	found := false
	for _, s := range c.signatures {
		if s.name != name || !bytes.Equal(s.hint[:], id[:4]) {
			continue
		}
		if !verifyData(key, keyHash(key), c.text, s.sig) {
			return false
		}
		found = true
	}
	return found
}
