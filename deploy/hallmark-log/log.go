package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	sumtlog "golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

const (
	writeTimeout = 40 * time.Second // for an entry, from request to receipt
	// maxWriting bounds the entries under way, whose storage may have stopped answering.
	maxWriting = 4096
	// staleAfter is how long the storage may be silent before the log is not well.
	staleAfter = 30 * time.Second
	batchSize  = 256
)

// batchWait is how long a driver collects entries for one write.
var batchWait = map[string]time.Duration{
	"posix": 10 * time.Millisecond, "mysql": 20 * time.Millisecond, "aws": 100 * time.Millisecond, "gcp": 100 * time.Millisecond,
}

// pollEvery is how often a driver is asked for the checkpoint, which another writer
// may have published, too.
var pollEvery = map[string]time.Duration{
	"posix": 10 * time.Millisecond, "mysql": 25 * time.Millisecond, "aws": 200 * time.Millisecond, "gcp": 200 * time.Millisecond,
}

// Log is a log that Tessera keeps, as a [tlog.Backend]: an answer is given when a
// published checkpoint covers the entry and its proof to it was checked.
type Log struct {
	cfg    *Config
	log    *slog.Logger
	signer tlog.Signer
	known  translog.Log
	opened *opened
	guard  *guard
	// remembered is what was the newest checkpoint on this host before it was opened.
	remembered *translog.Checkpoint
	add        tessera.AddFn
	source     *storage
	shutdown   func(context.Context) error
	cancel     context.CancelFunc
	polled     sync.WaitGroup
	writing    chan struct{} // has room for maxWriting

	mu      sync.Mutex
	view    *translog.View // what the published checkpoint covers; nil before the first
	moved   chan struct{}  // closed when view changes or the log fails
	failure error          // set once
	heard   time.Time      // when the storage answered last

	added, doubles, refused atomic.Int64
}

var _ tlog.Backend = (*Log)(nil)

// OpenLog starts the log on its storage and returns when it can take entries: a
// checkpoint is published and the index of duplicates knows every entry.
func OpenLog(ctx context.Context, cfg *Config, create bool, log *slog.Logger) (_ *Log, err error) {
	l := &Log{cfg: cfg, log: log,
		writing: make(chan struct{}, maxWriting), moved: make(chan struct{}), heard: time.Now()}
	if err = tryKey(cfg.key); err != nil {
		return nil, err
	}
	if l.signer, err = tlog.NewSigner(cfg.Origin, cfg.key); err != nil {
		return nil, err
	}
	if l.known, err = translog.NewLog(cfg.Origin, cfg.key.Public()); err != nil {
		return nil, err
	}
	g := &guard{Signer: l.signer, log: l.known, create: create, refused: l.fail}
	if g.memory, err = openMemory(cfg.Newest, l.known); err != nil {
		return nil, err
	}
	l.guard, l.remembered = g, g.memory.newest()
	if cfg.Extends != "" {
		if g.floor, err = readFloor(cfg.Extends, l.known); err != nil {
			return nil, err
		}
	}
	if l.opened, err = openStorage(ctx, &cfg.Storage); err != nil {
		return nil, err
	}
	var background context.Context
	background, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			l.cancel()
			l.polled.Wait()
			err = errors.Join(err, l.opened.close())
		}
	}()
	if l.opened.source != nil {
		g.setSource(l.opened.source)
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(g).
		WithBatching(batchSize, batchWait[cfg.Storage.Driver]).
		WithCheckpointInterval(cfg.every).
		WithShutdownTimeout(15*time.Second).
		WithAntispam(tessera.DefaultAntispamInMemorySize, l.opened.antispam)
	appender, shutdown, reader, err := tessera.NewAppender(background, l.opened.driver, opts)
	if err != nil {
		return nil, err
	}
	l.add, l.shutdown, l.source = appender.Add, shutdown, newStorage(l.opened.name, reader)
	g.setSource(l.source)
	l.polled.Go(func() { l.poll(background) })
	if err := l.ready(ctx, reader); err != nil {
		return nil, err
	}
	return l, nil
}

// readFloor reads the checkpoint that a log must extend.
func readFloor(path string, known translog.Log) (*translog.Checkpoint, error) {
	raw, err := readLimited(path, translog.MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("extends: %w", err)
	}
	c, err := known.ParseCheckpoint(raw, time.Now())
	if err != nil {
		return nil, fmt.Errorf("extends: %s: %w", path, err)
	}
	return c, nil
}

