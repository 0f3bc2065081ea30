package tlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// What is derived of the entries lies in a folder of its own, which may be removed
// whenever nobody has the log open: it is made again.
//
//	hashes   the hash of each complete subtree, 32 bytes each, in the order in which
//	         growth makes them (package tlog's stored hashes)
//	offsets  where each entry ends in the entries file, 8 bytes each, big-endian
//	index/   which entry has a leaf hash (package postings)
//
// The index says how many entries all three cover for certain, and the root over
// those. What is behind is written without fsync and made again at Open: it is never
// believed, so it need not survive.
const (
	derivedName = "derived"
	hashesName  = "hashes"
	offsetsName = "offsets"
	indexName   = "index"
	offsetSize  = 8
)

type derived struct {
	dir             string
	hashes, offsets *os.File
	index           *postings.Map
	damaged         chan struct{} // holds one when a reader has met damage
}

func openDerived(dir string, recent int) (_ *derived, err error) {
	d := &derived{dir: filepath.Join(dir, derivedName), damaged: make(chan struct{}, 1)}
	if err := durable.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	for name, f := range map[string]**os.File{hashesName: &d.hashes, offsetsName: &d.offsets} {
		if *f, err = os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return nil, err
		}
	}
	if err := durable.SyncDir(d.dir); err != nil {
		return nil, err
	}
	d.index, err = postings.Open(filepath.Join(d.dir, indexName), postings.Options{Recent: recent})
	return d, err
}

func (d *derived) close() error {
	var errs []error
	if d.index != nil {
		errs = append(errs, d.index.Close())
	}
	for _, f := range []*os.File{d.hashes, d.offsets} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// notCovered says that a hash or an offset on disk is not what the root covers, and
// tells the committer.
func (d *derived) notCovered() error {
	select {
	case d.damaged <- struct{}{}:
	default:
	}
	return &durable.CorruptError{Path: d.dir, Why: "what it says of the entries is not what the checkpoint covers; it is made again when it is removed and the log is opened"}
}

func indexKey(leaf tlog.Hash) postings.Key { return postings.Key(leaf[:]) }

// resume is the tree of what is covered for certain, the empty one if that is not
// the beginning of a log with the given head.
func (d *derived) resume(h *head) (*tree, error) {
	n, mark := d.index.Covered()
	t, err := d.load(n, string(mark), h)
	if err != nil || t != nil {
		return t, err
	}
	if n > 0 {
		if err := d.index.Reset(); err != nil {
			return nil, err
		}
		d.index.Made() // of nothing: nobody can ask before all is added
	}
	return d.empty(), nil
}

func (d *derived) empty() *tree {
	t := &tree{data: d}
	t.root = t.fold()
	return t
}

// load is the tree of the first n entries, nil if the files do not have it.
func (d *derived) load(n int64, mark string, h *head) (*tree, error) {
	if n == 0 || n > h.size {
		return nil, nil
	}
	for f, need := range map[*os.File]int64{d.hashes: hashesSize(n), d.offsets: n * offsetSize} {
		if st, err := f.Stat(); err != nil {
			return nil, err
		} else if st.Size() < need {
			return nil, nil
		}
	}
	_, end, err := d.span(0, n)
	if err != nil {
		return nil, err
	}
	t := &tree{n: n, end: end, data: d}
	var at []int64
	for level := 62; level >= 0; level-- {
		if n>>level&1 == 1 {
			at = append(at, tlog.StoredHashIndex(level, n>>level-1))
		}
	}
	if t.peaks, err = d.read(at); err != nil {
		return nil, err
	}
	if t.root = t.fold(); string(t.root[:]) != mark || end > h.bytes {
		return nil, nil
	}
	return t, nil
}

// write adds what a tree's growth adds, which begins at size n.
func (d *derived) write(n int64, g grown) error {
	if _, err := d.hashes.WriteAt(g.hashes, hashesSize(n)); err != nil {
		return err
	}
	_, err := d.offsets.WriteAt(g.offsets, n*offsetSize)
	return err
}

// add puts leaves into the index; the first has the number n.
func (d *derived) add(n int64, leaves []tlog.Hash) error {
	if n+int64(len(leaves)) > postings.MaxEntry {
		return fmt.Errorf("the log is full: its index numbers %d entries", int64(postings.MaxEntry))
	}
	for i, h := range leaves {
		d.index.Add(indexKey(h), uint32(n+int64(i)))
	}
	return nil
}

// sync makes what was written durable.
func (d *derived) sync() error {
	return errors.Join(durable.DataSync(d.hashes), durable.DataSync(d.offsets))
}

// span is where entries first up to last, without last, begin and end.
func (d *derived) span(first, last int64) (start, end int64, err error) {
	at := func(i int64) (int64, error) {
		if i == 0 {
			return 0, nil
		}
		var b [offsetSize]byte
		if _, err := d.offsets.ReadAt(b[:], (i-1)*offsetSize); err != nil {
			return 0, fmt.Errorf("reading %s: %w", d.offsets.Name(), err)
		}
		return int64(binary.BigEndian.Uint64(b[:])), nil
	}
	if start, err = at(first); err != nil {
		return 0, 0, err
	}
	end, err = at(last)
	return start, end, err
}

// near is how far apart hashes may be that are read at once: reading and throwing away
// more than a page takes longer than asking for another one.
const near = 4 << 10

// read is the stored hashes with the given indexes.
func (d *derived) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for done := 0; done < len(indexes); {
		first, last := indexes[done], indexes[done]
		n := done + 1
		for ; n < len(indexes); n++ {
			lo, hi := min(first, indexes[n]), max(last, indexes[n])
			if (hi-lo+1)*tlog.HashSize > near {
				break
			}
			first, last = lo, hi
		}
		data := make([]byte, (last-first+1)*tlog.HashSize)
		if _, err := d.hashes.ReadAt(data, first*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("reading %s: %w", d.hashes.Name(), err)
		}
		for ; done < n; done++ {
			out[done] = tlog.Hash(data[(indexes[done]-first)*tlog.HashSize:])
		}
	}
	return out, nil
}

func hashesSize(n int64) int64 { return tlog.StoredHashCount(n) * tlog.HashSize }

// openForCheck opens a derived file to read, nil where there is none.
func openForCheck(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}
