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
// newest that this process signed or read, and the one that the configuration says
// this log continues. So a storage that was emptied, put back to an older state,
// mixed up with another one or written by something else makes the log stop, where it
// would else have forked.
type guard struct {
	tlog.Signer
	log translog.Log
	// create allows the first checkpoint, of the empty tree, where there is none.
	create bool
	floor  *translog.Checkpoint // nil: the log continues no other
	// refused is told what will not be signed however often it is asked for.
	refused func(error)

	mu     sync.Mutex
	source translog.Source      // nil until the storage can be read
	last   *translog.Checkpoint // newest that is known
}

func (g *guard) setSource(s translog.Source) {
	g.mu.Lock()
	g.source = s
	g.mu.Unlock()
}

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
	signed, err := note.Sign(&note.Note{Text: string(text)}, g.Signer)
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
	known := 0
	for _, before := range []*translog.Checkpoint{published, g.last, g.floor} {
		if before == nil {
			continue
		}
		known++
		if err := extends(ctx, before, translog.NewView(next, g.source, nil)); err != nil {
			return nil, err
		}
	}
	if known == 0 && next.Size > 0 {
		return nil, unfoundedError(fmt.Sprintf("the storage has a tree of %d entries and no checkpoint: name the last one of the log that it continues as extends in the configuration", next.Size))
	}
	if known == 0 && !g.create {
		return nil, unfoundedError("the storage is empty: where a log begins, start once with --create; else it is the wrong storage, or it was lost")
	}
	g.last = next
	return g.Signer.Sign(text)
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
