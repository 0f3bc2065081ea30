package translog

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Mirrored is what a call of [Mirror] did.
type Mirrored struct {
	*Checkpoint
	Fetched int64 // bundles that were not there yet
	Kept    int64 // bundles that were
}

// Mirror brings a folder, which is a mirror of the log, to what the log has: each
// bundle and tile is verified under the checkpoint before it is written, and the
// checkpoint comes last, so that whoever is served the folder's files at any time
// finds what its checkpoint promises. A call that was interrupted is taken up where
// it stopped. progress is called with the number of entries that are there.
func Mirror(ctx context.Context, f *Folder, source Source, progress func(done, size int64)) (*Mirrored, error) {
	unlock, err := f.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, last, err := f.fetch(ctx, source)
	if err != nil {
		return nil, err
	}
	m := &mirror{view: NewView(c, source, &Cache{dir: f.dir, sync: true}), done: &Mirrored{Checkpoint: c}}
	if err := m.bundles(ctx, progress); err != nil {
		return nil, err
	}
	if err := m.tiles(ctx); err != nil {
		return nil, err
	}
	if err := f.remember(c, last); err != nil {
		return nil, err
	}
	return m.done, nil
}

type mirror struct {
	view *View // what it reads and finds good, it writes
	done *Mirrored
}

// bundles writes the entry bundles. One that is there is read and verified again:
// a mirror must not pass on what rotted.
func (m *mirror) bundles(ctx context.Context, progress func(done, size int64)) error {
	v, size := m.view, m.view.Size()
	type one struct {
		n      int64
		raw    []byte
		cached bool
	}
	return scan(ctx, v, 0, size, true, func(n int64, l loaded) (one, error) {
		return one{n, l.raw, l.cached}, nil
	}, func(b one) error {
		if b.cached {
			m.done.Kept++
		} else {
			m.done.Fetched++
		}
		if t := v.bundleTile(b.n); t.W < Width {
			v.cache.write(tilePath(t), b.raw)
		}
		if progress != nil {
			progress(min((b.n+1)*Width, size), size)
		}
		return v.cache.failed()
	})
}

// tiles writes the tiles of hashes at the view's size, full and partial.
func (m *mirror) tiles(ctx context.Context) error {
	return eachTile(m.view.Size(), func(t tlog.Tile) error {
		// Reading a full one puts it into the cache, or finds it there and good.
		data, err := tlog.ReadTileData(t, m.view.hashes(ctx))
		if err != nil {
			return err
		}
		if t.W < Width {
			m.view.cache.write(tilePath(t), data)
		}
		return m.view.cache.failed()
	})
}

// failed is the first write that failed.
func (c *Cache) failed() error {
	if err := c.errs.Load(); err != nil {
		return fmt.Errorf("writing the copy of the log: %w", *err)
	}
	return nil
}
