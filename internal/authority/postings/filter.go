package postings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// A filter says of most keys that a run does not have them, from memory: the look for a
// new entry then reads no block, however many runs there are. Where it cannot say so,
// the run is read, so that it decides nothing but what is read.
//
// It is a Bloom filter in blocks of 64 bytes, each a cache line (Putze, Sanders, Singler:
// Cache-, Hash- and Space-Efficient Bloom Filters, 2007): the first half of a key's first
// eight bytes chooses the block, in the order of the keys, the rest seven bits of it. With
// ten bits for a record some 1.2 % of the keys that a run does not have are looked for in
// it nevertheless. Keys are hashes, and are not hashed again; who makes some on purpose
// makes the log read blocks.
//
// On disk it lies beside its run: the run's records and the CRC-32C of its fences, which
// say whose it is, as 8 and 4 bytes; the blocks; the CRC-32C of all that. It is derived of
// the run, written after it and without fsync: one that is missing, torn or another run's
// is not used, and made again beside the next run that is written.
const (
	filterPrefix  = "filter-"
	filterHeader  = 8 + 4
	filterBlock   = 64
	bitsPerRecord = 10
	bitsOfKey     = 7
)

// maxFilter bounds the memory of a filter, and with the sizes of runs, each more than
// twice the next, that of all to twice as much. A run of more than 13 million records has
// none and is always read.
const maxFilter = 16 << 20

type filter []byte

// filterSize is how many bytes a filter of some records has at least.
func filterSize(records int64) int64 {
	return (records*bitsPerRecord + 8*filterBlock - 1) / (8 * filterBlock) * filterBlock
}

// newFilter is an empty filter for that many records, nil for too many.
func newFilter(records int64) filter {
	if records > maxFilter*8/bitsPerRecord {
		return nil
	}
	return make(filter, filterSize(records))
}

// place is a key's block and the bits of it, 9 bits for each.
func (f filter) place(k Key) (block []byte, bits uint64) {
	n := uint64(len(f) / filterBlock)
	at := uint64(binary.BigEndian.Uint32(k[:])) * n >> 32 * filterBlock
	return f[at : at+filterBlock : at+filterBlock], binary.BigEndian.Uint64(k[4:])
}

func (f filter) add(k Key) {
	block, bits := f.place(k)
	for range bitsOfKey {
		block[bits>>3%filterBlock] |= 1 << (bits & 7)
		bits >>= 9
	}
}

// has is false of a key that was not added.
func (f filter) has(k Key) bool {
	block, bits := f.place(k)
	for range bitsOfKey {
		if block[bits>>3%filterBlock]&(1<<(bits&7)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

// filterPath is where the filter of a run lies.
func filterPath(dir, run string) string {
	return filepath.Join(dir, filterPrefix+strings.TrimPrefix(run, runPrefix))
}

// header says whose filter it is.
func (r *run) header() []byte {
	h := binary.BigEndian.AppendUint64(make([]byte, 0, filterHeader), uint64(r.records))
	return binary.BigEndian.AppendUint32(h, r.fencesSum)
}

// saveFilter writes a run's filter beside it.
func (r *run) saveFilter(dir string, f filter) (err error) {
	tmp, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	header := r.header()
	sum := crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, f)
	for _, part := range [][]byte{header, f, binary.BigEndian.AppendUint32(nil, sum)} {
		if _, err := tmp.Write(part); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp.Name(), filterPath(dir, r.name)); err != nil {
		return err
	}
	return tmp.Close()
}

// readFilter reads the filter of a run: fs.ErrNotExist where there is none, a
// *durable.CorruptError where it is not this run's.
func (r *run) readFilter(dir string) (filter, error) {
	file, err := os.Open(filterPath(dir, r.name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	bad := &durable.CorruptError{Path: file.Name(), Why: "it is not the filter of its run; without it the log is slower, and makes it again"}
	// It was made for the records of the two runs that became this one; what both had is
	// in it once.
	size := info.Size() - filterHeader - crc32.Size
	if size < filterSize(r.records) || size > filterSize(2*r.records) || size > maxFilter || size%filterBlock != 0 {
		return nil, bad
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, bad
	} else if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	body := data[:len(data)-crc32.Size]
	if string(body[:filterHeader]) != string(r.header()) || crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(data[len(body):]) {
		return nil, bad
	}
	return body[filterHeader:], nil
}

// makeFilter makes the filter of a run that has none by reading it.
func (r *run) makeFilter(quit <-chan struct{}) (filter, error) {
	f := newFilter(r.records)
	if f == nil {
		return nil, nil
	}
	in := r.reader()
	for n := 0; ; n++ {
		if n%perBlock == 0 {
			select {
			case <-quit:
				return nil, errQuit
			default:
			}
		}
		rec, ok, err := in.read()
		if err != nil || !ok {
			return f, err
		}
		f.add(rec.key)
	}
}
