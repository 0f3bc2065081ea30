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
	"github.com/hallmark-dev/hallmark/internal/key"
)

// Signed is a signed statement: a bundle that can be written out any number of
// times, without ever being in memory as a whole.
type Signed struct {
	// Claim is the bundle's content; its envelope's payload is left empty, it is
	// the Statement.
	Claim     *evidence.Claim
	Statement *Statement

	head, tail []byte // of the bundle's JSON, around the payload's base64
}

// Sign signs a statement: DSSE signature, certificate, timestamp and log entry,
// as far as the signer's services go.
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
	claim, err := s.prove(ctx, m, digest, sig)
	if err != nil {
		return nil, err
	}
	claim.Envelope = &evidence.Envelope{
		PayloadType: evidence.InTotoPayloadType,
		Signatures:  []evidence.EnvelopeSignature{{Sig: sig}},
	}
	signed := &Signed{Claim: claim, Statement: st}
	return signed, signed.frame()
}

// prove gathers what goes with a signature into a claim: certificate or key
// hint, timestamp and log entry. TSA and log do not need each other's answers
// and are asked at the same time.
func (s *Signer) prove(ctx context.Context, m material, digest, sig []byte) (*evidence.Claim, error) {
	claim := &evidence.Claim{Format: evidence.FormatBundle03, MediaType: evidence.BundleMediaType}
	if m.cert != nil {
		claim.Certificates = [][]byte{m.cert}
	} else {
		claim.KeyHint = key.Hint(m.signer.Public())
	}
	g, gctx := errgroup.WithContext(ctx)
	var stamp []byte
	var entry *evidence.LogEntry
	if s.cfg.Services.TSA != "" {
		g.Go(func() (err error) { stamp, err = s.timestamp(gctx, m, sig); return err })
	}
	if s.cfg.Services.Log != "" {
		g.Go(func() (err error) { entry, err = s.logEntry(gctx, m, digest, sig); return err })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if stamp != nil {
		claim.Timestamps = [][]byte{stamp}
	}
	if entry != nil {
		claim.LogEntries = []evidence.LogEntry{*entry}
	}
	return claim, nil
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
