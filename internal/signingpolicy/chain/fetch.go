package chain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

const concurrency = 16

// walk fetches and judges the chain of a key. The chain of a key without records is empty.
func (q *question) walk(ctx context.Context, key, stored string, owner *Walk) (*Walk, error) {
	w := NewWalk(&q.cfg.Rules, owner)
	e, ok := q.entries[stored]
	if !ok {
		return w, nil
	}
	records, err := q.records(ctx, key, stored, e)
	if err != nil {
		return nil, err
	}
	all := make([]Logged, len(records))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, r := range records {
		all[i].Record = r
		g.Go(func() (err error) {
			if all[i].At, err = q.loggedAt(gctx, r, stored); err != nil {
				return err
			}
			all[i].Evidence, err = q.evidence(gctx, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	w.prove(all)
	for _, l := range all {
		_ = w.Add(l) // a reset may follow
	}
	return w, w.Err(q.now)
}

// records are the records of a key, oldest first.
func (q *question) records(ctx context.Context, key, stored string, e ledger.Entry) ([]*record.Record, error) {
	if e.Version > maxVersions {
		return nil, refuse(CodeBroken, key, "", "the policy of %s has %d versions; at most %d are read", key, e.Version, maxVersions)
	}
	ahead := q.ahead(ctx, stored)
	out := make([]*record.Record, e.Version)
	code, want := CodeDigest, e.Record
	for v := e.Version; v >= 1; v-- {
		r, err := ahead(want)
		var broken *ledger.Refusal
		switch {
		case errors.As(err, &broken):
			if !strings.HasPrefix(broken.Code, "AUTHORITY_") && !strings.HasPrefix(broken.Code, "KEY_") {
				broken.Code = code
			}
			return nil, broken
		case err != nil:
			return nil, err
		case string(r.Digest) != want || r.Key != key || r.Version != v:
			return nil, refuse(code, key, "keep what the store serves and ask its operator", "version %d of the policy of %s is to be %s; what the store has there is version %d of %s (%s)",
				v, key, want, r.Version, r.Key, r.Digest)
		}
		out[v-1], code, want = r, CodeBroken, string(r.Prev)
	}
	return out, nil
}

// ahead is a function that fetches records, of which those that the log names are already under way.
func (q *question) ahead(ctx context.Context, stored string) func(digest string) (*record.Record, error) {
	type fetched struct {
		r   *record.Record
		err error
	}
	slots := map[string]chan fetched{}
	if h := q.tail.of[stored]; h != nil {
		room := make(chan struct{}, concurrency)
		for _, l := range slices.Backward(h.records) {
			slot := make(chan fetched, 1)
			slots[l.Digest] = slot
			go func() {
				room <- struct{}{}
				r, err := q.record(ctx, l.Digest)
				<-room
				slot <- fetched{r, err}
			}()
		}
	}
	return func(digest string) (*record.Record, error) {
		if slot, ok := slots[digest]; ok {
			delete(slots, digest)
			f := <-slot
			return f.r, f.err
		}
		return q.record(ctx, digest)
	}
}

func (q *question) record(ctx context.Context, digest string) (*record.Record, error) {
	data, err := q.cfg.Source.Get(ctx, ledger.FilePath("record", digest), record.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(CodeBroken, digest, "a mirror may have it", "the policy store lacks the record %s", digest)
	}
	if err != nil {
		return nil, err
	}
	r, reasons := record.Open(data)
	if r == nil {
		return nil, &ledger.Refusal{Reason: reasons[0]}
	}
	return r, nil
}

// evidence are the approvals that a record names. One that the store lacks does not count.
func (q *question) evidence(ctx context.Context, r *record.Record) ([]approval.Found, error) {
	found := make([]approval.Found, len(r.Evidence))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, d := range r.Evidence {
		g.Go(func() error {
			path := ledger.FilePath("evidence", string(d))
			data, err := q.cfg.Source.Get(gctx, path, approval.MaxSize)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && envelope(data, string(d)) != nil {
				found[i] = approval.Found{Where: path, Data: data}
			}
			return err
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(found, func(f approval.Found) bool { return f.Data == nil }), err
}

// envelope reads an approval with a digest, nil when it is another. Its digest is that of the
// payload; the hint at the key must be the key that signed, where a signature names it, so that no
// byte of the file is free.
func envelope(data []byte, id string) *approval.Envelope {
	e, why := approval.Parse(data)
	if why != nil || e.ID != id {
		return nil
	}
	if key := sshsignature.ClaimedKey(e.Signature); key != "" && key != e.KeyID {
		return nil
	}
	return e
}

// loggedAt is when the quorum saw the first head that covers a record. Where that head is missing
// it is when the quorum saw the present one, so that a store can only make records look younger.
func (q *question) loggedAt(ctx context.Context, r *record.Record, stored string) (time.Time, error) {
	size, err := q.firstHead(ctx, r, stored)
	if err != nil || size == 0 {
		return q.headTime, err
	}
	signed, err := q.cfg.Source.Get(ctx, ledger.HeadPath(size), translog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return q.headTime, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	h, err := ledger.ParseHead(q.cfg.Log, signed)
	if err != nil {
		return time.Time{}, err
	}
	at, err := h.Time(q.cfg.Quorum)
	if err != nil {
		return time.Time{}, err
	}
	root, err := q.view.RootAt(ctx, size)
	if err != nil {
		return time.Time{}, badLog(err, q.head.Origin)
	}
	if h.Size != size || h.Root != root {
		return time.Time{}, refuse(ledger.CodeForked, q.head.Origin, "keep both heads: together they show that the operator lied",
			"the policy store's head of %d leaves is not of the log that it has now", size)
	}
	return at, nil
}

// firstHead is the size of the first head that covers a record, by the tail or else as the store
// says; 0 is unknown.
func (q *question) firstHead(ctx context.Context, r *record.Record, stored string) (int64, error) {
	if h := q.tail.of[stored]; h != nil {
		for _, l := range h.records {
			if l.Digest == string(r.Digest) {
				return q.tail.covers(l.index), nil
			}
		}
	}
	data, err := q.cfg.Source.Get(ctx, ledger.LoggedPath(string(r.Digest)), 64)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	index, size, err := ledger.ParseLogged(data)
	if err != nil || size <= index || size > q.head.Size {
		return 0, refuse(ledger.CodeBadLog, r.Key, "a mirror may be whole", "the policy store does not say where the record %s is", r.Digest)
	}
	leaf, err := q.view.Entry(ctx, index)
	if err != nil {
		return 0, badLog(err, q.head.Origin)
	}
	if l, err := ledger.ParseLeaf(leaf); err != nil || l.Kind != ledger.KindRecord || l.Digest != string(r.Digest) || l.Key != stored {
		return 0, refuse(ledger.CodeBadLog, r.Key, "a mirror may be whole", "the policy store says that the record %s is leaf %d, which is another", r.Digest, index)
	}
	return size, nil
}

// notices are those of an entry: all that the map counts.
func (q *question) notices(ctx context.Context, e ledger.Entry, w *Walk) ([][]byte, error) {
	if e.Notices == 0 {
		return nil, nil
	}
	missing := func(what string) error {
		return refuse(CodeNoNotices, e.Key, "ask the store's operator; a mirror may have them", "%s has %d notices, such as rejections, of which the policy store lacks %s", e.Key, e.Notices, what)
	}
	data, err := q.cfg.Source.Get(ctx, ledger.FilePath("notices", e.List), ledger.MaxNotices*80)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing("the list")
	}
	if err != nil {
		return nil, err
	}
	list, err := ledger.ParseNoticeList(data)
	if err != nil || ledger.DigestOf(data) != e.List || len(list) != e.Notices {
		return nil, missing("the list that the map names")
	}
	if h := q.tail.of[e.Key]; h != nil && !slices.Equal(h.notices, list[max(0, len(list)-len(h.notices)):]) {
		return nil, q.mapLies(ledger.CodeMapOld, "has other notices of %s than the log", e.Key)
	}
	out := make([][]byte, len(list))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, d := range list {
		g.Go(func() error {
			data, err := q.cfg.Source.Get(gctx, ledger.FilePath("notice", d), approval.MaxSize)
			if errors.Is(err, fs.ErrNotExist) {
				return missing(d)
			}
			if err != nil {
				return err
			}
			if n := envelope(data, d); n == nil || !w.filed(n, data) {
				return missing(d + " as it was filed")
			}
			out[i] = data
			return nil
		})
	}
	return out, g.Wait()
}

// filed reports whether the principal whom a notice names signed it, by any record of the chain: a
// store that breaks the signature of a rejection must not be able to hide it.
func (w *Walk) filed(n *approval.Envelope, data []byte) bool {
	st := n.Statement
	want := approval.Expected{Action: st.Action, Repository: st.Repository, Commit: st.Commit, Ref: st.Ref, TagObject: st.TagObject, Tree: st.Tree,
		TreeSHA256: st.TreeSHA256, Proposal: st.Proposal, Policy: st.Policy, Now: st.IssuedAt, Keyless: w.rules.Keyless}
	for _, s := range slices.Backward(w.steps) {
		if r := approval.Judge(s.Doc, want, []approval.Found{{Where: "notice", Data: data}}); len(r.Valid) == 1 && st.Decision == approval.Reject && st.Repository.Key == s.Key {
			return true
		}
	}
	return false
}

// formerHolders makes sure that whoever had the repository's name gave it up themselves: an
// operator could log a record that takes it from them, which nobody approved.
func (q *question) formerHolders(ctx context.Context, repo Repository) error {
	for key := range q.tail.lost {
		if key == q.id {
			continue
		}
		s, err := q.shard(ctx, key)
		if err != nil {
			return err
		}
		e, ok := s.Entry(key)
		if !ok {
			return q.mapLies(ledger.CodeMapOmits, "leaves out %s", key)
		}
		r, err := q.record(ctx, e.Record)
		if err != nil {
			return err
		}
		if q.cfg.Blinding.Key(r.Key) != key {
			return refuse(CodeDigest, key, "keep what the store serves and ask its operator", "the record %s is of %s, not of %s", e.Record, r.Key, key)
		}
		q.entries[key] = e
		w, err := q.walk(ctx, r.Key, key, nil)
		if err != nil {
			return fmt.Errorf("%w (it had the name %s before)", err, repo.Name)
		}
		if in := w.At(q.now); in != nil && strings.EqualFold(in.Name, repo.Name) {
			return q.rebound(repo)
		}
	}
	return nil
}

// Bundle is the policy of a step, whose digest holds.
func (c *Client) Bundle(ctx context.Context, s *Step) ([]byte, error) {
	if s.Policy == nil {
		return nil, errors.New("the record has no policy")
	}
	digest := string(s.Policy.Bundle)
	data, err := c.cfg.Source.Get(ctx, ledger.FilePath("bundle", digest), record.MaxPolicy)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil || ledger.DigestOf(data) != digest || int64(len(data)) != s.Policy.Size {
		return nil, refuse(CodeDigest, s.Key, "a mirror may have it", "the policy store lacks the policy of version %d of %s, %s (%s bytes)", s.Version, s.Key, digest, strconv.FormatInt(s.Policy.Size, 10))
	}
	return data, nil
}
