package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/hallmark-dev/hallmark/internal/authority/folder"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// migrationWorkers is how many bundles are copied at a time.
const migrationWorkers = 4

// repairEvery is how often what a migration writes is put right.
const repairEvery = 300 * time.Millisecond

// origin is a log that is migrated, at one checkpoint.
type origin struct {
	name       string
	checkpoint *translog.Checkpoint
	// bundle is the raw bundle n with its first w entries, or with more.
	bundle func(ctx context.Context, n int64, w int) ([]byte, error)
	close  func() error
}

// Migrate copies a log into the storage of a configuration, tree and all: the same
// entries at the same indices, hence the same root, which is compared with the one
// that the log's own key signed. That checkpoint is then written to the file that the
// configuration names as extends, and nothing is ever signed that does not extend it.
//
// from is a URL, or the folder of a log: one in the layout of tlog-tiles, or log/ in a
// data folder of hallmark up. What was copied is not copied again, so that the last call,
// for which the log must stand still, is short: it waits until nobody writes to the folder
// any more, and keeps others from it. A copy of a log that is running (running) may lack
// entries that are acknowledged meanwhile: nothing can go on from it, and no checkpoint to
// go on from is written.
func Migrate(ctx context.Context, cfg *Config, from string, running bool, log *slog.Logger) (_ *translog.Checkpoint, err error) {
	if cfg.Extends == "" {
		return nil, errors.New("the configuration names no file as extends: migrate writes the checkpoint there that the log goes on from")
	}
	known, err := translog.NewLog(cfg.Origin, cfg.key.Public())
	if err != nil {
		return nil, err
	}
	release, err := holdOrigin(ctx, from, running, log)
	if err != nil {
		return nil, fmt.Errorf("the log to migrate: %w", err)
	}
	defer release()
	src, err := openOrigin(ctx, from, known)
	if err != nil {
		return nil, fmt.Errorf("the log to migrate: %w", err)
	}
	defer func() { err = errors.Join(err, src.close()) }()
	o, err := openStorage(ctx, &cfg.Storage)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if o.source != nil {
		if c, err := readCheckpoint(ctx, known, o.source); err != nil {
			return nil, err
		} else if c != nil {
			return nil, fmt.Errorf("%s is a log already, with %d entries under a checkpoint: migrate fills one that has none", o.name, c.Size)
		}
	}
	c := src.checkpoint
	index := o.antispam
	if o.sizeless {
		index = sizedIndex{index, uint64(c.Size)}
	}
	target, err := tessera.NewMigrationTarget(ctx, o.driver, tessera.NewMigrationOptions().WithAntispam(index))
	if err != nil {
		return nil, err
	}
	m, err := openMemory(cfg.Newest, known)
	if err != nil {
		return nil, err
	}
	if n := m.newest(); n != nil && (c.Size < n.Size || c.Size == n.Size && c.Root != n.Root) {
		return nil, fmt.Errorf("the log to migrate: %w", &forkError{n, c, fmt.Sprintf("%s remembers what was signed since, so it is not the newest copy of the log", cfg.Newest)})
	}
	log.Info("migrating", "from", src.name, "to", o.name, "entries", c.Size)
	if c.Size > 0 {
		stop := o.keepRepairing(ctx, log)
		err := target.Migrate(ctx, migrationWorkers, uint64(c.Size), c.Root[:], func(ctx context.Context, n uint64, p uint8) ([]byte, error) {
			w := int(p)
			if w == 0 {
				w = layout.EntryBundleWidth
			}
			data, err := src.bundle(ctx, int64(n), w)
			if err != nil {
				return nil, err
			}
			return cut(data, w)
		})
		if err := errors.Join(err, stop()); err != nil {
			return nil, fmt.Errorf("nothing is signed: %w", err)
		}
	}
	if running {
		return c, nil
	}
	return c, durable.WriteFile(cfg.Extends, c.Note, 0o644)
}

// sizedIndex is an index of duplicates that follows a migration whose reader does not know
// how large the log is: it will have so many entries. Those that are not there yet are
// looked for again.
type sizedIndex struct {
	tessera.Antispam
	size uint64
}

func (s sizedIndex) Follower(hash func([]byte) ([][]byte, error)) tessera.Follower {
	return sizedFollower{s.Antispam.Follower(hash), s.size}
}

type sizedFollower struct {
	tessera.Follower
	size uint64
}

func (f sizedFollower) Follow(ctx context.Context, r tessera.LogReader) {
	f.Follower.Follow(ctx, sizedReader{r, f.size})
}

type sizedReader struct {
	tessera.LogReader
	size uint64
}

func (r sizedReader) IntegratedSize(context.Context) (uint64, error) { return r.size, nil }

// holdWait is how long who writes to a folder may take to end: hallmark up lets requests
// under way finish.
const holdWait = 2 * time.Minute

