package tlog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxEntry is how many bytes an entry may have (c2sp.org/tlog-tiles).
const MaxEntry = maxEntry

// View is the log as one published checkpoint covers it. It never changes.
type View struct {
	log  *Log
	tree *tree
}

// Added is the answer to [Log.Append].
type Added struct {
	View  // covers the entry
	Index int64
	// New is false when the log had the entry before.
	New bool
}

// Append adds one canonical entry of at most [MaxEntry] bytes, or finds it. What
// it returns is durable and published. The error is [ErrClosed], ctx's, or says
// that the log has stopped.
func (l *Log) Append(ctx context.Context, entry []byte) (Added, error) {
	r := l.add(ctx, entry)
	if r.err != nil {
		return Added{}, r.err
	}
	return Added{View{l, r.tree}, r.index, r.fresh}, nil
}

// View is the log as it is now.
func (l *Log) View() View { return View{l, l.published.Load()} }

// Failed is the reason why the log has stopped, nil while it works.
func (l *Log) Failed() error { return l.failed() }

// Size is the number of entries.
func (v View) Size() int64 { return v.tree.size() }

// Root is the root hash.
func (v View) Root() [sha256.Size]byte { return v.tree.root }

// RootAt is the root hash when the log had n entries, at most Size.
func (v View) RootAt(n int64) ([sha256.Size]byte, error) { return v.tree.rootAt(n) }

// Checkpoint is the signed note; it must not be changed.
func (v View) Checkpoint() []byte { return v.tree.note }

// Leaf is the hash of an entry (RFC 9162, 2.1.1).
func (v View) Leaf(index int64) ([sha256.Size]byte, error) { return v.tree.leaf(index) }

// Find is the index of the entry with a leaf hash, false when the view has none.
func (v View) Find(leaf [sha256.Size]byte) (int64, bool, error) { return v.tree.find(leaf) }

// Time is when an entry of a timed log was integrated, in whole seconds.
func (v View) Time(index int64) (time.Time, error) {
	at, err := v.log.store.time(v.tree.times, index)
	return time.Unix(at, 0), err
}

// Entry reads an entry from disk and follows its leaf hash up to the root.
func (v View) Entry(index int64) ([]byte, error) {
	s := v.log.store
	record, err := v.tree.entries(s, index, index+1)
	if err != nil {
		return nil, err
	}
	ok := len(record) >= 2 && int(binary.BigEndian.Uint16(record)) == len(record)-2
	if ok {
		if ok, err = v.tree.leads(0, index, tlog.RecordHash(record[2:])); err != nil {
			return nil, err
		}
	}
	if !ok {
		if _, err := v.tree.leaf(index); err != nil { // it is not the entry
			return nil, err
		}
		return nil, s.damaged(fmt.Sprintf("entry %d is not what was written", index))
	}
	return record[2:], nil
}

// Inclusion proves that the entry at index is in the view (RFC 9162, 2.1.3).
func (v View) Inclusion(index int64) ([]tlog.Hash, error) { return v.tree.inclusion(index) }

// Consistency proves that the log of size to extends that of size from (RFC 9162,
// 2.1.4); 1 ≤ from ≤ to ≤ Size.
func (v View) Consistency(from, to int64) ([]tlog.Hash, error) { return v.tree.consistency(from, to) }
