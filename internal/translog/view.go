package translog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

const (
	tileHeight = 8
	// Width is how many hashes a full tile has, and how many entries a full bundle.
	Width = 1 << tileHeight
	// MaxEntry is the most bytes of an entry: its length is a uint16.
	MaxEntry  = 1<<16 - 1
	maxBundle = Width * (2 + MaxEntry)
	// concurrency is how many requests a view has under way.
	concurrency = 16
	// maxKept bounds the tiles that a view keeps in memory: 32 MiB.
	maxKept = 4096
)

const hintTile = "keep what it serves and ask its operator; a mirror of the log may be whole"

// View is a log at one checkpoint. Everything that it returns was hashed up to the
// checkpoint's root. It may be used concurrently.
type View struct {
	Checkpoint *Checkpoint
	source     Source
	cache      *Cache // nil: none

	mu   sync.Mutex
	kept map[string][]byte // authenticated tiles of hashes, by path
}

// NewView reads the log below source at a checkpoint that was verified. cache may
// be nil.
func NewView(c *Checkpoint, source Source, cache *Cache) *View {
	return &View{Checkpoint: c, source: source, cache: cache, kept: map[string][]byte{}}
}

// Size is how many entries the view has.
func (v *View) Size() int64 { return v.Checkpoint.Size }

// RootAt is the root of the first n entries, by the view's own tree.
func (v *View) RootAt(ctx context.Context, n int64) (tlog.Hash, error) {
	switch {
	case n < 0 || n > v.Size():
		return tlog.Hash{}, fmt.Errorf("the log has %d entries, not %d", v.Size(), n)
	case n == v.Size():
		return v.Checkpoint.Root, nil
	}
	return tlog.TreeHash(n, v.hashes(ctx))
}

// Prove is the consistency proof from the tree of the first n entries.
func (v *View) Prove(ctx context.Context, n int64) (tlog.TreeProof, error) {
	if n == 0 || n == v.Size() {
		return nil, nil
	}
	return tlog.ProveTree(v.Size(), n, v.hashes(ctx))
}

// ProveEntry is the inclusion proof of an entry.
func (v *View) ProveEntry(ctx context.Context, index int64) (tlog.RecordProof, error) {
	return tlog.ProveRecord(v.Size(), index, v.hashes(ctx))
}

// hashes reads stored hashes of the tree. When what the cache has does not lead to
// the root, it is asked for again without the cache: files rot.
func (v *View) hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		cached := &tileReader{ctx: ctx, v: v, cache: v.cache}
		out, err := tlog.TileHashReader(v.tree(), cached).ReadHashes(indexes)
		if err == nil || cached.err != nil {
			return out, err
		}
		if len(cached.fromCache) > 0 {
			fresh := &tileReader{ctx: ctx, v: v}
			if out, err = tlog.TileHashReader(v.tree(), fresh).ReadHashes(indexes); err == nil || fresh.err != nil {
				return out, err
			}
		}
		return nil, refuse(CodeTileBad, v.Checkpoint.Origin, hintTile,
			"the hashes that %s serves do not lead to the root of %d entries that the log signed", v.source.Name(), v.Size())
	})
}

func (v *View) tree() tlog.Tree { return tlog.Tree{N: v.Checkpoint.Size, Hash: v.Checkpoint.Root} }

// tileReader gives tiles to package tlog, which authenticates them.
type tileReader struct {
	ctx       context.Context
	v         *View
	cache     *Cache
	fromCache map[string]bool
	err       error // why tiles could not be had, as opposed to being wrong
}

func (r *tileReader) Height() int { return tileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	r.fromCache = map[string]bool{}
	g, ctx := errgroup.WithContext(r.ctx)
	g.SetLimit(concurrency)
	for i, t := range tiles {
		path := tilePath(t)
		r.v.mu.Lock()
		out[i] = r.v.kept[path]
		r.v.mu.Unlock()
		if out[i] != nil {
			continue
		}
		if r.cache != nil {
			if out[i] = r.cache.read(path, int64(t.W)*tlog.HashSize); len(out[i]) == t.W*tlog.HashSize {
				r.fromCache[path] = true
				continue
			}
		}
		g.Go(func() (err error) {
			out[i], err = r.v.fetchTile(ctx, t)
			return err
		})
	}
	r.err = g.Wait()
	return out, r.err
}

// SaveTiles is called with tiles that are authentic.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		path := tilePath(t)
		r.v.mu.Lock()
		_, have := r.v.kept[path]
		if !have {
			if len(r.v.kept) >= maxKept {
				clear(r.v.kept)
			}
			r.v.kept[path] = data[i]
		}
		r.v.mu.Unlock()
		if !have && r.v.cache != nil && t.W == Width && !r.fromCache[path] {
			r.v.cache.write(path, data[i])
		}
	}
}

// fetchTile gets a tile of hashes.
func (v *View) fetchTile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := v.get(ctx, t, Width*tlog.HashSize)
	if err != nil {
		return nil, err
	}
	if want := t.W * tlog.HashSize; len(data) < want || len(data)%tlog.HashSize != 0 {
		return nil, fmt.Errorf("read log: %s has %d bytes where %d are to be", tilePath(t), len(data), want)
	}
	return data[:t.W*tlog.HashSize], nil
}

