package translog

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"
)

// Full reads everything that a log serves at a checkpoint, without the cache: each
// entry is hashed up to the signed root, and each tile of hashes is compared with
// it too, so that every proof that somebody builds from them holds. progress is
// called with how many entries were hashed.
func Full(ctx context.Context, c *Checkpoint, source Source, progress func(done, size int64)) error {
	v := NewView(c, source, nil)
	done := int64(0)
	err := Scan(ctx, v, 0, v.Size(), func(b Bundle) (int64, error) { return int64(len(b.Entries)), nil }, func(n int64) error {
		done += n
		if progress != nil {
			progress(done, v.Size())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return eachTile(v.Size(), func(t tlog.Tile) error {
		_, err := tlog.ReadTileData(t, v.hashes(ctx))
		return err
	})
}

// eachTile calls do with every tile of hashes of a tree, full and partial.
func eachTile(size int64, do func(tlog.Tile) error) error {
	for level := 0; size>>(level*tileHeight) > 0; level++ {
		count := size >> (level * tileHeight)
		for n := int64(0); n*Width < count; n++ {
			if err := do(tlog.Tile{H: tileHeight, L: level, N: n, W: int(min(Width, count-n*Width))}); err != nil {
				return err
			}
		}
	}
	return nil
}
