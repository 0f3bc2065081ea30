package tlog

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the log at one size. It never changes once it is published, although
// its slices share memory with later trees: those only write behind its ends.
type tree struct {
	// levels[k][i] is the root of the i-th complete subtree of 2^k entries.
	levels [][]tlog.Hash
	// offsets[i] is where entry i's length starts in the entries file; the last
	// element is where the next entry will start.
	offsets []int64
	// times[i] is the Unix second of entry i's integration; empty unless the log
	// is timed. timesSeal is what the sealed file says of them.
	times     []int64
	timesSeal string
	root      tlog.Hash
	note      []byte // the signed checkpoint
}

var _ tlog.HashReader = (*tree)(nil)

func emptyTree() *tree { return &tree{levels: make([][]tlog.Hash, 1), offsets: []int64{0}} }

func (t *tree) size() int64         { return int64(len(t.levels[0])) }
func (t *tree) bytes() int64        { return t.offsets[len(t.offsets)-1] }
func (t *tree) leaves() []tlog.Hash { return t.levels[0] }

// extend is the tree with more leaves, whose entries have the given lengths.
// It has neither root nor note yet.
func (t *tree) extend(leaves []tlog.Hash, lengths []int) *tree {
	n := &tree{levels: append([][]tlog.Hash(nil), t.levels...), offsets: t.offsets, times: t.times, timesSeal: t.timesSeal}
	for i, leaf := range leaves {
		n.offsets = append(n.offsets, n.bytes()+2+int64(lengths[i]))
		n.add(leaf)
	}
	return n
}

func (t *tree) add(leaf tlog.Hash) {
	t.levels[0] = append(t.levels[0], leaf)
	for k := 0; len(t.levels[k])%2 == 0; k++ {
		if k+1 == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		pair := t.levels[k][len(t.levels[k])-2:]
		t.levels[k+1] = append(t.levels[k+1], tlog.NodeHash(pair[0], pair[1]))
	}
}

// ReadHashes answers package tlog's proof builders.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if level >= len(t.levels) || n >= int64(len(t.levels[level])) {
			return nil, fmt.Errorf("the log has no hash %d at level %d", n, level)
		}
		out[i] = t.levels[level][n]
	}
	return out, nil
}

// has tells whether every hash or entry of the tile exists: W of them at least.
func (t *tree) has(tile tlog.Tile) bool {
	level := max(tile.L, 0) * tileHeight
	if level >= len(t.levels) {
		return false
	}
	// Divided, not multiplied: N comes from a request.
	have := int64(len(t.levels[level]))
	return tile.N <= have/tileWidth && tile.N*tileWidth+int64(tile.W) <= have
}

// tile is the content of a hash tile that has says exists: its W hashes.
func (t *tree) tile(tile tlog.Tile) []byte {
	start := tile.N * tileWidth
	out := make([]byte, 0, tile.W*tlog.HashSize)
	for _, h := range t.levels[tile.L*tileHeight][start : start+int64(tile.W)] {
		out = append(out, h[:]...)
	}
	return out
}
