// Package index keeps, beside a log's folder, which entries are about a digest or
// by a signer: a log by itself can only be read from one end to the other.
//
// An index is derived: whatever of it is missing or damaged is made again from the
// log, and an entry that it names is believed only after it was read and found to
// be what was looked for. What it must not do is leave entries out, so each file is
// sealed or covered by a sealed checksum.
//
// On disk are records of 16 bytes: eight of a SHA-256 of what may be looked for,
// eight of the entry's index. Records of 65,536 entries make a segment, which never
// changes; the rest lies in the tail, of which state.sealed says how much counts.
// The order of writing is segment or tail, fsync, state. Looking something up reads
// all of it: 48 bytes for an entry with one signer.
package index

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/rekor"
)

const (
	stateName = "state.sealed"
	tailName  = "tail"
	lockName  = "lock"
	version   = 1
	// segmentSize is how many entries a segment covers: those of one tile of level 1.
	segmentSize = translog.Width * translog.Width
	recordSize  = 16
	// maxTail bounds what the tail's length may claim: 66 records an entry.
	maxTail = segmentSize * 66 * recordSize
)

// Key is what is looked for: a hash, so two things may share one.
type Key [8]byte

func key(kind byte, value string) Key {
	sum := sha256.Sum256(append([]byte{kind}, value...))
	return Key(sum[:8])
}

// Digest finds entries about a digest.
func Digest(d evidence.Digest) Key { return key('d', string(d)) }

// Identity finds entries by the identity of a certificate, whoever vouched for it.
func Identity(name string) Key { return key('i', name) }

// PublicKey finds entries by a bare key, "sha256:…" of its DER SubjectPublicKeyInfo.
func PublicKey(fingerprint string) Key { return key('k', fingerprint) }

// Unread finds entries that were not understood.
func Unread() Key { return key('u', "") }

// state says what of the files counts.
type state struct {
	Version    int    `json:"version"`
	Origin     string `json:"origin"`
	Entries    int64  `json:"entries"`  // of the log, that are in the index
	Root       []byte `json:"root"`     // of their tree: an index belongs to one
	Segments   int64  `json:"segments"` // that count
	TailBytes  int64  `json:"tailBytes"`
	TailSHA256 string `json:"tailSHA256"`
}

// Index is an open index. It is for one goroutine.
type Index struct {
	dir     string
	segment int64 // entries that a segment covers
	st      state
	tail    []byte // what counts of the tail
	unlock  func()
}

// Open opens the index in dir, which is made if it is not there, and takes it until
// Close. What is damaged of it is left out, and Extend makes it again.
func Open(ctx context.Context, dir string) (*Index, error) { return open(ctx, dir, segmentSize) }

func open(ctx context.Context, dir string, segment int64) (*Index, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := translog.LockFile(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	x := &Index{dir: dir, segment: segment, unlock: unlock}
	if err := x.load(); err != nil {
		unlock()
		return nil, fmt.Errorf("index of the log: %w", err)
	}
	return x, nil
}

// Close releases the index.
func (x *Index) Close() { x.unlock() }

// Size is how many of the log's entries are in the index, from the first on.
func (x *Index) Size() int64 { return x.st.Entries }

func (x *Index) path(name string) string { return filepath.Join(x.dir, name) }

func (x *Index) segmentPath(n int64) string { return x.path(fmt.Sprintf("segment-%06d", n)) }

// load reads state and tail. Anything that is not what was written is as if it
// were not there; only what cannot be read at all is an error.
func (x *Index) load() error {
	data, err := durable.ReadSealed(x.path(stateName))
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*durable.CorruptError)) {
		return nil
	} else if err != nil {
		return err
	}
	var st state
	if json.Unmarshal(data, &st) != nil || st.Version != version || st.Segments < 0 || st.TailBytes < 0 || st.TailBytes > maxTail ||
		st.TailBytes%recordSize != 0 || st.Entries < st.Segments*x.segment || st.Entries >= (st.Segments+1)*x.segment {
		return nil
	}
	x.st = st
	if st.Entries == st.Segments*x.segment {
		x.st.TailBytes = 0
		return nil
	}
	tail, err := readPrefix(x.path(tailName), st.TailBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if int64(len(tail)) != st.TailBytes || sum(tail) != st.TailSHA256 {
		x.cut(st.Segments)
		return nil
	}
	x.tail = tail
	return nil
}

// cut leaves only the first n segments.
func (x *Index) cut(n int64) {
	x.tail = nil
	x.st = state{Version: version, Origin: x.st.Origin, Entries: n * x.segment, Segments: n}
}

func readPrefix(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, n)
	got, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:got], nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// Extend brings the index to the view's size. What of it is of another tree than
