package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// signTimeout bounds what the storage may take to show that a tree extends another.
const signTimeout = 20 * time.Second

// guard is the log's key as Tessera gets it: it signs no checkpoint that contradicts
// one that may have been seen. Those are the one that the storage publishes now, the
// newest that this host signed or showed, and the one that the configuration says
// this log continues. So a storage that was emptied, put back to an older state,
// mixed up with another one or written by something else makes the log stop, where it
// would else have forked; and it stays so when the log is started again.
type guard struct {
	tlog.Signer
	log translog.Log
	// create allows the first checkpoint, of the empty tree, where there is none.
	create bool
	floor  *translog.Checkpoint // nil: the log continues no other
	memory *memory
	// refused is told what will not be signed however often it is asked for.
	refused func(error)

	mu     sync.Mutex
	source translog.Source // nil until the storage can be read
}

func (g *guard) setSource(s translog.Source) {
	g.mu.Lock()
	g.source = s
	g.mu.Unlock()
}

// given is a signer that was asked already: a key that is elsewhere signs once.
type given struct {
	tlog.Signer
	sig []byte
}

func (g given) Sign([]byte) ([]byte, error) { return g.sig, nil }

// Sign implements note.Signer. The signature leaves only when the checkpoint may.
func (g *guard) Sign(text []byte) ([]byte, error) {
	sig, err := g.sign(text)
	if err == nil {
		return sig, nil
	}
	err = fmt.Errorf("no checkpoint is signed: %w", err)
	// A tree whose tiles are missing or do not lead to its root stays as it is.
	if errors.As(err, new(*forkError)) || errors.As(err, new(*translog.Refusal)) || errors.As(err, new(unfoundedError)) || errors.Is(err, fs.ErrNotExist) {
		g.refused(err)
	}
	return nil, err
}

// unfoundedError says that there is no checkpoint to go on from.
type unfoundedError string

func (e unfoundedError) Error() string { return string(e) }

func (g *guard) sign(text []byte) ([]byte, error) {
	sig, err := g.Signer.Sign(text)
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, given{g.Signer, sig})
	if err != nil {
		return nil, err
	}
	next, err := g.log.ParseCheckpoint(signed, time.Now())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	published, err := g.published(ctx)
	if err != nil {
		return nil, err
	}
	view := translog.NewView(next, g.source, nil)
	err = g.memory.hold(func(remembered *translog.Checkpoint) (*translog.Checkpoint, error) {
		if err := g.founded(remembered, published, next.Size); err != nil {
			return nil, err
		}
		for _, before := range []*translog.Checkpoint{published, remembered, g.floor} {
			if before == nil {
				continue
			}
			if err := extends(ctx, before, view); err != nil {
				return nil, err
			}
		}
		return next, nil
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// founded makes sure that something besides the storage says what the log has signed:
// the storage alone may be an older one. Only where a log begins there is nothing.
func (g *guard) founded(remembered, published *translog.Checkpoint, size int64) error {
	switch {
	case remembered != nil || g.floor != nil:
		return nil
	case published == nil && size > 0:
		return unfoundedError(fmt.Sprintf("the storage has a tree of %d entries and no checkpoint: name the last one of the log that it continues as extends in the configuration", size))
	case size > 0:
		return unfoundedError(fmt.Sprintf("the storage has a log of %d entries, and nothing on this host says that no more were signed: name the newest checkpoint that is known as extends in the configuration (the file newest of the host that wrote it, or a monitor's)", size))
	case !g.create:
		return unfoundedError("the storage is empty: where a log begins, start once with --create; else it is the wrong storage, or it was lost")
	}
	return nil
}

// published is what the storage shows, nil when it shows none.
func (g *guard) published(ctx context.Context) (*translog.Checkpoint, error) {
	if g.source == nil {
		return nil, errors.New("the storage cannot be read yet")
	}
	return readCheckpoint(ctx, g.log, g.source)
}

func readCheckpoint(ctx context.Context, log translog.Log, source translog.Source) (*translog.Checkpoint, error) {
	raw, err := source.Get(ctx, "checkpoint", translog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint of %s: %w", source.Name(), err)
	}
	c, err := log.ParseCheckpoint(raw, time.Now())
	if err != nil {
		return nil, fmt.Errorf("the checkpoint in %s: %w", source.Name(), err)
	}
	return c, nil
}

// forkError says that two trees of one log contradict each other.
type forkError struct {
	before, next *translog.Checkpoint
	why          string
}

func (e *forkError) Error() string {
	return fmt.Sprintf("a tree of %d entries (root %s) does not extend the one of %d (root %s) that was signed before: %s",
		e.next.Size, e.next.Root, e.before.Size, e.before.Root, e.why)
}

// extends makes sure that next begins with all that before covers.
func extends(ctx context.Context, before *translog.Checkpoint, next *translog.View) error {
	c := next.Checkpoint
	if c.Size < before.Size {
		return &forkError{before, c, "entries are missing"}
	}
	if before.Size == 0 {
		// Every tree extends the empty one; that it is a tree at all is still to be seen.
		if c.Size > 0 {
			_, err := next.ProveEntry(ctx, c.Size-1)
			return err
		}
		return nil
	}
	root, err := next.RootAt(ctx, before.Size)
	if err != nil {
		return fmt.Errorf("comparing the trees of %d and %d entries: %w", before.Size, c.Size, err)
	}
	if root != before.Root {
		return &forkError{before, c, "its entries are others"}
	}
	return nil
}
