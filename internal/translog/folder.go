package translog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Names in a folder.
const (
	checkpointName = "checkpoint"
	lockName       = "lock"
	evidenceDir    = "evidence"
)

// Folder is what is kept of one log: the last checkpoint that was believed, and the
// cache of tiles. The checkpoint is a signed note and needs no seal; who deletes it
// makes us forget what we saw.
type Folder struct {
	dir string
	log Log
	now func() time.Time
}

// OpenFolder opens the folder of a log, which is made if it is not there.
func OpenFolder(dir string, log Log) (*Folder, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for the log %s: %w", log.Origin, err)
	}
	return &Folder{dir: dir, log: log, now: time.Now}, nil
}

// Dir is the folder's path.
func (f *Folder) Dir() string { return f.dir }

// Log is the log that the folder is of.
func (f *Folder) Log() Log { return f.log }

// Last is the checkpoint that was believed last, nil when there was none.
func (f *Folder) Last() (*Checkpoint, error) {
	path := filepath.Join(f.dir, checkpointName)
	signed, err := dirSource(f.dir).Get(context.Background(), checkpointName, MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	log := f.log
	log.Witnesses.Quorum = 0 // it was asked for when this checkpoint was new
	c, err := log.ParseCheckpoint(signed, f.now())
	if err != nil {
		return nil, &durable.CorruptError{Path: path, Why: "it is no checkpoint of the log " + f.log.Origin + " under its key"}
	}
	return c, nil
}

// Lock takes the folder for a while, waiting for other processes. The lock ends
// with the process, however that ends.
func (f *Folder) Lock(ctx context.Context) (unlock func(), err error) {
	return LockFile(ctx, filepath.Join(f.dir, lockName))
}

// LockFile takes a lock file, waiting for other processes, until unlock.
func LockFile(ctx context.Context, path string) (unlock func(), err error) {
	l, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = unix.Flock(int(l.Fd()), unix.LOCK_UN); _ = l.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = l.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = l.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Advanced is what came of asking a log for its checkpoint.
type Advanced struct {
	*View
	// Before is the checkpoint that was believed until now, nil the first time.
	Before *Checkpoint
}

// Advance fetches the log's checkpoint, makes sure that it extends the one that was
// believed last, and remembers it. A checkpoint that does not is a Refusal, is not
// remembered, and is kept as evidence beside the one that it contradicts.
func (f *Folder) Advance(ctx context.Context, source Source) (*Advanced, error) {
	unlock, err := f.Lock(ctx) // or a slower process would take ours for a shrunken log
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Nothing goes into the cache before the checkpoint is believed.
	c, last, err := f.fetch(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := f.remember(c, last); err != nil {
		return nil, err
	}
	return &Advanced{View: NewView(c, source, NewCache(f.dir)), Before: last}, nil
}

// fetch is the log's checkpoint, which extends the one that was believed last (nil:
// none was). One that does not is kept as evidence. The folder is locked.
func (f *Folder) fetch(ctx context.Context, source Source) (c, last *Checkpoint, err error) {
	if last, err = f.Last(); err != nil {
		return nil, nil, err
	}
	signed, err := source.Get(ctx, checkpointName, MaxCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	if c, err = f.log.ParseCheckpoint(signed, f.now()); err != nil {
		if errors.As(err, new(*Refusal)) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("the checkpoint of %s: %w", source.Name(), err)
	}
	if err := f.extends(ctx, c, last, source); err != nil {
		return nil, nil, f.keepEvidence(err, c, last)
	}
	return c, last, nil
}

// remember makes c the checkpoint that is believed.
func (f *Folder) remember(c, last *Checkpoint) error {
	if last != nil && last.Same(c) {
		return nil
	}
	return durable.WriteFile(filepath.Join(f.dir, checkpointName), c.Note, 0o644)
}

// extends makes sure that c is a later state of the tree that last is of.
func (f *Folder) extends(ctx context.Context, c, last *Checkpoint, source Source) error {
	const hint = "keep both checkpoints, tell the log's operator and its witnesses, and believe nothing new of this log"
	if last == nil || last.Size == 0 {
		return nil
	}
	small, large := last, c
	if c.Size < last.Size {
		small, large = c, last
	}
	root, err := NewView(large, source, nil).RootAt(ctx, small.Size)
	if c.Size < last.Size {
		if err == nil && root != small.Root {
			return refuse(CodeForked, f.log.Origin, hint,
				"the log %s signed a tree of %d entries that is not the beginning of the %d that it signed before", f.log.Origin, c.Size, last.Size)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return refuse(CodeShrunk, f.log.Origin, "ask again, if a copy of the log may be served that is behind; else entries were taken away: ask its operator",
			"the log %s shows %d entries; it has shown %d", f.log.Origin, c.Size, last.Size)
	}
	if err != nil {
		return err
	}
	if root != small.Root {
		return refuse(CodeForked, f.log.Origin, hint,
			"the log %s signed two trees: the first %d entries of the present one are not those that it signed before", f.log.Origin, last.Size)
	}
	return nil
}

// keepEvidence writes down the two checkpoints that a refusal is about.
func (f *Folder) keepEvidence(err error, c, last *Checkpoint) error {
	var r *Refusal
	if !errors.As(err, &r) || r.Code == CodeTileBad {
		return err
	}
	dir := filepath.Join(f.dir, evidenceDir)
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return errors.Join(r, err)
	}
	for _, k := range []*Checkpoint{last, c} {
		name := fmt.Sprintf("checkpoint-%d-%x", k.Size, k.Root[:4])
		if err := durable.WriteFile(filepath.Join(dir, name), k.Note, 0o644); err != nil {
			return errors.Join(r, err)
		}
	}
	r.Message += fmt.Sprintf("; both checkpoints are kept in %s", dir)
	return r
}
