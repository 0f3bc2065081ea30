package tlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the log at one size. It never changes once it is published. In memory are
// only its peaks; every other hash is read from disk and, before it says anything to
// anyone, followed up to a peak.
type tree struct {
	n, end int64 // entries, and the bytes of the entries file that they take
	// peaks are the roots of the complete subtrees that n entries fall into, the
	// largest first (RFC 9162, 2.1.1). They give root, which is signed.
	peaks     []tlog.Hash
	times     times
	timesSeal string // what the sealed file says of them
	root      tlog.Hash
	note      []byte // the signed checkpoint
	data      *derived
}

var _ tlog.HashReader = (*tree)(nil)

func (t *tree) size() int64  { return t.n }
func (t *tree) bytes() int64 { return t.end }

// grown is what a tree's growth adds to the files that are derived.
type grown struct {
	hashes  []byte // in package tlog's order of stored hashes
	offsets []byte // where each entry ends
}

// extend is the tree with more leaves, whose entries have the given lengths.
// It has no note yet.
func (t *tree) extend(leaves []tlog.Hash, lengths []int) (*tree, grown) {
	n := *t
	n.note = nil
	n.peaks = append(make([]tlog.Hash, 0, len(t.peaks)+bits.Len(uint(len(leaves)))), t.peaks...)
	g := grown{make([]byte, 0, 2*len(leaves)*tlog.HashSize), make([]byte, 0, len(leaves)*offsetSize)}
	for i, h := range leaves {
		g.hashes = append(g.hashes, h[:]...)
		for k := n.n; k&1 == 1; k >>= 1 {
			last := len(n.peaks) - 1
			h = tlog.NodeHash(n.peaks[last], h)
			n.peaks = n.peaks[:last]
			g.hashes = append(g.hashes, h[:]...)
		}
		n.peaks = append(n.peaks, h)
		n.n++
		n.end += 2 + int64(lengths[i])
		g.offsets = binary.BigEndian.AppendUint64(g.offsets, uint64(n.end))
	}
	n.root = n.fold()
	return &n, g
}

// fold is the root.
func (t *tree) fold() tlog.Hash {
	if len(t.peaks) == 0 {
		h, _ := tlog.TreeHash(0, nil) // needs no reader
		return h
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.peaks[i], h)
	}
	return h
}

// with is the same tree with cosignature lines added to its checkpoint.
func (t *tree) with(lines []byte) *tree {
	n := *t
	n.note = append(t.note[:len(t.note):len(t.note)], lines...)
	return &n
}

// peak is the hash at a place of the tree if it is one of the peaks.
func (t *tree) peak(level int, n int64) (tlog.Hash, bool) {
	// It is one when n is where the entries of its level end and the size has that bit.
	if level >= 63 || t.n>>level&1 == 0 || n != t.n>>level-1 {
		return tlog.Hash{}, false
	}
	return t.peaks[bits.OnesCount64(uint64(t.n>>(level+1)))], true
}

// ReadHashes answers package tlog's proof builders. What is no peak is as the disk
// has it: who uses it checks what comes of it.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	var at []int     // of out
	var want []int64 // what is read
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if n >= t.n>>level {
			return nil, errors.New("the log has no such hash")
		}
		if h, ok := t.peak(level, n); ok {
			out[i] = h
		} else {
			at, want = append(at, i), append(want, index)
		}
	}
	if len(want) == 0 {
		return out, nil
	}
	read, err := t.data.read(want)
	if err != nil {
		return nil, err
	}
	for i, h := range read {
		out[at[i]] = h
	}
	return out, nil
}

// leads follows a hash up to a peak and says whether it, with those beside its way, is
// what the root covers.
func (t *tree) leads(level int, n int64, h tlog.Hash) (bool, error) {
	for {
		if want, ok := t.peak(level, n); ok {
			return h == want, nil
		}
		beside, err := t.ReadHashes([]int64{tlog.StoredHashIndex(level, n^1)})
		if err != nil {
			return false, err
		}
		if n&1 == 0 {
			h = tlog.NodeHash(h, beside[0])
		} else {
			h = tlog.NodeHash(beside[0], h)
		}
		level, n = level+1, n>>1
	}
}

// allLead says so of the hashes from first on, which is where a tile begins.
func (t *tree) allLead(level int, first int64, hashes []tlog.Hash) (bool, error) {
	for len(hashes) > 0 {
		up := bits.Len(uint(len(hashes))) - 1
		if ok, err := t.leads(level+up, first>>up, root(hashes[:1<<up])); !ok || err != nil {
			return false, err
		}
		hashes, first = hashes[1<<up:], first+1<<up
	}
	return true, nil
}

// covered is the error about hashes of which leads or allLead said this.
func (t *tree) covered(ok bool, err error) error {
	if err == nil && !ok {
		err = t.data.notCovered()
	}
	return err
}

// root is that of a complete subtree. hashes are not kept.
func root(hashes []tlog.Hash) tlog.Hash {
	level := append([]tlog.Hash(nil), hashes...)
	for len(level) > 1 {
		for i := range len(level) / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0]
}

