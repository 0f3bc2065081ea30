package postings

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// A run is blocks of 4,096 bytes, each 255 records (the last one fewer, then zeros),
// the number of the records as 4 bytes, their CRC-32C with that number as 4 bytes,
// and 8 zeros. Behind the blocks are the fences: the first 8 bytes of the first key
// of each block, and their CRC-32C. They are kept in memory, so that finding a key
// reads one block.
const (
	recordSize  = KeySize + 4
	blockSize   = 4096
	perBlock    = blockSize/recordSize - 1
	fenceSize   = 8
	blockFooter = perBlock * recordSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// run is an open run.
type run struct {
	name    string
	f       *os.File
	records int64
	fences  []uint64
	// filter is nil for a run that has none (yet).
	filter    filter
	fencesSum uint32
}

func blocks(records int64) int64 { return (records + perBlock - 1) / perBlock }

// openRun opens a run; one that is not what was written is a *durable.CorruptError.
func openRun(dir string, st runState) (_ *run, err error) {
	f, err := os.Open(filepath.Join(dir, st.Name))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := blocks(min(st.Records, info.Size()))
	if info.Size() != n*(blockSize+fenceSize)+4 {
		return nil, &durable.CorruptError{Path: f.Name(), Why: "its length is not that of its records"}
	}
	data := make([]byte, n*fenceSize+4)
	if _, err := f.ReadAt(data, n*blockSize); err != nil {
		return nil, err
	}
	fences := data[:n*fenceSize]
	sum := binary.BigEndian.Uint32(data[len(fences):])
	if crc32.Checksum(fences, castagnoli) != sum {
		return nil, &durable.CorruptError{Path: f.Name(), Why: "its fences are not what was written"}
	}
	r := &run{name: st.Name, f: f, records: st.Records, fences: make([]uint64, n), fencesSum: sum}
	for i := range r.fences {
		r.fences[i] = binary.BigEndian.Uint64(fences[i*fenceSize:])
	}
	return r, nil
}

func (r *run) close() error { return r.f.Close() }

// block reads the records of a block, as bytes.
func (r *run) block(buf []byte, n int64) ([]byte, error) {
	buf = buf[:blockSize]
	if _, err := r.f.ReadAt(buf, n*blockSize); err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.f.Name(), err)
	}
	return checkBlock(r.f.Name(), buf, n, min(perBlock, r.records-n*perBlock))
}

func checkBlock(path string, buf []byte, n, want int64) ([]byte, error) {
	count := int64(binary.BigEndian.Uint32(buf[blockFooter:]))
	sum := binary.BigEndian.Uint32(buf[blockFooter+4:])
	if count != want || crc32.Checksum(buf[:blockFooter+4], castagnoli) != sum {
		return nil, &durable.CorruptError{Path: path, Why: fmt.Sprintf("block %d is not what was written", n)}
	}
	return buf[:count*recordSize], nil
}

// find appends the entries below a number that have a key, the newest first, until
// there are limit.
func (r *run) find(out []uint32, k Key, below int64, limit int) ([]uint32, error) {
	if r.filter != nil && !r.filter.has(k) {
		return out, nil
	}
	fence := binary.BigEndian.Uint64(k[:])
	// Blocks that can hold it begin with it, but for the first one, which begins before.
	last := sort.Search(len(r.fences), func(i int) bool { return r.fences[i] > fence }) - 1
	buf := make([]byte, blockSize)
	for n := last; n >= 0 && len(out) < limit; n-- {
		data, err := r.block(buf, int64(n))
		if err != nil {
			return nil, err
		}
		at := func(i int) []byte { return data[i*recordSize:][:recordSize] }
		i := sort.Search(len(data)/recordSize, func(i int) bool { return bytes.Compare(at(i)[:KeySize], k[:]) > 0 }) - 1
		for ; i >= 0 && len(out) < limit && bytes.Equal(at(i)[:KeySize], k[:]); i-- {
			if entry := binary.BigEndian.Uint32(at(i)[KeySize:]); int64(entry) < below {
				out = append(out, entry)
			}
		}
		if i >= 0 && !bytes.Equal(at(i)[:KeySize], k[:]) || r.fences[n] < fence {
			break // smaller ones come before
		}
	}
	return out, nil
}

