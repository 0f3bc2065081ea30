package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// A disk that is full is not the end of a log. A write that found no room has an effect
// that is known, and nobody was told of what it was to be part of:
//
//   - of entries, times and what is derived of them, all files are cut to the length that
//     the published tree has, and their ends are read back and followed up to its root;
//   - of a checkpoint, the one before is still there. Its tree has been signed: it stays
//     on disk and in memory, and is published before anything else is written, so that of
//     each size one tree is ever signed;
//   - of the index, what there was no room for stays in memory.
//
// A sync that failed is not such a write, whatever its reason: the kernel may have
// dropped what it said it had, of this file's pages or of others. Then the log stops, and only
// reading everything again at Open can tell.

// RoomError is a disk without room. Nothing of what was to be written is in the log, or it is
// and will be found there, once, by who submits it again.
type RoomError struct{ Err error }

func (e *RoomError) Error() string { return fmt.Sprintf("the log's disk is full: %v", e.Err) }
func (e *RoomError) Unwrap() error { return e.Err }

// What a client is told then; the cause, which names paths, is in our log.
const (
	DiskFull       = "the transparency log's disk is full; the same request can be made again when there is room"
	FullRetryAfter = "10" // seconds
)

// takeBack makes the files what they were when old was published, because there was no
// room for what was to come behind. What it returns is a *RoomError only when that is certain.
func (l *Log) takeBack(old *tree, why error) error {
	if err := l.disk.undo(old); err != nil {
		return fmt.Errorf("there was no room (%w), and what had been written could not be taken back: %w", why, err)
	}
	return &RoomError{why}
}

// undo is disk's.
func (s *store) undo(t *tree) error {
	lengths := []struct {
		file *os.File
		size int64
	}{{s.entries, t.end}, {s.times, t.n * timeSize}, {s.derived.hashes, hashesSize(t.n)}, {s.derived.offsets, t.n * offsetSize}}
	for _, l := range lengths {
		if l.file == nil { // the log is not timed
			continue
		}
		if err := l.file.Truncate(l.size); err != nil {
			return err
		}
		if st, err := l.file.Stat(); err != nil {
			return err
		} else if st.Size() != l.size {
			return fmt.Errorf("%s has %d bytes instead of %d", l.file.Name(), st.Size(), l.size)
		}
	}
	return s.checkEnd(t)
}

// checkEnd reads the last entries of a tree, up to two bundles of them, with their places,
// hashes and times, and follows them up to its root.
func (s *store) checkEnd(t *tree) error {
	last := (t.n - 1) / tileWidth
	for n := max(0, last-1); n <= last && t.n > 0; n++ {
		tile := tlog.Tile{H: tileHeight, L: -1, N: n, W: int(min(t.n-n*tileWidth, tileWidth))}
		if _, err := t.bundle(s, tile); err != nil {
			return err
		}
		tile.L = 0
		if _, err := t.tile(tile); err != nil {
			return err
		}
	}
	if s.times == nil {
		return nil
	}
	if full := int64(len(t.times.pages)); full > 0 {
		if _, err := s.time(t.times, full*pageTimes-1); err != nil {
			return err
		}
	}
	tail := make([]byte, len(t.times.tail))
	if _, err := s.times.ReadAt(tail, int64(len(t.times.pages))*pageTimes*timeSize); err != nil && len(tail) > 0 {
		return err
	}
	if !bytes.Equal(tail, t.times.tail) {
		return &durable.CorruptError{Path: s.path(timesName), Why: "its last times are not what was written"}
	}
	return nil
}

// probeSize is what a disk must have room for to be called no longer full: a small commit
// with its checkpoint.
const probeSize = 64 << 10

// probe is disk's.
func (s *store) probe() error {
	f, err := os.CreateTemp(s.dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Full is why the disk had no room when something was to be written last, nil when it had.
func (l *Log) Full() error {
	if p := l.full.Load(); p != nil {
		return *p
	}
	return nil
}

func (l *Log) setFull(err error) {
	was := l.full.Load() != nil
	switch {
	case err == nil && was:
		l.full.Store(nil)
		l.cfg.Log.Info("the transparency log's disk has room again")
	case err != nil:
		l.full.Store(&err)
		if !was {
			l.cfg.Log.Error("the transparency log takes no entries until there is room on its disk", "error", err)
		}
	}
}