// the view's is made again. progress is called with how many entries are in.
func (x *Index) Extend(ctx context.Context, v *translog.View, progress func(done, size int64)) error {
	if err := x.belongs(ctx, v); err != nil {
		return err
	}
	for x.st.Entries < v.Size() {
		first := x.st.Entries
		end := min((first/x.segment+1)*x.segment, v.Size())
		var fresh []byte
		err := translog.Scan(ctx, v, first, end, records, func(r []byte) error {
			fresh = append(fresh, r...)
			return nil
		})
		if err != nil {
			return err
		}
		root, err := v.RootAt(ctx, end)
		if err != nil {
			return err
		}
		if err := x.commit(end, root[:], v.Checkpoint.Origin, fresh); err != nil {
			return fmt.Errorf("index of the log: %w", err)
		}
		if progress != nil {
			progress(end, v.Size())
		}
	}
	return nil
}

// belongs makes sure that what is indexed is the beginning of the view.
func (x *Index) belongs(ctx context.Context, v *translog.View) error {
	switch {
	case x.st.Entries == 0:
		return nil
	case x.st.Origin != v.Checkpoint.Origin, x.st.Entries > v.Size():
		x.cut(0)
		return nil
	case x.st.Root == nil: // cut to whole segments, each of which is sealed
		return nil
	}
	root, err := v.RootAt(ctx, x.st.Entries)
	if err != nil {
		return err
	}
	if string(root[:]) != string(x.st.Root) {
		x.cut(0)
	}
	return nil
}

// records are those of a bundle.
func records(b translog.Bundle) ([]byte, error) {
	var out []byte
	for i, body := range b.Entries {
		at := uint64(b.First) + uint64(i)
		for _, k := range Keys(rekor.Parse(body)) {
			out = binary.BigEndian.AppendUint64(append(out, k[:]...), at)
		}
	}
	return out, nil
}

// Keys is what an entry is found by.
func Keys(e rekor.Entry) []Key {
	if e.Unread != "" {
		return []Key{Unread()}
	}
	keys := []Key{Digest(e.Digest)}
	for _, s := range e.Signers {
		k := PublicKey(s.Key)
		if s.Certificate != nil {
			k = Identity(s.Identity)
		}
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// commit makes fresh records durable, which bring the index to end.
func (x *Index) commit(end int64, root []byte, origin string, fresh []byte) error {
	st := state{Version: version, Origin: origin, Entries: end, Root: root, Segments: x.st.Segments}
	tail := append(x.tail, fresh...)
	if end%x.segment == 0 {
		if err := durable.WriteSealed(x.segmentPath(x.st.Segments), tail, 0o600); err != nil {
			return err
		}
		st.Segments++
		tail = nil
	} else {
		if err := appendTail(x.path(tailName), fresh, int64(len(x.tail))); err != nil {
			return err
		}
		st.TailBytes, st.TailSHA256 = int64(len(tail)), sum(tail)
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := durable.WriteSealed(x.path(stateName), data, 0o600); err != nil {
		return err
	}
	x.st, x.tail = st, tail
	return nil
}

// appendTail writes at the end of what counts; bytes behind it are what a crash
// left.
func appendTail(path string, data []byte, at int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(at); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, at); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// ErrDamaged says that a segment was not what was written. The index was cut; after
// Extend it can be asked again.
var ErrDamaged = errors.New("the index of the log was damaged")

// Find is the indexes of the entries with a key, ascending: all of them, and
// perhaps others that share the key.
func (x *Index) Find(k Key) ([]int64, error) {
	var out []int64
	for n := range x.st.Segments {
		data, err := durable.ReadSealed(x.segmentPath(n))
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*durable.CorruptError)) || err == nil && len(data)%recordSize != 0 {
			x.cut(n)
			return nil, ErrDamaged
		} else if err != nil {
			return nil, err
		}
		out = find(out, data, k)
	}
	return find(out, x.tail, k), nil
}

func find(out []int64, data []byte, k Key) []int64 {
	want := binary.BigEndian.Uint64(k[:])
	for ; len(data) >= recordSize; data = data[recordSize:] {
		if binary.BigEndian.Uint64(data) == want {
			out = append(out, int64(binary.BigEndian.Uint64(data[8:])))
		}
	}
	return out
}

// Search brings the index to the view's size and finds: what was damaged is made
// again once.
func (x *Index) Search(ctx context.Context, v *translog.View, k Key, progress func(done, size int64)) ([]int64, error) {
	for again := true; ; again = false {
		if err := x.Extend(ctx, v, progress); err != nil {
			return nil, err
		}
		found, err := x.Find(k)
		if again && errors.Is(err, ErrDamaged) {
			continue
		}
		return found, err
	}
}