// leaf is the hash of an entry (RFC 9162, 2.1.1).
func (t *tree) leaf(index int64) (tlog.Hash, error) {
	h, err := t.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return tlog.Hash{}, err
	}
	return h[0], t.covered(t.leads(0, index, h[0]))
}

// inclusion proves that the entry at index is in the tree (RFC 9162, 2.1.3).
func (t *tree) inclusion(index int64) (tlog.RecordProof, error) {
	leaf, err := t.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return nil, err
	}
	p, err := tlog.ProveRecord(t.n, index, t)
	if err != nil {
		return nil, err
	}
	if tlog.CheckRecord(p, t.n, t.root, index, leaf[0]) != nil {
		return nil, t.data.notCovered()
	}
	return p, nil
}

// consistency proves that the tree of size to extends that of size from (RFC 9162,
// 2.1.4); 1 ≤ from ≤ to ≤ size.
func (t *tree) consistency(from, to int64) (tlog.TreeProof, error) {
	last, err := t.rootAt(to)
	if err != nil {
		return nil, err
	}
	p, first, err := t.prove(from, to)
	if err != nil {
		return nil, err
	}
	if tlog.CheckTree(p, to, last, from, first) != nil {
		return nil, t.data.notCovered()
	}
	return p, nil
}

// rootAt is the root when the log had n entries.
func (t *tree) rootAt(n int64) (tlog.Hash, error) {
	if n == t.n {
		return t.root, nil
	} else if n == 0 {
		return tlog.TreeHash(0, t)
	}
	p, h, err := t.prove(n, t.n)
	if err == nil && tlog.CheckTree(p, t.n, t.root, n, h) != nil {
		err = t.data.notCovered()
	}
	return h, err
}

// prove is a consistency proof and the root at from, neither of them checked.
func (t *tree) prove(from, to int64) (tlog.TreeProof, tlog.Hash, error) {
	h, err := tlog.TreeHash(from, t)
	if err != nil {
		return nil, h, err
	}
	p, err := tlog.ProveTree(to, from, t)
	return p, h, err
}

// has tells whether every hash or entry of the tile exists: W of them at least.
func (t *tree) has(tile tlog.Tile) bool {
	level := max(tile.L, 0) * tileHeight
	if level >= 63 {
		return false
	}
	// Divided, not multiplied: N comes from a request.
	have := t.n >> level
	return tile.N <= have/tileWidth && tile.N*tileWidth+int64(tile.W) <= have
}

// tile is the content of a hash tile that has says exists: its W hashes.
func (t *tree) tile(tile tlog.Tile) ([]byte, error) {
	level, first := tile.L*tileHeight, tile.N*tileWidth
	indexes := make([]int64, tile.W)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(level, first+int64(i))
	}
	hashes, err := t.ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	if err := t.covered(t.allLead(level, first, hashes)); err != nil {
		return nil, err
	}
	out := make([]byte, 0, tile.W*tlog.HashSize)
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out, nil
}

// find is the index of the entry with a leaf hash, false when the tree has none.
func (t *tree) find(leaf tlog.Hash) (int64, bool, error) {
	candidates, err := t.data.index.Find(indexKey(leaf))
	if err != nil {
		return 0, false, err
	}
	for _, c := range candidates {
		index := int64(c)
		if index >= t.n { // added since
			continue
		}
		h, err := t.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return 0, false, err
		}
		if h[0] == leaf {
			return index, true, nil
		}
		// 96 bits are not shared by chance: more likely what the disk has is damaged.
		if err := t.covered(t.leads(0, index, h[0])); err != nil {
			return 0, false, err
		}
	}
	return 0, false, nil
}

// bundle is the W entries of a full or partial bundle, exactly as stored.
func (t *tree) bundle(s *store, tile tlog.Tile) ([]byte, error) {
	first := tile.N * tileWidth
	data, err := t.entries(s, first, first+int64(tile.W))
	if err != nil {
		return nil, err
	}
	records, used := split(data)
	if len(records) != tile.W || used != len(data) {
		return nil, s.damaged("its entries are not what was written")
	}
	hashes := make([]tlog.Hash, len(records))
	for i, r := range records {
		hashes[i] = tlog.RecordHash(r)
	}
	ok, err := t.allLead(0, first, hashes)
	if err == nil && !ok {
		if _, err = t.tile(tlog.Tile{H: tileHeight, N: tile.N, W: tile.W}); err == nil { // else it is not the entries
			err = s.damaged(fmt.Sprintf("one of the entries from %d to %d is not what was written", first, first+int64(tile.W)-1))
		}
	}
	return data, err
}

// entries is the bytes of the entries from first up to last, without last.
func (t *tree) entries(s *store, first, last int64) ([]byte, error) {
	start, end, err := t.data.span(first, last)
	if err != nil {
		return nil, err
	}
	if start < 0 || end < start || end > t.end || end-start > (last-first)*(2+maxEntry) {
		return nil, t.data.notCovered()
	}
	data := make([]byte, end-start)
	return data, s.readEntries(data, start)
}