// get gets a tile or bundle. A partial one may be gone when the full one is there.
func (v *View) get(ctx context.Context, t tlog.Tile, limit int64) ([]byte, error) {
	data, err := v.source.Get(ctx, tilePath(t), limit)
	if t.W < Width && errors.Is(err, fs.ErrNotExist) {
		full := t
		full.W = Width
		if data, ferr := v.source.Get(ctx, tilePath(full), limit); ferr == nil || !errors.Is(ferr, fs.ErrNotExist) {
			return data, ferr
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the log's signed checkpoint says that it has more than is there: %w", err)
	}
	return data, err
}

// TilePath is a tile's path below a log's prefix (c2sp.org/tlog-tiles); level -1 are entries.
func TilePath(t tlog.Tile) string { return tilePath(t) }

// tilePath is a tile's path (c2sp.org/tlog-tiles); level -1 are entries.
func tilePath(t tlog.Tile) string {
	level := strconv.Itoa(t.L)
	if t.L < 0 {
		level = "entries"
	}
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	if t.W < Width {
		n += ".p/" + strconv.Itoa(t.W)
	}
	return "tile/" + level + "/" + n
}

// bundleTile is the bundle with an entry, as it is at the view's size.
func (v *View) bundleTile(n int64) tlog.Tile {
	return tlog.Tile{H: tileHeight, L: -1, N: n, W: int(min(Width, v.Size()-n*Width))}
}

// Entry is an entry by its index.
func (v *View) Entry(ctx context.Context, index int64) ([]byte, error) {
	if index < 0 || index >= v.Size() {
		return nil, fmt.Errorf("the log has %d entries: there is none with index %d", v.Size(), index)
	}
	b, err := v.Bundle(ctx, index/Width)
	if err != nil {
		return nil, err
	}
	return b[index%Width], nil
}

// Bundle is the entries of a bundle, in order; the last bundle may have less than 256.
func (v *View) Bundle(ctx context.Context, n int64) ([][]byte, error) {
	want, err := v.bundleHashes(ctx, n, n+1)
	if err != nil {
		return nil, err
	}
	l, err := v.bundle(ctx, n, want[0], true)
	return l.entries, err
}

// bundleHashes is what the bundles from the first up to, not including, the last
// one must hash to: the root of 256 entries, and the entries' hashes of a bundle
// that is not full. All are of one group of 256 bundles, so that one tile has them.
func (v *View) bundleHashes(ctx context.Context, first, end int64) ([][]tlog.Hash, error) {
	if first < 0 || first >= end || first*Width >= v.Size() || (end-1)*Width >= v.Size() {
		return nil, fmt.Errorf("the log has %d entries: there is no bundle %d", v.Size(), end-1)
	}
	var indexes []int64
	partial := 0
	for n := first; n < end; n++ {
		if t := v.bundleTile(n); t.W < Width {
			partial = t.W
			for i := range int64(t.W) {
				indexes = append(indexes, tlog.StoredHashIndex(0, n*Width+i))
			}
			continue
		}
		indexes = append(indexes, tlog.StoredHashIndex(tileHeight, n))
	}
	hashes, err := v.hashes(ctx).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	out := make([][]tlog.Hash, 0, end-first)
	full := len(hashes) - partial
	for i := range full {
		out = append(out, hashes[i:i+1])
	}
	if partial > 0 {
		out = append(out, hashes[full:])
	}
	return out, nil
}

// loaded is a bundle that was checked.
type loaded struct {
	entries [][]byte
	raw     []byte // the encoding of entries
	cached  bool
}

// bundle is a bundle that hashes to want, from the cache or the source. With keep
// a full one goes into the cache.
func (v *View) bundle(ctx context.Context, n int64, want []tlog.Hash, keep bool) (l loaded, err error) {
	t := v.bundleTile(n)
	path := tilePath(t)
	if v.cache != nil && t.W == Width {
		if l.raw = v.cache.read(path, maxBundle); l.raw != nil {
			if l.entries, err = checkBundle(l.raw, t.W, want); err == nil {
				l.cached = true
				return l, nil
			}
		}
	}
	if l.raw, err = v.get(ctx, t, maxBundle); err != nil {
		return loaded{}, err
	}
	if l.entries, err = checkBundle(l.raw, t.W, want); err != nil {
		return loaded{}, refuse(CodeTileBad, v.Checkpoint.Origin, hintTile,
			"%s of %s %s", strings.TrimPrefix(path, "tile/"), v.source.Name(), err)
	}
	l.raw = l.raw[:encodedLen(l.entries)] // of a full one there may be more than was asked for
	if keep && v.cache != nil && t.W == Width {
		v.cache.write(path, l.raw)
	}
	return l, nil
}

func encodedLen(entries [][]byte) int {
	n := 0
	for _, e := range entries {
		n += 2 + len(e)
	}
	return n
}

// checkBundle parses a bundle's first w entries (big-endian uint16 length, entry)
// and compares them with what they must hash to: each, or their tree.
func checkBundle(raw []byte, w int, want []tlog.Hash) ([][]byte, error) {
	entries := make([][]byte, 0, w)
	for rest := raw; len(entries) < w; {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("ends after %d of %d entries", len(entries), w)
		}
		n := 2 + int(binary.BigEndian.Uint16(rest))
		entries = append(entries, rest[2:n:n])
		rest = rest[n:]
		if len(entries) == w && w == Width && len(rest) > 0 {
			return nil, fmt.Errorf("holds more than %d entries", w)
		}
	}
	level := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		level[i] = tlog.RecordHash(e)
	}
	if w == Width {
		for len(level) > 1 {
			for i := range len(level) / 2 {
				level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
			}
			level = level[:len(level)/2]
		}
	}
	for i := range want {
		if i >= len(level) || level[i] != want[i] {
			return nil, errors.New("holds other entries than the signed root covers")
		}
	}
	return entries, nil
}