// reader reads a run's records in their order.
type reader struct {
	r    *run
	next int64 // block
	in   *bufio.Reader
	buf  []byte
	left []byte
}

func (r *run) reader() *reader {
	size := blocks(r.records) * blockSize
	return &reader{r: r, in: bufio.NewReaderSize(io.NewSectionReader(r.f, 0, size), 64<<10), buf: make([]byte, blockSize)}
}

// read is the next record, ok false behind the last.
func (d *reader) read() (rec record, ok bool, err error) {
	if len(d.left) == 0 {
		if d.next == blocks(d.r.records) {
			return rec, false, nil
		}
		if _, err := io.ReadFull(d.in, d.buf); err != nil {
			return rec, false, fmt.Errorf("reading %s: %w", d.r.f.Name(), err)
		}
		d.left, err = checkBlock(d.r.f.Name(), d.buf, d.next, min(perBlock, d.r.records-d.next*perBlock))
		if err != nil {
			return rec, false, err
		}
		d.next++
	}
	rec = record{Key(d.left), binary.BigEndian.Uint32(d.left[KeySize:])}
	d.left = d.left[recordSize:]
	return rec, true, nil
}

// errQuit says that the index is being closed.
var errQuit = errors.New("the index is being closed")

// writer writes a run to a temporary file.
type writer struct {
	f       *os.File // nil when it is done
	out     *bufio.Writer
	block   []byte
	fences  []byte
	filter  filter // nil for a run that gets none
	records int64
	quit    <-chan struct{}
}

// newWriter begins a run of at most that many records.
func newWriter(dir string, most int64, quit <-chan struct{}) (*writer, error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	return &writer{f: f, out: bufio.NewWriterSize(f, 64<<10), filter: newFilter(most), quit: quit}, nil
}

func (w *writer) add(rec record) error {
	if len(w.block) == 0 {
		w.fences = append(w.fences, rec.key[:fenceSize]...)
		select {
		case <-w.quit:
			return errQuit
		default:
		}
	}
	w.block = binary.BigEndian.AppendUint32(append(w.block, rec.key[:]...), rec.entry)
	if w.filter != nil {
		w.filter.add(rec.key)
	}
	w.records++
	if len(w.block) == blockFooter {
		return w.flush()
	}
	return nil
}

// flush ends a block.
func (w *writer) flush() error {
	count := len(w.block) / recordSize
	if count == 0 {
		return nil
	}
	w.block = append(w.block, make([]byte, blockFooter-len(w.block))...)
	w.block = binary.BigEndian.AppendUint32(w.block, uint32(count))
	w.block = binary.BigEndian.AppendUint32(w.block, crc32.Checksum(w.block, castagnoli))
	w.block = append(w.block, make([]byte, blockSize-len(w.block))...)
	_, err := w.out.Write(w.block)
	w.block = w.block[:0]
	return err
}

func (w *writer) all(records []record) error {
	for _, r := range slices.Compact(records) {
		if err := w.add(r); err != nil {
			return err
		}
	}
	return nil
}

// merge writes the records of two runs; one that is in both, once.
func (w *writer) merge(a, b *run) error {
	ra, rb := a.reader(), b.reader()
	x, okX, err := ra.read()
	if err != nil {
		return err
	}
	y, okY, err := rb.read()
	for err == nil && (okX || okY) {
		order := -1
		switch {
		case okX && okY:
			order = x.compare(y)
		case okY:
			order = 1
		}
		least := x
		if order > 0 {
			least = y
		}
		if err = w.add(least); err != nil {
			break
		}
		if order <= 0 {
			x, okX, err = ra.read()
		}
		if order >= 0 && err == nil {
			y, okY, err = rb.read()
		}
	}
	return err
}

// finish makes the run durable under its name.
func (w *writer) finish(path string) error {
	if err := w.flush(); err != nil {
		return err
	}
	w.fences = binary.BigEndian.AppendUint32(w.fences, crc32.Checksum(w.fences, castagnoli))
	if _, err := w.out.Write(w.fences); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	name := w.f.Name()
	if err := w.f.Close(); err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		return err
	}
	w.f = nil
	return durable.SyncDir(filepath.Dir(path))
}

// discard removes what was not finished.
func (w *writer) discard() error {
	if w.f == nil {
		return nil
	}
	_ = w.f.Close() // perhaps it was
	return os.Remove(w.f.Name())
}
