package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// entryV2 verifies an entry of a Rekor v2 log: the leaf is built again from
// what the claim says, must be the leaf that the claim brings, and must be in
// the tree of a checkpoint that the log signed under its name.
func entryV2(e *evidence.LogEntry, log *trust.LogKey, s entrySubject) (logged, *refusal) {
	switch {
	case e.Proof == nil:
		return logged{}, refuse(LogProofBad, "the log entry has no inclusion proof")
	case e.Promise != nil || e.IntegratedTime != 0:
		return logged{}, refuse(Malformed, "the log entry carries a time or promise, which logs of this kind do not give")
	case e.Proof.LogIndex != e.LogIndex:
		return logged{}, refuse(LogProofBad, "the log entry is of index %d, its inclusion proof of %d", e.LogIndex, e.Proof.LogIndex)
	}
	if r := matchesV2(e.Body, s); r != nil {
		return logged{}, r
	}
	c, err := parseCheckpoint(e.Proof.Checkpoint)
	if err != nil {
		return logged{}, refuse(LogProofBad, "the log's checkpoint cannot be read: %s", err)
	}
	if log.Origin == "" || c.origin != log.Origin {
		return logged{}, refuse(LogProofBad, "the checkpoint is of log %q, the entry of %q", clip(c.origin), log.Origin)
	}
	if !c.signedBy(log.Origin, noteKeyID(log), log.Key) {
		return logged{}, refuse(LogProofBad, "the checkpoint is not signed by the log %s", log.Origin)
	}
	if r := included(e, c); r != nil {
		return logged{}, r
	}
	return logged{log: log, index: e.LogIndex, origin: c.origin, included: true, note: c}, nil
}

// noteKeyID is the C2SP key id of a log's key, of which notes carry four bytes.
func noteKeyID(log *trust.LogKey) []byte {
	if key, ok := log.Key.(ed25519.PublicKey); ok {
		id := trust.NoteKeyID(log.Origin, key)
		return id[:]
	}
	return spkiHash(log.SPKI)
}

// matchesV2 reports whether an entry is, byte for byte, the one that the log must
// hold: RFC 8785 of the protojson of a dev.sigstore.rekor.v2.Entry. All of its
// texts are ASCII without escapes and its members are in order, so it can be told
// piece by piece, without being built.
func matchesV2(body []byte, s entrySubject) *refusal {
	way, digest := s.signed.scheme, s.signed.digest
	if digest == nil {
		return refuse(LogMismatch, "the signature is pure Ed25519, which a log of digests cannot hold")
	}
	kind, verifier := "publicKey", s.spki
	if s.cert != nil {
		kind, verifier = "x509Certificate", s.cert.Raw
	}
	m := matcher(body)
	ok := m.text(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`) &&
		m.text(protoHash(way.hash)) &&
		m.text(`","digest":"`) && m.base64(digest) &&
		m.text(`"},"signature":{"content":"`) && m.base64(s.claim.Signature()) &&
		m.text(`","verifier":{"keyDetails":"`) && m.text(way.details) &&
		m.text(`","`) && m.text(kind) && m.text(`":{"rawBytes":"`) && m.base64(verifier) &&
		m.text(`"}}}}}}`) && len(m) == 0
	if !ok {
		return refuse(LogMismatch, "the log entry is about another signature, signer or artifact")
	}
	return nil
}

// matcher is what is left of a text that is compared piece by piece.
type matcher []byte

// text takes want off the front.
func (m *matcher) text(want string) bool {
	if len(*m) < len(want) || string((*m)[:len(want)]) != want {
		return false
	}
	*m = (*m)[len(want):]
	return true
}

// base64 takes the padded base64 of data off the front. It is compared as text:
// decoding would take more than one text for the same data.
func (m *matcher) base64(data []byte) bool {
	var text [256]byte
	for len(data) > 0 {
		n := min(len(data), len(text)/4*3)
		piece := text[:base64.StdEncoding.EncodedLen(n)]
		base64.StdEncoding.Encode(piece, data[:n])
		if len(*m) < len(piece) || !bytes.Equal((*m)[:len(piece)], piece) {
			return false
		}
		*m, data = (*m)[len(piece):], data[n:]
	}
	return true
}
