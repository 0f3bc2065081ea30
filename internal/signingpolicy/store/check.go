package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// Checked is what a store was found to hold.
type Checked struct {
	Head     *ledger.Head
	HeadTime time.Time
	Records  int
	Notices  int
	Maps     int
}

// Check reads a whole store as a monitor does: it replays the log, computes the map after each
// publication, and compares it with what the log commits to; it reads all shards of the newest
// map, and all records, approvals, policies and notices that there are to be. Whether records are
// approved is not looked at. What is not as it must be is a *ledger.Refusal.
func Check(ctx context.Context, source translog.Source, log translog.Log, quorum ledger.Quorum) (*Checked, error) {
	signed, err := source.Get(ctx, ledger.CheckpointPath, translog.MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("policy store: %w", err)
	}
	c := &checker{ctx: ctx, source: source, state: &ledger.State{}, out: &Checked{}}
	if c.out.Head, err = ledger.ParseHead(log, signed); err != nil {
		return nil, err
	}
	if c.out.HeadTime, err = c.out.Head.Time(quorum); err != nil {
		return nil, err
	}
	view := translog.NewView(c.out.Head.Checkpoint, source, nil)
	err = translog.Scan(ctx, view, 0, c.out.Head.Size, func(b translog.Bundle) (translog.Bundle, error) { return b, nil }, c.bundle)
	var bad *translog.Refusal
	switch {
	case errors.As(err, &bad):
		return nil, ledger.Refuse(ledger.CodeBadLog, log.Origin, bad.Hint, "%s", bad.Message)
	case err != nil:
		return nil, err
	case c.last == nil || c.closing.Size != c.out.Head.Size-1:
		return nil, ledger.Refuse(ledger.CodeBadMap, log.Origin, hintKeep, "the last leaf of the log commits to no map")
	}
	return c.out, c.shards()
}

const hintKeep = "keep what the store serves: it shows what its operator did"

type checker struct {
	ctx     context.Context
	source  translog.Source
	state   *ledger.State
	out     *Checked
	last    *ledger.Map
	closing ledger.Leaf
}

func (c *checker) bundle(b translog.Bundle) error {
	for i, data := range b.Entries {
		index := b.First + int64(i)
		l, err := ledger.ParseLeaf(data)
		if err == nil && l.Kind == ledger.KindMap {
			c.last, c.closing = c.state.Map(l.ShardBits), l
			if want := c.last.Leaf(index); want != l {
				return ledger.Refuse(ledger.CodeBadMap, fmt.Sprint(index), hintKeep, "the map of leaf %d is not what the leaves before it make", index)
			}
		}
		if err == nil {
			err = c.state.Apply(l)
		}
		if err != nil {
			return ledger.Refuse(ledger.CodeBadLog, fmt.Sprint(index), hintKeep, "leaf %d of the log: %s", index, err)
		}
		if err := c.files(l); err != nil {
			return err
		}
	}
	return nil
}

// files reads what a leaf names.
func (c *checker) files(l ledger.Leaf) error {
	switch l.Kind {
	case ledger.KindMap:
		c.out.Maps++
	case ledger.KindNotice:
		c.out.Notices++
		data, err := c.get("notice", l.Digest, approval.MaxSize)
		if err != nil {
			return err
		}
		if e, why := approval.Parse(data); why != nil || e.ID != l.Digest {
			return c.lacks("notice", l.Digest)
		}
	case ledger.KindRecord:
		c.out.Records++
		return c.record(l)
	}
	return nil
}

func (c *checker) record(l ledger.Leaf) error {
	data, err := c.get("record", l.Digest, record.MaxFile)
	if err != nil {
		return err
	}
	r, reasons := record.Open(data)
	switch {
	case r == nil:
		return &ledger.Refusal{Reason: reasons[0]}
	case string(r.Digest) != l.Digest || r.Version != l.Version || string(r.Action) != l.Action:
		return c.lacks("record", l.Digest)
	}
	for _, d := range r.Evidence {
		data, err := c.get("evidence", string(d), approval.MaxSize)
		if err != nil {
			return err
		}
		if e, why := approval.Parse(data); why != nil || e.ID != string(d) {
			return c.lacks("evidence", string(d))
		}
	}
	if r.Policy == nil {
		return nil
	}
	text, err := c.get("bundle", string(r.Policy.Bundle), record.MaxPolicy)
	if err == nil && ledger.DigestOf(text) != string(r.Policy.Bundle) {
		err = c.lacks("bundle", string(r.Policy.Bundle))
	}
	return err
}

func (c *checker) get(kind, digest string, limit int64) ([]byte, error) {
	data, err := c.source.Get(c.ctx, ledger.FilePath(kind, digest), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.lacks(kind, digest)
	}
	return data, err
}

func (c *checker) lacks(kind, digest string) error {
	return ledger.Refuse(ledger.CodeBadLog, digest, "a mirror may be whole", "the store lacks %s, which its log names, or has another in its place", ledger.FilePath(kind, digest))
}

func (c *checker) shards() error {
	for i, want := range c.last.Shards {
		for _, f := range []struct {
			path string
			want []byte
		}{{ledger.ShardPath(c.closing.Size, i), want}, {ledger.ProofPath(c.closing.Size, i), c.last.Proof(i)}} {
			data, err := c.source.Get(c.ctx, f.path, ledger.MaxShard)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err != nil || string(data) != string(f.want) {
				return ledger.Refuse(ledger.CodeBadShard, f.path, "publish again, or look at a mirror", "the store lacks %s, or has another in its place", f.path)
			}
		}
	}
	return nil
}
