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

// witnessed notes which witnesses cosigned the checkpoint of each log entry, and
// wants the quorum of them. Logs of Rekor v1's kind have no witnesses, and a promise has no checkpoint: where
// witnesses are demanded, their entries do not do.
func (j judge) witnessed(logs []logged) *refusal {
	quorum := j.cfg.Witnesses.Quorum
	for i := range logs {
		l := &logs[i]
		if l.note != nil {
			l.witnesses = l.note.cosigned(j.cfg.Witnesses.Keys, j.cfg.Now().Add(maxSkew))
		}
		switch n := len(l.witnesses); {
		case n >= quorum:
		case l.note == nil:
			return refuse(LogUnwitnessed, "the entry in log %s has no checkpoint that witnesses could have cosigned", l.origin)
		default:
			return refuse(LogUnwitnessed, "the checkpoint of log %s is cosigned by %d known witnesses; %d must have", l.origin, n, quorum)
		}
	}
	return nil
}

// cosigned is who of the witnesses cosigned the checkpoint, each once. A line that
// claims to be by a witness and is not counts for nothing.
func (c *checkpoint) cosigned(witnesses []trust.Witness, latest time.Time) []Cosignature {
	var out []Cosignature
	for _, w := range witnesses {
		for _, s := range c.signatures {
			if s.name != w.Name || s.hint != w.Hint {
				continue
			}
			if at, ok := c.cosignedBy(w, s.sig, latest); ok {
				out = append(out, Cosignature{Name: w.Name, At: at})
				break
			}
		}
	}
	return out
}

func (c *checkpoint) cosignedBy(w trust.Witness, sig []byte, latest time.Time) (time.Time, bool) {
	if len(sig) != cosignatureSize {
		return time.Time{}, false
	}
	at := binary.BigEndian.Uint64(sig)
	if at == 0 || at > uint64(latest.Unix()) {
		return time.Time{}, false
	}
	message := append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), c.text...)
	return time.Unix(int64(at), 0).UTC(), ed25519.Verify(w.Key, message, sig[8:])
}
