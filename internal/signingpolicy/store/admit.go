package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
)

// admit judges a record as readers will, as if the quorum saw its head now.
func (s *Store) admit(r *record.Record, files map[string][]byte) error {
	host, kind, _ := repokey.Parts(r.Key)
	var owner *chain.Walk
	if kind == "id" {
		var err error
		if owner, err = s.walk(host+"/owner/"+r.OwnerID, nil); err != nil {
			return err
		}
	}
	w, err := s.walk(r.Key, owner)
	if err != nil {
		return err
	}
	l := chain.Logged{Record: r, At: s.cfg.Now()}
	for _, d := range r.Evidence {
		path := ledger.FilePath("evidence", string(d))
		l.Evidence = append(l.Evidence, approval.Found{Where: path, Data: files[path]})
	}
	return w.Add(l)
}

// walk is the chain of a key as it is stored, what is in no head yet included.
func (s *Store) walk(key string, owner *chain.Walk) (*chain.Walk, error) {
	w := chain.NewWalk(s.cfg.Rules, owner)
	e, ok := s.state.Entry(s.cfg.Blinding.Key(key))
	if !ok {
		return w, nil
	}
	var records []*record.Record
	for d := evidence.Digest(e.Record); d != ""; {
		r, err := s.record(string(d))
		if err != nil {
			return nil, err
		}
		records = append(records, r)
		d = r.Prev
	}
	for _, r := range slices.Backward(records) {
		l := chain.Logged{Record: r}
		var err error
		if l.At, err = s.loggedAt(string(r.Digest)); err != nil {
			return nil, err
		}
		for _, d := range r.Evidence {
			path := ledger.FilePath("evidence", string(d))
			data, err := os.ReadFile(s.path(path))
			if err != nil {
				return nil, fmt.Errorf("policy store: %w", err)
			}
			l.Evidence = append(l.Evidence, approval.Found{Where: path, Data: data})
		}
		_ = w.Add(l) // what a reader refuses is refused when the next record is judged
	}
	return w, nil
}

func (s *Store) record(digest string) (*record.Record, error) {
	data, err := os.ReadFile(s.path(ledger.FilePath("record", digest)))
	if err != nil {
		return nil, fmt.Errorf("policy store: %w", err)
	}
	r, reasons := record.Open(data)
	if r == nil {
		return nil, &ledger.Refusal{Reason: reasons[0]}
	}
	return r, nil
}

// loggedAt is when the quorum saw the first head with a record; now for one that is in none yet.
func (s *Store) loggedAt(digest string) (time.Time, error) {
	data, err := os.ReadFile(s.path(ledger.LoggedPath(digest)))
	if errors.Is(err, fs.ErrNotExist) {
		return s.cfg.Now(), nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("policy store: %w", err)
	}
	_, size, err := ledger.ParseLogged(data)
	if err != nil {
		return time.Time{}, fmt.Errorf("policy store: %s: %w", ledger.LoggedPath(digest), err)
	}
	signed, err := os.ReadFile(s.path(ledger.HeadPath(size)))
	if errors.Is(err, fs.ErrNotExist) {
		return s.cfg.Now(), nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("policy store: %w", err)
	}
	h, err := ledger.ParseHead(s.log, signed)
	if err != nil {
		return time.Time{}, err
	}
	return h.Time(s.cfg.Quorum)
}
