package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Head is a checkpoint of the store's log (c2sp.org/tlog-checkpoint) that the log's key signed,
// with the cosignatures that came with it.
type Head struct {
	*translog.Checkpoint
	text string
	sigs []noteSignature
}

type noteSignature struct {
	name string
	raw  []byte // key id and signature
}

const (
	maxSignatures = 64
	noteMark      = "— "
)

// ParseHead verifies that the log signed a head and reads its signature lines, whose one spelling
// is demanded so that no byte of a head is free. It may be nothing but a [Refusal].
func ParseHead(log translog.Log, signed []byte) (*Head, error) {
	bad := func(why string) error {
		return Refuse(CodeBadSignature, log.Origin, "keep the head and ask the store's operator; a mirror may be whole", "the head of the policy store %s %s", log.Origin, why)
	}
	log.Witnesses = trust.Witnesses{} // Quorum says who must have cosigned
	c, err := log.ParseCheckpoint(signed, time.Time{})
	if err != nil {
		return nil, bad("is not signed by its log: " + err.Error())
	}
	text, lines, _ := strings.Cut(string(signed), "\n\n")
	h := &Head{Checkpoint: c, text: text + "\n"}
	lines, ok := strings.CutSuffix(lines, "\n")
	all := strings.Split(lines, "\n")
	if !ok || len(all) > maxSignatures || strings.Count(text, "\n") != 2 {
		return nil, bad("is not three lines with at most 64 signatures")
	}
	for _, line := range all {
		s, ok := parseSignature(line)
		if !ok {
			return nil, bad("has a signature line that is none")
		}
		h.sigs = append(h.sigs, s)
	}
	return h, nil
}

func parseSignature(line string) (noteSignature, bool) {
	rest, ok := strings.CutPrefix(line, noteMark)
	name, value, ok2 := strings.Cut(rest, " ")
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	return noteSignature{name, raw}, ok && ok2 && name != "" && err == nil && len(raw) > 4 && base64.StdEncoding.EncodeToString(raw) == value
}

// cosigned is the newest time at which a witness says that it saw the head (c2sp.org/tlog-cosignature).
// A line that claims to be by it and is not counts for nothing.
func (h *Head) cosigned(w trust.Witness) (time.Time, bool) {
	var newest uint64
	for _, s := range h.sigs {
		if s.name != w.Name || [4]byte(s.raw[:4]) != w.Hint || len(s.raw) != 4+8+ed25519.SignatureSize {
			continue
		}
		at := binary.BigEndian.Uint64(s.raw[4:])
		if at > newest && at < maxNumber && ed25519.Verify(w.Key, translog.CosignedMessage(h.text, at), s.raw[12:]) {
			newest = at
		}
	}
	return time.Unix(int64(newest), 0).UTC(), newest > 0
}

// Time is when the head was seen by the quorum: the time that as many cosigners as it wants vouch
// for or a newer one. Without a quorum it is a [Refusal].
func (h *Head) Time(q Quorum) (time.Time, error) {
	if q.root == nil {
		return time.Time{}, fmt.Errorf("no quorum of cosigners is configured for the store %s", h.Origin)
	}
	at, ok := q.root.seen(h)
	if !ok {
		return time.Time{}, Refuse(CodeNoQuorum, h.Origin, "ask the store's operator which witnesses cosign its heads",
			"the head of the policy store %s at %d leaves is not cosigned by the quorum that the trust configuration wants", h.Origin, h.Size)
	}
	return at, nil
}

// Cosign is the signature line by which a key says that it saw a head's text at a time
// (cosignature/v1).
func Cosign(name string, key ed25519.PrivateKey, text string, at time.Time) string {
	public := key.Public().(ed25519.PublicKey)
	id := cosignerID(name, public)
	raw := binary.BigEndian.AppendUint64(id[:4:4], uint64(at.Unix()))
	raw = append(raw, ed25519.Sign(key, translog.CosignedMessage(text, uint64(at.Unix())))...)
	return noteMark + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// Sign is a head's text and the line by which the log's key signs it (c2sp.org/signed-note).
func Sign(origin string, key ed25519.PrivateKey, size int64, root [32]byte) []byte {
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	id := trust.NoteKeyID(origin, key.Public().(ed25519.PublicKey))
	raw := append(id[:4:4], ed25519.Sign(key, []byte(text))...)
	return []byte(text + "\n" + noteMark + origin + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
}

// Text is what is signed of a head: its three lines.
func (h *Head) Text() string { return h.text }

func cosignerID(name string, key ed25519.PublicKey) [32]byte {
	return sha256.Sum256(append([]byte(name+"\n"), append([]byte{trust.CosignatureV1}, key...)...))
}

// VerifierKey is a log's key as trust files name it (c2sp.org/signed-note, Ed25519).
func VerifierKey(origin string, key ed25519.PublicKey) string {
	id := trust.NoteKeyID(origin, key)
	return fmt.Sprintf("%s+%x+%s", origin, id[:4], base64.StdEncoding.EncodeToString(append([]byte{1}, key...)))
}

// CosignerKey is a cosigner's key as trust files name it (c2sp.org/tlog-cosignature, Ed25519).
func CosignerKey(name string, key ed25519.PublicKey) string {
	id := cosignerID(name, key)
	return fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(append([]byte{trust.CosignatureV1}, key...)))
}