// ready waits for a checkpoint that can be shown and for the index of duplicates.
func (l *Log) ready(ctx context.Context, reader tessera.LogReader) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+l.cfg.every)
	defer cancel()
	size, err := reader.IntegratedSize(ctx)
	if err != nil {
		return err
	}
	// A writer may have died after it signed a tree that is in the storage and before it
	// published that. A tree that is not there does not come back by waiting.
	if r := l.remembered; r != nil && size < uint64(r.Size) {
		err := fmt.Errorf("%s has a tree of %d entries, and %s says that %d were signed: entries are missing", l.opened.name, size, l.cfg.Newest, r.Size)
		l.fail(err)
		return err
	}
	if _, err := l.covering(ctx, -1); err != nil {
		return fmt.Errorf("%s shows no checkpoint of this log: %w", l.opened.name, err)
	}
	if size, err = reader.IntegratedSize(ctx); err != nil {
		return err
	}
	index := l.opened.antispam.Follower(nil)
	for {
		n, err := index.EntriesProcessed(ctx)
		if l.Err() != nil {
			return l.Err()
		}
		if err == nil && n >= size {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the index of duplicates knows %d of %d entries after a minute: start again, it goes on where it is", n, size)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// poll follows the published checkpoint.
func (l *Log) poll(ctx context.Context) {
	var last string
	for {
		c, err := readCheckpoint(ctx, l.known, l.source)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && c != nil && string(c.Note) != last:
			if err = l.advance(ctx, c); err == nil {
				last = string(c.Note)
			}
		}
		// A checkpoint of somebody else does not become one of ours by waiting.
		var stranger *translog.Refusal
		if errors.As(err, new(*forkError)) || errors.As(err, new(unfoundedError)) || errors.As(err, &stranger) && stranger.Code == translog.CodeProofBad {
			l.fail(err)
			return
		}
		l.mu.Lock()
		if err == nil {
			l.heard = time.Now()
		}
		l.mu.Unlock()
		wait := pollEvery[l.cfg.Storage.Driver]
		if err != nil {
			l.source.forget() // what was kept may be what is wrong
			l.log.Warn("the storage's checkpoint cannot be followed", "error", err)
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// errBehind is of a checkpoint that is older than one that was signed here: of a writer
// that died before it published.
var errBehind = errors.New("a newer one was signed and is not published yet")

// advance makes a checkpoint the one that is shown, if it extends what was shown, by
// this process or one before it.
func (l *Log) advance(ctx context.Context, c *translog.Checkpoint) error {
	next := translog.NewView(c, l.source, nil)
	l.mu.Lock()
	before := []*translog.Checkpoint{l.remembered, l.guard.floor}
	first := l.view == nil
	if !first {
		before = []*translog.Checkpoint{l.view.Checkpoint}
	}
	l.mu.Unlock()
	if first {
		if err := l.guard.founded(l.remembered, c, c.Size); err != nil {
			return err
		}
		if r := l.remembered; r != nil && c.Size < r.Size {
			return errBehind
		}
	}
	for _, b := range before {
		if b == nil {
			continue
		}
		if err := extends(ctx, b, next); err != nil {
			return err
		}
	}
	if c.Size > 0 { // the tiles that all proofs of what is new need, read once
		if _, err := next.ProveEntry(ctx, c.Size-1); err != nil {
			return err
		}
	}
	err := l.guard.memory.hold(func(newest *translog.Checkpoint) (*translog.Checkpoint, error) {
		switch {
		case newest == nil || newest.Size > c.Size: // an older one of what was signed since is as good to show
			return c, nil
		case newest.Size == c.Size && newest.Root != c.Root:
			return nil, &forkError{newest, c, "its entries are others"}
		}
		return c, extends(ctx, newest, next)
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.view = next
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
	return nil
}

// fail stops the log: a fork is tried, or what the storage holds is not what was signed.
func (l *Log) fail(err error) {
	l.mu.Lock()
	first := l.failure == nil
	if first {
		l.failure = fmt.Errorf("the log has stopped: %w", err)
		close(l.moved)
		l.moved = make(chan struct{})
	}
	l.mu.Unlock()
	if first {
		l.cancel() // Tessera would try again, many times a second
		l.log.Error("the log has stopped", "error", err)
	}
}

// covering is a view that covers the entry at index, waiting for it.
func (l *Log) covering(ctx context.Context, index int64) (*translog.View, error) {
	for {
		l.mu.Lock()
		view, moved, err := l.view, l.moved, l.failure
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if view != nil && view.Size() > index {
			return view, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-moved:
		}
	}
}

// KeyID is the logId of entries.
func (l *Log) KeyID() []byte {
	id := l.signer.KeyID()
	return id[:]
}

var errBusy = errors.New("too many entries are under way")

// Write integrates a canonical entry, or finds it. A client that goes away does not
// take back what the storage was given: others may wait for the same entry.
func (l *Log) Write(ctx context.Context, entry []byte) (tlog.Receipt, error) {
	if err := l.Err(); err != nil {
		return tlog.Receipt{}, err
	}
	select {
	case l.writing <- struct{}{}:
	default:
		return tlog.Receipt{}, errBusy
	}
	type answer struct {
		index tessera.Index
		err   error
	}
	done := make(chan answer, 1)
	adding, added := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	go func() {
		defer func() { <-l.writing }()
		defer added()
		index, err := l.add(adding, tessera.NewEntry(entry))()
		done <- answer{index, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		return tlog.Receipt{}, ctx.Err()
	}
	if a.err != nil {
		return tlog.Receipt{}, a.err
	}
	r, err := l.receipt(ctx, int64(a.index.Index), entry)
	if err == nil && a.index.IsDup {
		l.doubles.Add(1)
	} else if err == nil {
		l.added.Add(1)
	}
	return r, err
}

// receipt waits for a checkpoint and proves the entry to it. What does not prove is
// not acknowledged, whatever the storage says.
func (l *Log) receipt(ctx context.Context, index int64, entry []byte) (tlog.Receipt, error) {
	view, err := l.covering(ctx, index)
	if err != nil {
		return tlog.Receipt{}, err
	}
	c := view.Checkpoint
	proof, err := view.ProveEntry(ctx, index)
	if err != nil {
		return tlog.Receipt{}, err
	}
	if err := sumtlog.CheckRecord(proof, c.Size, c.Root, index, sumtlog.RecordHash(entry)); err != nil {
		return tlog.Receipt{}, fmt.Errorf("the storage has another entry at %d than the one that it took: %w", index, err)
	}
	return tlog.Receipt{Index: index, Size: c.Size, Root: c.Root, Proof: proof, Checkpoint: c.Note}, nil
}

// Checkpoint is the published checkpoint. OpenLog returns with one.
func (l *Log) Checkpoint() []byte { return l.current().Checkpoint.Note }

func (l *Log) current() *translog.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}

// Tile is a tile of exactly the width asked for; entries are compared with the root.
func (l *Log) Tile(ctx context.Context, tile sumtlog.Tile) ([]byte, error) {
	view := l.current()
	level := max(tile.L, 0)
	if level > 7 {
		return nil, nil // 2^64 entries
	}
	have := view.Size() >> (8 * level)
	if tile.N > have/translog.Width || tile.N*translog.Width+int64(tile.W) > have {
		return nil, nil
	}
	if tile.L < 0 {
		entries, err := view.Bundle(ctx, tile.N)
		if err != nil {
			return nil, err
		}
		var data []byte
		for _, e := range entries[:tile.W] {
			data = append(binary.BigEndian.AppendUint16(data, uint16(len(e))), e...)
		}
		return data, nil
	}
	// The storage has the tile as wide as it is at the checkpoint, which begins with what
	// was asked for.
	width := min(translog.Width, have-tile.N*translog.Width)
	data, err := l.source.reader.ReadTile(ctx, uint64(tile.L), uint64(tile.N), uint8(width%translog.Width))
	if err != nil {
		return nil, err
	}
	if len(data) < tile.W*sumtlog.HashSize {
		return nil, fmt.Errorf("tile %d of level %d is shorter than it was", tile.N, tile.L)
	}
	return data[:tile.W*sumtlog.HashSize], nil
}

// Refuse answers a request that ended in an error. The cause, which names paths and
// hosts, is in our log.
func (l *Log) Refuse(w http.ResponseWriter, err error) {
	l.refused.Add(1)
	w.Header().Set("Retry-After", "1")
	switch {
	case errors.Is(err, context.Canceled):
		tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeCanceled, "the request ended before the entry was integrated")
	case errors.Is(err, context.DeadlineExceeded):
		tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeUnavailable, "the log's storage did not answer in time: send it again")
	case errors.Is(err, tessera.ErrPushback), errors.Is(err, errBusy):
		tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeUnavailable, "the log has more entries under way than it takes: send it again later")
	case l.Err() != nil:
		tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeUnavailable, "the log has stopped; its operator must look at it")
	default:
		l.log.Warn("an answer failed", "error", err)
		tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeUnavailable, "the log's storage did not do it: send it again")
	}
}

// Err says why the log answers no more, nil while it does.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// Healthy says why the log is not well, nil when it is.
func (l *Log) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return l.failure
	}
	if silent := time.Since(l.heard); silent > staleAfter {
		return fmt.Errorf("the storage has not answered for %s", silent.Round(time.Second))
	}
	return nil
}

// Close waits for what was given to the storage and ends.
func (l *Log) Close() error {
	err := l.shutdown(context.Background())
	l.cancel()
	l.polled.Wait()
	return errors.Join(err, l.opened.close())
}
