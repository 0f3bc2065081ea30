package store

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
)

// Submission is a record with all that it names.
type Submission struct {
	Record   []byte   // the updater's bundle
	Evidence [][]byte // the envelopes of the approvals that it names, in any order
	Policy   []byte   // the policy bundle; nil where the record has none
}

// Append takes in a record. What is there already is taken in again without a change. A record
// that does not follow the newest one is a refusal with code CONFLICT, and one that readers would
// refuse is refused as they would.
func (s *Store) Append(ctx context.Context, sub Submission) (*record.Record, error) {
	file, err := record.Normalize(sub.Record)
	if err != nil {
		return nil, fmt.Errorf("policy store: the record: %w", err)
	}
	r, reasons := record.Open(file)
	if r == nil {
		return nil, &ledger.Refusal{Reason: reasons[0]}
	}
	files, err := s.parts(r, file, sub)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	key := s.cfg.Blinding.Key(r.Key)
	e, _ := s.state.Entry(key)
	if e.Record == string(r.Digest) {
		return r, nil
	}
	if r.Version != e.Version+1 || string(r.Prev) != e.Record {
		return nil, ledger.Refuse(ledger.CodeConflict, r.Key, "look at the newest version, then propose the change again",
			"the newest policy of %s is version %d (%s); this is version %d, which follows %q", r.Key, e.Version, e.Record, r.Version, r.Prev)
	}
	if s.cfg.Rules != nil {
		if err := s.admit(r, files); err != nil {
			return nil, err
		}
	}
	leaf := ledger.Leaf{Kind: ledger.KindRecord, Key: key, Digest: string(r.Digest), Version: r.Version, Action: string(r.Action)}
	if !r.OfOwner() {
		leaf.Name = s.cfg.Blinding.Key(repokey.Name(r.Name))
	}
	return r, s.enqueue(files, leaf)
}

// parts are the files of a submission by their paths.
func (s *Store) parts(r *record.Record, file []byte, sub Submission) (map[string][]byte, error) {
	files := map[string][]byte{ledger.FilePath("record", string(r.Digest)): file}
	if (r.Policy == nil) != (sub.Policy == nil) || r.Policy != nil && (evidence.SHA256(sub.Policy) != r.Policy.Bundle || int64(len(sub.Policy)) != r.Policy.Size) {
		return nil, fault.Usagef("policy store: the policy is not the one that the record names")
	}
	if r.Policy != nil {
		files[ledger.FilePath("bundle", string(r.Policy.Bundle))] = sub.Policy
	}
	missing := slices.Clone(r.Evidence)
	for _, data := range sub.Evidence {
		e, why := approval.Parse(data)
		if why != nil {
			return nil, &ledger.Refusal{Reason: *why}
		}
		i := slices.Index(missing, evidence.Digest(e.ID))
		if i < 0 {
			return nil, fault.Usagef("policy store: the record does not name the approval %s, or it is there twice", e.ID)
		}
		missing = slices.Delete(missing, i, i+1)
		files[ledger.FilePath("evidence", e.ID)] = data
	}
	if len(missing) > 0 {
		return nil, fault.Usagef("policy store: the approval %s, which the record names, is missing", missing[0])
	}
	return files, nil
}

