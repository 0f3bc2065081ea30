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

func (l *Log) setIndex(leaf tlog.Hash, index int64) {
	l.indexLock.Lock()
	l.index[leaf] = index
	l.indexLock.Unlock()
}

// Size is the number of entries.
func (v View) Size() int64 { return v.tree.size() }

// Root is the root hash.
func (v View) Root() [sha256.Size]byte { return v.tree.root }

// Checkpoint is the signed note; it must not be changed.
func (v View) Checkpoint() []byte { return v.tree.note }

// Leaf is the hash of an entry (RFC 9162, 2.1.1).
func (v View) Leaf(index int64) [sha256.Size]byte { return v.tree.leaves()[index] }

// Find is the index of the entry with a leaf hash, false when the view has none.
func (v View) Find(leaf [sha256.Size]byte) (int64, bool) {
	v.log.indexLock.RLock()
	index, ok := v.log.index[leaf]
	v.log.indexLock.RUnlock()
	return index, ok && index < v.Size()
}

// Time is when an entry of a timed log was integrated, in whole seconds.
func (v View) Time(index int64) time.Time { return time.Unix(v.tree.times[index], 0) }

// Entry reads an entry from disk and compares it with its leaf hash.
func (v View) Entry(index int64) ([]byte, error) {
	start, end := v.tree.offsets[index], v.tree.offsets[index+1]
	record := make([]byte, end-start)
	if _, err := v.log.store.entries.ReadAt(record, start); err != nil {
		return nil, fmt.Errorf("reading %s: %w", v.log.store.path(entriesName), err)
	}
	if int(binary.BigEndian.Uint16(record)) != len(record)-2 || tlog.RecordHash(record[2:]) != v.tree.leaves()[index] {
		return nil, v.log.store.damaged(fmt.Sprintf("entry %d is not what was written", index))
	}
	return record[2:], nil
}

// Inclusion proves that the entry at index is in the view (RFC 9162, 2.1.3).
func (v View) Inclusion(index int64) ([]tlog.Hash, error) {
	return tlog.ProveRecord(v.Size(), index, v.tree)
}

// Consistency proves that the log of size to extends that of size from (RFC 9162,
// 2.1.4); 1 ≤ from ≤ to ≤ Size.
func (v View) Consistency(from, to int64) ([]tlog.Hash, error) {
	return tlog.ProveTree(to, from, v.tree)
}
