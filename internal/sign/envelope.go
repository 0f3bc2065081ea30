package sign

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
)

// Signed is a signed statement: a bundle that can be written out any number of
// times, without ever being in memory as a whole.
type Signed struct {
	// Claim is the bundle's content; its envelope's payload is left empty, it is
	// the Statement.
	Claim     *evidence.Claim
	Statement *Statement

	head, tail []byte // of the bundle's JSON, around the payload's base64
	unfinished Unfinished
}

// Sign signs a statement: DSSE signature, certificate, timestamps and log entries,
// as far as the signer's services go. With an error the result, if there is one,
// is what was made before.
func (s *Signer) Sign(ctx context.Context, st *Statement) (*Signed, error) {
	m, err := s.material(ctx)
	if err != nil {
		return nil, err
	}
	if st.PredicateType == evidence.PredicateSign {
		if err := s.notRevoked(s.cfg.Revoked.Artifact(st.Subject, s.cfg.Now())); err != nil {
			return nil, err
		}
	}
	var digest, sig []byte
	if h := m.signer.Hash(); h != 0 {
		digest = st.paeDigest(h.New())
	}
	if !m.signer.Whole() {
		sig, err = m.signer.SignDigest(digest)
	} else {
		var pae bytes.Buffer
		pae.Grow(int(st.Size()) + 128)
		st.writePAE(&pae)
		sig, err = m.signer.Sign(pae.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	d, err := m.made(digest, sig)
	if err != nil {
		return nil, err
	}
	signed := &Signed{Statement: st, unfinished: s.unfinished(d)}
	if err := s.prove(ctx, d, &signed.unfinished); err != nil {
		return signed, err
	}
	return signed, signed.close(d)
}

// close makes the claim of what was gathered, and the bundle around the statement.
func (s *Signed) close(m made) (err error) {
	if s.Claim, err = s.unfinished.claim(m); err != nil {
		return err
	}
	s.Claim.Envelope = &evidence.Envelope{PayloadType: evidence.InTotoPayloadType, Signatures: []evidence.EnvelopeSignature{{Sig: m.sig}}}
	return s.frame()
}

// prove gathers what goes with a signature and is not there yet: timestamps and log
// entries. TSAs and logs do not need each other's answers and are asked at the same
// time. Where what is unfinished is kept, the failure of one does not end the
// other. What could be had is in u, also with an error.
func (s *Signer) prove(ctx context.Context, m made, u *Unfinished) error {
	g := new(errgroup.Group)
	if s.cfg.Later == "" {
		g, ctx = errgroup.WithContext(ctx)
	}
	services := &s.cfg.Services
	tsas, logs := u.lacks(services)
	if tsas.Need > 0 {
		g.Go(func() error {
			got, err := askAll(ctx, services, tsas, func(ctx context.Context, url string) ([]byte, error) {
				return s.timestamp(ctx, url, m)
			})
			for _, t := range got {
				u.Timestamps = append(u.Timestamps, givenStamp{t.url, t.answer})
			}
			return err
		})
	}
	if logs.Need > 0 {
		g.Go(func() error {
			got, err := askAll(ctx, services, logs, func(ctx context.Context, url string) (evidence.LogEntry, error) {
				return s.logEntry(ctx, url, m)
			})
			for _, e := range got {
				u.LogEntries = append(u.LogEntries, givenEntry{e.url, e.answer})
			}
			return err
		})
	}
	return g.Wait()
}

// frame has the bundle written with a random payload in place of the statement
// and keeps what is around it: one writer of bundles, and none that must hold
// tens of megabytes twice.
func (s *Signed) frame() error {
	mark := make([]byte, 48)
	if _, err := rand.Read(mark); err != nil {
		return err
	}
	envelope, claim := *s.Claim.Envelope, *s.Claim
	envelope.Payload, claim.Envelope = mark, &envelope
	data, err := bundle.Marshal(&claim)
	if err != nil {
		return err
	}
	head, tail, ok := bytes.Cut(data, []byte(base64.StdEncoding.EncodeToString(mark)))
	if !ok {
		return errors.New("the bundle lacks its payload")
	}
	s.head, s.tail = head, tail
	return nil
}

// Size is the length of the bundle's JSON in bytes.
func (s *Signed) Size() int64 {
	return int64(len(s.head)) + (s.Statement.Size()+2)/3*4 + int64(len(s.tail))
}

// Reader reads the bundle's JSON.
func (s *Signed) Reader() io.Reader {
	return io.MultiReader(bytes.NewReader(s.head), &base64Reader{src: s.Statement.Reader()}, bytes.NewReader(s.tail))
}

// LogIndex is the index of the signature's log entry; ok is false without one.
func (s *Signed) LogIndex() (index int64, ok bool) { return logIndex(s.Claim) }

func logIndex(c *evidence.Claim) (int64, bool) {
	if len(c.LogEntries) == 0 {
		return 0, false
	}
	return c.LogEntries[0].LogIndex, true
}
