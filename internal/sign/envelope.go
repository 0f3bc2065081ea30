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
	signed := &Signed{Statement: st, unfinished: Unfinished{Digest: digest, Signature: sig, KeyDetails: d.keyDetails, Cert: d.cert, PublicKey: d.spki}}
	if signed.Claim, err = s.prove(ctx, d); err != nil {
		return signed, err
	}
	signed.Claim.Envelope = &evidence.Envelope{
		PayloadType: evidence.InTotoPayloadType,
		Signatures:  []evidence.EnvelopeSignature{{Sig: sig}},
	}
	return signed, signed.frame()
}

// prove gathers what goes with a signature into a claim: certificate or key
// hint, timestamps and log entries. TSAs and logs do not need each other's answers
// and are asked at the same time. Where what is unfinished is kept, the failure of
// one does not end the other, and the claim has what could be had.
func (s *Signer) prove(ctx context.Context, m made) (*evidence.Claim, error) {
	claim := &evidence.Claim{Format: evidence.FormatBundle03, MediaType: evidence.BundleMediaType}
	if m.cert != nil {
		claim.Certificates = [][]byte{m.cert}
	} else {
		pub, err := m.public()
		if err != nil {
			return nil, err
		}
		claim.KeyHint = key.Hint(pub)
	}
	g := new(errgroup.Group)
	if s.cfg.Later == "" {
		g, ctx = errgroup.WithContext(ctx)
	}
	return claim, s.gather(ctx, g, m, claim)
}

func (s *Signer) gather(ctx context.Context, g *errgroup.Group, m made, claim *evidence.Claim) error {
	services := &s.cfg.Services
	if services.TSAs.Need > 0 {
		g.Go(func() (err error) {
			claim.Timestamps, err = askAll(ctx, services, services.TSAs, func(ctx context.Context, url string) ([]byte, error) {
				return s.timestamp(ctx, url, m)
			})
			return err
		})
	}
	if services.Logs.Need > 0 {
		g.Go(func() (err error) {
			claim.LogEntries, err = askAll(ctx, services, services.Logs, func(ctx context.Context, url string) (evidence.LogEntry, error) {
				return s.logEntry(ctx, url, m)
			})
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
