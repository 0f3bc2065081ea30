package verify

import (
	"bytes"
	"crypto/x509"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// A key of an authority or log that the root knows by its name, but not by this key:
// the root is older than the signature, or somebody uses the name. Both are refused;
// the sentence says both, because nothing here can tell them apart.

const refresh = "get the present trust: its trusted_root.json again, or hallmark trust update; then verify again"

// outdated is a refusal of something by an unknown key of a known party.
func outdated(code, what, whose string, at time.Time) *refusal {
	when := ""
	if !at.IsZero() {
		when = " of " + stamp(at)
	}
	return refuse(code, "%s%s is by a key of %s that the trust root does not know: the trust root is older than the signature, and the key was replaced since; or the key is not theirs", what, when, whose).
		unknownHere().hint("%s", refresh)
}

// namesakeCA reports whether the root has the leaf's issuer by name.
func (j judge) namesakeCA(leaf *x509.Certificate) bool {
	for i := range j.root.CAs {
		a := &j.root.CAs[i]
		if a.Anchor != nil && bytes.Equal(a.Anchor.RawSubject, leaf.RawIssuer) {
			return true
		}
		for _, c := range a.Intermediates {
			if bytes.Equal(c.RawSubject, leaf.RawIssuer) {
				return true
			}
		}
	}
	return false
}

// namesakeLog is the name of the log that signed an entry's checkpoint, if the root
// knows a log of that name.
func (j judge) namesakeLog(e *evidence.LogEntry) (name string, ok bool) {
	if e.Proof == nil {
		return "", false
	}
	c, err := parseCheckpoint(e.Proof.Checkpoint)
	if err != nil {
		return "", false
	}
	host, _, _ := strings.Cut(c.origin, " - ") // of Rekor v1 the tree's number follows
	for i := range j.root.TLogs {
		if origin := j.root.TLogs[i].Origin; origin != "" && origin == host {
			return origin, true
		}
	}
	return "", false
}

// namesakeTSA is the authority of the root that a token's signer has the name of.
func (j judge) namesakeTSA(t *token) (name string, ok bool) {
	for i := range j.root.TSAs {
		a := &j.root.TSAs[i]
		for _, own := range [][]byte{rawIssuer(a.Leaf), rawSubject(a.Anchor)} {
			if own == nil {
				continue
			}
			if bytes.Equal(t.issuer, own) {
				return a.Name(), true
			}
			for _, der := range t.certificates {
				if c, err := x509.ParseCertificate(der); err == nil && t.madeBy(c) && bytes.Equal(c.RawIssuer, own) {
					return a.Name(), true
				}
			}
		}
	}
	return "", false
}

func rawIssuer(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	return c.RawIssuer
}

func rawSubject(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	return c.RawSubject
}
