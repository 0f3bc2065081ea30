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
	body, r := canonicalV2(s)
	if r != nil {
		return logged{}, r
	}
	if !bytes.Equal(body, e.Body) {
		return logged{}, refuse(LogMismatch, "the log entry is about another signature, signer or artifact")
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

// canonicalV2 is the entry as the log must hold it: RFC 8785 of the protojson of
// a dev.sigstore.rekor.v2.Entry. All of its texts are ASCII without escapes and
// its members are in order, so appending gives the same bytes.
func canonicalV2(s entrySubject) ([]byte, *refusal) {
	way, digest := s.signed.scheme, s.signed.digest
	if digest == nil {
		return nil, refuse(LogMismatch, "the signature is pure Ed25519, which a log of digests cannot hold")
	}
	kind, verifier := "publicKey", s.spki
	if s.cert != nil {
		kind, verifier = "x509Certificate", s.cert.Raw
	}
	sig := s.claim.Signature()
	b := make([]byte, 0, 300+(len(verifier)+len(sig)+len(digest))*4/3)
	b = append(b, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`...)
	b = append(b, protoHash(way.hash)...)
	b = append(b, `","digest":"`...)
	b = base64.StdEncoding.AppendEncode(b, digest)
	b = append(b, `"},"signature":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, sig)
	b = append(b, `","verifier":{"keyDetails":"`...)
	b = append(b, way.details...)
	b = append(b, `","`...)
	b = append(b, kind...)
	b = append(b, `":{"rawBytes":"`...)
	b = base64.StdEncoding.AppendEncode(b, verifier)
	return append(b, `"}}}}}}`...), nil
}
