package main

import (
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/translog/watch"
)

// logEntryAnswer is an entry of a log. docs/json.md, "log get", says the same.
type logEntryAnswer struct {
	Index   int64             `json:"index"`
	Kind    string            `json:"kind,omitempty"`
	Version string            `json:"version,omitempty"`
	Digest  evidence.Digest   `json:"digest,omitempty"` // of what was signed
	Signers []logSignerAnswer `json:"signers,omitempty"`
	Unread  string            `json:"unread,omitempty"` // why it was not understood
	Body    []byte            `json:"body,omitempty"`   // the entry as it is in the log
}

// logSignerAnswer is one signature of an entry: as the certificate says.
type logSignerAnswer struct {
	Identity    string     `json:"identity,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	Key         string     `json:"key,omitempty"`         // without a certificate
	Signature   []byte     `json:"signature"`             // base64
	Certificate []byte     `json:"certificate,omitempty"` // DER
	ValidFrom   *time.Time `json:"validFrom,omitempty"`   // of the certificate
	ValidUntil  *time.Time `json:"validUntil,omitempty"`
}

func answerOfEntry(e watch.Entry, withBody bool) logEntryAnswer {
	out := logEntryAnswer{Index: e.Index, Kind: e.Kind, Version: e.Version, Digest: e.Digest, Unread: e.Unread}
	if withBody {
		out.Body = e.Body
	}
	for _, s := range e.Signers {
		signer := logSignerAnswer{Identity: s.Identity, Issuer: s.Issuer, Key: s.Key, Signature: s.Signature, Certificate: s.Certificate}
		if s.Certificate != nil {
			from, until := s.From.UTC(), s.Until.UTC()
			signer.ValidFrom, signer.ValidUntil = &from, &until
		}
		out.Signers = append(out.Signers, signer)
	}
	return out
}

// printEntry prints an entry as one line: index, kind, digest, who signed, and from
// when on the certificate was valid, which is about when it was signed.
func (a *app) printEntry(e watch.Entry) {
	if e.Unread != "" {
		a.Print("%d  not understood: %s", e.Index, cli.OneLine(e.Unread))
		return
	}
	var who []string
	for _, s := range e.Signers {
		switch {
		case s.Certificate != nil:
			who = append(who, s.Identity+" (issuer "+s.Issuer+") "+cli.Stamp(s.From))
		default:
			who = append(who, "key "+s.Key)
		}
	}
	a.Print("%d  %s  %s  %s", e.Index, e.Kind, e.Digest, cli.OneLine(strings.Join(who, ", ")))
}
