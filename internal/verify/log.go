package verify

import (
	"bytes"
	"crypto/x509"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// maxLogEntries bounds what one claim may make us verify.
const maxLogEntries = 32

// logged is what a log has proven about the claim.
type logged struct {
	log      *trust.LogKey
	index    int64
	origin   string      // v2: the checkpoint's origin; v1: the log's host
	included bool        // an inclusion proof under a signed checkpoint was verified
	note     *checkpoint // the checkpoint, of v2
	// witnesses cosigned the note; only those that the trust knows.
	witnesses []Cosignature
	promised  time.Time // v1: when the log promised inclusion, zero without a verified promise
	unsigned  time.Time // v1: a time that the log did not sign
}

// context of one claim: what its log entries must be about.
type entrySubject struct {
	claim    *evidence.Claim
	artifact Artifact
	signed   signed
	cert     *x509.Certificate // nil when a bare key signed
	spki     []byte            // of the signer's key, DER
}

// logs verifies every log entry by a log of the trust root. Entries by unknown
// logs prove nothing and are passed over, but when there are entries, one must
// be proven; and one by a known log that does not hold refuses the claim.
func (j judge) logs(s entrySubject) ([]logged, *refusal) {
	entries := s.claim.LogEntries
	if len(entries) > maxLogEntries {
		return nil, refuse(Malformed, "the claim has %d log entries; at most %d are read", len(entries), maxLogEntries)
	}
	var out []logged
	var unknown *refusal
	for i := range entries {
		e := &entries[i]
		for j := range i {
			if entries[j].LogIndex == e.LogIndex && bytes.Equal(entries[j].LogID, e.LogID) {
				return nil, refuse(Malformed, "the claim carries the same log entry twice")
			}
		}
		log := j.logOf(e)
		if log == nil {
			if name, ok := j.namesakeLog(e); ok {
				unknown = outdated(LogUntrusted, "the log entry", "the log "+clip(name), time.Time{})
				continue
			}
			unknown = refuse(LogUntrusted, "the log entry is by a log that the trust root does not know (%x)", e.LogID).
				unknownHere().hint("check that --trusted-root belongs to the Sigstore instance that signed")
			continue
		}
		var l logged
		var r *refusal
		if e.Kind == "hashedrekord" && e.Version == "0.0.2" {
			l, r = entryV2(e, log, s)
		} else {
			l, r = entryV1(e, log, s)
		}
		if r != nil {
			return nil, r
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, unknown
	}
	return out, nil
}

func (j judge) logOf(e *evidence.LogEntry) *trust.LogKey {
	for i := range j.root.TLogs {
		if bytes.Equal(j.root.TLogs[i].ID, e.LogID) {
			return &j.root.TLogs[i]
		}
	}
	return nil
}

// included verifies that the entry's body is a leaf of the tree that its
// checkpoint names. Whether the log signed the checkpoint is for the caller.
func included(e *evidence.LogEntry, c *checkpoint) *refusal {
	p := e.Proof
	if c.size != p.TreeSize || !bytes.Equal(c.root, p.RootHash) {
		return refuse(LogProofBad, "the log's checkpoint is of another tree than the inclusion proof")
	}
	if !inTree(e.Body, p.LogIndex, p.TreeSize, p.Hashes, p.RootHash) {
		return refuse(LogProofBad, "the inclusion proof does not lead to the log's checkpoint: the entry is not what the log holds at index %d", p.LogIndex)
	}
	return nil
}