// holdOrigin keeps writers from the folder that a log is taken from, until release is
// called; it waits for one that is ending. From a folder whose log has moved on nothing is
// taken: it would be a fork.
func holdOrigin(ctx context.Context, from string, running bool, log *slog.Logger) (release func(), err error) {
	release = func() {}
	if u, err := url.Parse(from); err == nil && u.Host != "" {
		return release, nil
	}
	data := folder.Of(from)
	if data != "" {
		if err := notMoved(data); err != nil {
			return nil, err
		}
	}
	lock := func() (*os.File, error) { return nil, nil }
	if data != "" {
		lock = func() (*os.File, error) { return folder.Lock(data) }
	} else if _, err := os.Stat(filepath.Join(from, writerLock)); err == nil {
		lock = func() (*os.File, error) { return lockWriter(from) }
	}
	if running {
		return release, nil
	}
	said := false
	for deadline := time.Now().Add(holdWait); ; {
		held, err := lock()
		var used *folder.InUseError
		if err == nil {
			if held != nil {
				release = func() { _ = held.Close() }
			}
			if data != "" { // as it is under the lock
				if err := notMoved(data); err != nil {
					release()
					return nil, err
				}
			}
			return release, nil
		}
		if !errors.As(err, &used) && !errors.Is(err, errInUse) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: stop it, or copy what is there so far with --while-running", err)
		}
		if !said {
			log.Info("waiting until nobody writes to the log any more", "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func notMoved(data string) error {
	at, err := folder.LogMoved(data)
	if err == nil && at != "" {
		err = fmt.Errorf("the log of %s is written to at %s since it was moved there: take it over from there", data, at)
	}
	return err
}

// keepRepairing calls repair while a migration runs, whose own readers need it, and
// once more at the end.
func (o *opened) keepRepairing(ctx context.Context, log *slog.Logger) (stop func() error) {
	if o.repair == nil {
		return func() error { return nil }
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-running.Done():
				return
			case <-time.After(repairEvery):
			}
			if err := o.repair(running); err != nil && running.Err() == nil {
				log.Warn("putting right what the migration wrote", "error", err)
			}
		}
	}()
	return func() error {
		cancel()
		<-done
		return o.repair(ctx)
	}
}

// cut is the first w entries of a raw bundle.
func cut(data []byte, w int) ([]byte, error) {
	end := 0
	for range w {
		if len(data)-end < 2 {
			return nil, errors.New("a bundle has fewer entries than its name says")
		}
		end += 2 + int(binary.BigEndian.Uint16(data[end:]))
		if end > len(data) {
			return nil, errors.New("a bundle ends in the middle of an entry")
		}
	}
	return data[:end], nil
}

func openOrigin(ctx context.Context, from string, known translog.Log) (*origin, error) {
	if u, err := url.Parse(from); err == nil && u.Host != "" {
		s, err := translog.HTTPSource(ctx, from, translog.HTTPOptions{UserAgent: "hallmark-log"})
		if err != nil {
			return nil, err
		}
		return tiledOrigin(ctx, s, known)
	}
	s := translog.DirSource(from)
	if _, err := s.Get(ctx, "checkpoint", translog.MaxCheckpoint); err == nil {
		return tiledOrigin(ctx, s, known)
	}
	return snapshotOrigin(from, known)
}

// tiledOrigin is a log that is read by its tiles.
func tiledOrigin(ctx context.Context, s translog.Source, known translog.Log) (*origin, error) {
	c, err := readCheckpoint(ctx, known, s)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("%s has no checkpoint", s.Name())
	}
	view := translog.NewView(c, s, nil)
	return &origin{name: s.Name(), checkpoint: c, close: func() error { return nil },
		bundle: func(ctx context.Context, n int64, _ int) ([]byte, error) {
			entries, err := view.Bundle(ctx, n) // compared with the signed root
			if err != nil {
				return nil, err
			}
			var data []byte
			for _, e := range entries {
				data = append(binary.BigEndian.AppendUint16(data, uint16(len(e))), e...)
			}
			return data, nil
		}}, nil
}

// snapshotOrigin is log/ in a data folder. Its entries are one file, whose bundles are
// found by going through it once.
func snapshotOrigin(dir string, known translog.Log) (*origin, error) {
	s, err := tlog.OpenSnapshot(dir)
	if err != nil {
		return nil, err
	}
	o, err := originOf(s, dir, known)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return o, nil
}

func originOf(s *tlog.Snapshot, dir string, known translog.Log) (*origin, error) {
	note, err := s.Checkpoint(dir)
	if err != nil {
		return nil, err
	}
	c, err := known.ParseCheckpoint(note, time.Now())
	if err != nil {
		return nil, fmt.Errorf("the checkpoint in %s: %w", dir, err)
	}
	starts, err := bundleStarts(io.NewSectionReader(s, 0, s.Size), c.Size)
	if err != nil {
		return nil, fmt.Errorf("the entries in %s: %w", dir, err)
	}
	return &origin{name: dir, checkpoint: c, close: s.Close,
		bundle: func(_ context.Context, n int64, _ int) ([]byte, error) {
			data := make([]byte, starts[n+1]-starts[n])
			_, err := s.ReadAt(data, starts[n])
			return data, err
		}}, nil
}

// bundleStarts is where each bundle of so many entries starts in the concatenation of
// them, and where the last one ends.
func bundleStarts(r io.Reader, entries int64) ([]int64, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	starts := []int64{0}
	var at int64
	for i := range entries {
		var length [2]byte
		if _, err := io.ReadFull(b, length[:]); err != nil {
			return nil, fmt.Errorf("entry %d is cut off", i)
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if _, err := b.Discard(n); err != nil {
			return nil, fmt.Errorf("entry %d is cut off", i)
		}
		at += 2 + int64(n)
		if (i+1)%translog.Width == 0 || i+1 == entries {
			starts = append(starts, at)
		}
	}
	return starts, nil
}
