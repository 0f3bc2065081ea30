package verify

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// cosignatureSize is a timestamp and an Ed25519 signature (c2sp.org/tlog-cosignature).
const cosignatureSize = 8 + ed25519.SignatureSize

func checkWitnesses(w trust.Witnesses) error {
	if w.Quorum < 0 || w.Quorum > len(w.Keys) {
		return errors.New("more witnesses must have cosigned than are known")
	}
	return nil
}

// witnessed wants the checkpoint of every log entry cosigned by the quorum. Logs
// of Rekor v1's kind have no witnesses, and a promise has no checkpoint: where
// witnesses are demanded, their entries do not do.
func (j judge) witnessed(logs []logged) *refusal {
	quorum := j.cfg.Witnesses.Quorum
	if quorum == 0 {
		return nil
	}
	for _, l := range logs {
		if l.note == nil {
			return refuse(LogUnwitnessed, "the entry in log %s has no checkpoint that witnesses could have cosigned", l.origin)
		}
		if n := l.note.cosigned(j.cfg.Witnesses.Keys, j.cfg.Now().Add(maxSkew)); n < quorum {
			return refuse(LogUnwitnessed, "the checkpoint of log %s is cosigned by %d known witnesses; %d must have", l.origin, n, quorum)
		}
	}
	return nil
}

// cosigned counts the witnesses that cosigned the checkpoint, each once. A line
// that claims to be by a witness and is not counts for nothing.
func (c *checkpoint) cosigned(witnesses []trust.Witness, latest time.Time) int {
	n := 0
	for _, w := range witnesses {
		for _, s := range c.signatures {
			if s.name == w.Name && s.hint == w.Hint && c.cosignedBy(w, s.sig, latest) {
				n++
				break
			}
		}
	}
	return n
}

func (c *checkpoint) cosignedBy(w trust.Witness, sig []byte, latest time.Time) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	if at == 0 || at > uint64(latest.Unix()) {
		return false
	}
	message := append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), c.text...)
	return ed25519.Verify(w.Key, message, sig[8:])
}