// Notice files a rejection: an approval envelope whose decision is to reject, by a principal of the
// repository's newest record.
func (s *Store) Notice(_ context.Context, key string, envelope []byte) error {
	e, why := approval.Parse(envelope)
	if why != nil {
		return &ledger.Refusal{Reason: *why}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	stored := s.cfg.Blinding.Key(key)
	entry, ok := s.state.Entry(stored)
	if !ok {
		return fault.NotFoundf("policy store: %s has no policy", key)
	}
	if slices.Contains(s.state.NoticesOf(stored), e.ID) {
		return nil
	}
	if s.cfg.Rules != nil {
		if err := s.admitNotice(key, entry, e, envelope); err != nil {
			return err
		}
	}
	return s.enqueue(map[string][]byte{ledger.FilePath("notice", e.ID): envelope}, ledger.Leaf{Kind: ledger.KindNotice, Key: stored, Digest: e.ID})
}

func (s *Store) admitNotice(key string, entry ledger.Entry, e *approval.Envelope, envelope []byte) error {
	r, err := s.record(entry.Record)
	if err != nil {
		return err
	}
	st := e.Statement
	if st.Decision != approval.Reject || st.Repository.Key != key {
		return ledger.Refuse(approval.CodeOtherAction, key, "", "the notice is no rejection for %s", key)
	}
	want := approval.Expected{Action: st.Action, Repository: st.Repository, Commit: st.Commit, Ref: st.Ref, TagObject: st.TagObject, Tree: st.Tree,
		TreeSHA256: st.TreeSHA256, Proposal: st.Proposal, Policy: st.Policy, Now: s.cfg.Now(), Keyless: s.cfg.Rules.Keyless}
	found := approval.Judge(r.Doc, want, []approval.Found{{Where: "notice", Data: envelope}})
	if len(found.Valid) == 1 {
		return nil
	}
	b := found.Rejected[0]
	return ledger.Refuse(b.Code, key, "", "the notice is not admitted: %s", b.Message)
}

// enqueue makes files and leaves durable, files first, and takes the leaves into the state.
func (s *Store) enqueue(files map[string][]byte, leaves ...ledger.Leaf) error {
	next := s.state // a leaf that breaks a rule changes nothing
	if len(leaves) > 1 {
		next = s.state.Clone()
	}
	for _, l := range leaves {
		if err := next.Apply(l); err != nil {
			return fmt.Errorf("policy store: %w", err)
		}
	}
	s.state = next
	err := s.write(files)
	if err == nil {
		var lines []byte
		for _, l := range leaves {
			lines = append(append(lines, l.Bytes()...), '\n')
		}
		name := fmt.Sprintf("%s/%012d", queueDir, s.queued)
		if err = durable.WriteSealed(s.path(name), lines, 0o644); err == nil {
			s.queued++
			s.files = append(s.files, name)
			s.queue = append(s.queue, leaves...)
			return nil
		}
	}
	// The state has what the disk may not have.
	s.failed = fmt.Errorf("policy store: writing failed, open it again: %w", err)
	return s.failed
}

// readQueue takes in what was appended and is in no head yet.
func (s *Store) readQueue() error {
	entries, err := os.ReadDir(s.path(queueDir))
	if err != nil {
		return fmt.Errorf("policy store: %w", err)
	}
	for _, f := range entries { // sorted
		n, err := strconv.Atoi(f.Name())
		if err != nil || strings.HasPrefix(f.Name(), ".") {
			continue // a temporary file that was left
		}
		name := queueDir + "/" + f.Name()
		data, err := durable.ReadSealed(s.path(name))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			l, err := ledger.ParseLeaf(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				return &durable.CorruptError{Path: s.path(name), Why: err.Error()}
			}
			if s.has(l) { // it is in a head; the end came before it left the queue
				continue
			}
			if err := s.state.Apply(l); err != nil {
				return &durable.CorruptError{Path: s.path(name), Why: err.Error()}
			}
			s.queue = append(s.queue, l)
		}
		s.files, s.queued = append(s.files, name), n+1
	}
	return nil
}

func (s *Store) has(l ledger.Leaf) bool {
	if l.Kind == ledger.KindNotice {
		return slices.Contains(s.state.NoticesOf(l.Key), l.Digest)
	}
	e, _ := s.state.Entry(l.Key)
	return l.Version <= e.Version
}

// write makes files durable; those that are there already are as they are: their names say what
// they hold.
func (s *Store) write(files map[string][]byte) error {
	dirs := map[string]bool{}
	for path := range files {
		dirs[filepath.Dir(path)] = true
	}
	for d := range dirs {
		if err := durable.MkdirAll(s.path(d), 0o755); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.SetLimit(16)
	for path, data := range files {
		g.Go(func() error {
			if have, err := os.ReadFile(s.path(path)); err == nil && bytes.Equal(have, data) {
				return durable.SyncDir(filepath.Dir(s.path(path)))
			}
			return durable.WriteFile(s.path(path), data, 0o644)
		})
	}
	return g.Wait()
}
