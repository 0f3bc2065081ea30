package tlog

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

const (
	entriesName = "entries"
	headName    = "checkpoint.sealed"
	tempPrefix  = ".tmp-" // durable's; what a crash may leave behind
)

// disk is what the committer needs of the folder. Its methods return only when
// their effect survives a power cut; after an error the effect is unknown.
type disk interface {
	// appendEntries puts data at off in the entries file. off is the end of
	// what the published checkpoint covers.
	appendEntries(data []byte, off int64) error
	// appendTimes does the same in the times file of a timed log.
	appendTimes(data []byte, off int64) error
	// writeDerived puts what the growth of a tree from size n adds beside the entries. It
	// alone does not make it durable.
	writeDerived(n int64, g grown) error
	// undo takes back what was appended behind a published tree, also in part, and reads
	// what is left; only as long as no append's sync failed.
	undo(t *tree) error
	// probe writes a little, and takes it away again.
	probe() error
	// publish replaces the checkpoint: all of it or nothing.
	publish(head []byte) error
	// syncDerived makes durable what was written of hashes and offsets. It may be called
	// beside the others.
	syncDerived() error
	// settle makes durable which files the folder shows.
	settle() error
}

type store struct {
	dir     string
	derived *derived
	entries *os.File
	times   *os.File // nil unless the log is timed
}

var _ disk = (*store)(nil)

// openStore opens or creates the files and locks the folder. It creates only in
// a folder that holds neither file, or that a crash left without a checkpoint
// before the first one.
func openStore(dir string, timed bool) (*store, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if _, err := os.Stat(filepath.Join(dir, headName)); errors.Is(err, fs.ErrNotExist) {
		flags |= os.O_CREATE
	} else if err != nil {
		return nil, err
	}
	f, err := openData(dir, entriesName, flags)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another process", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	s := &store{dir: dir, entries: f}
	if timed {
		if s.times, err = openData(dir, timesName, flags); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func openData(dir, name string, flags int) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &durable.CorruptError{Path: path, Why: "it is missing although there is a checkpoint"}
	}
	return f, err
}

// close unlocks the folder first: a child process that is being started holds a
// copy of the file, and with it the lock, for a moment longer.
func (s *store) close() error {
	errs := []error{unix.Flock(int(s.entries.Fd()), unix.LOCK_UN), s.entries.Close()}
	if s.times != nil {
		errs = append(errs, s.times.Close())
	}
	return errors.Join(errs...)
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *store) appendEntries(data []byte, off int64) error {
	return appendTo(s.entries, data, off)
}

func (s *store) appendTimes(data []byte, off int64) error { return appendTo(s.times, data, off) }

func appendTo(f *os.File, data []byte, off int64) error {
	if _, err := f.WriteAt(data, off); err != nil {
		return err
	}
	// The length grows, so fdatasync flushes it with the data.
	return durable.DataSync(f)
}

func (s *store) writeDerived(n int64, g grown) error { return s.derived.write(n, g) }

func (s *store) syncDerived() error { return s.derived.sync() }

func (s *store) publish(head []byte) error {
	return durable.WriteSealed(s.path(headName), head, 0o600)
}

func (s *store) settle() error {
	return errors.Join(durable.SyncDir(s.dir), durable.SyncDir(filepath.Dir(s.dir)))
}

func (s *store) readEntries(data []byte, off int64) error {
	if _, err := s.entries.ReadAt(data, off); err != nil {
		return fmt.Errorf("reading %s: %w", s.path(entriesName), err)
	}
	return nil
}

func (s *store) damaged(why string) error {
	return &durable.CorruptError{Path: s.path(entriesName), Why: why}
}

// load reads the folder and believes it only when the entries give the root that the
// checkpoint signs. What is derived of them saves hashing those that it covers: what
// it says is believed as far as it leads to that root.
func (l *Log) load() (*tree, error) {
	s := l.store
	sealed, err := durable.ReadSealed(s.path(headName))
	if errors.Is(err, fs.ErrNotExist) {
		return l.create()
	} else if err != nil {
		return nil, err
	}
	head, err := l.parseHead(sealed)
	if err != nil {
		return nil, err
	}
	t, err := l.derive(head)
	if err != nil {
		return nil, err
	}
	t.note = head.note
	if err := l.loadTimes(t, head); err != nil {
		return nil, err
	}
	if err := s.removeTemps(); err != nil {
		return nil, err
	}
	// A kill between the rename of a checkpoint and the sync of its folder leaves
	// one that a power cut would still take back; it is about to be shown.
	return t, l.disk.settle()
}

// derive is the tree that the head covers, from what is derived already and from the
// entries behind that; from all entries where that does not lead to the head's root.
func (l *Log) derive(h *head) (*tree, error) {
	known, err := l.derived.resume(h)
	if err != nil {
		return nil, err
	}
	t, err := l.scan(known, h, l.take)
	if known.n == 0 || err == nil {
		return t, err
	}
	l.cfg.Log.Warn("what was derived of the log's entries does not fit its checkpoint: deriving it again", "error", err)
	if err := l.derived.index.Reset(); err != nil {
		return nil, err
	}
	l.derived.index.Made() // nobody can ask before all is added
	return l.scan(l.derived.empty(), h, l.take)
}

// create publishes the empty tree. A folder with entries but no checkpoint is
// not one that a crash can leave: every append comes after a first checkpoint.
func (l *Log) create() (*tree, error) {
	s := l.store
	st, err := s.entries.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() != 0 {
		return nil, &durable.CorruptError{Path: s.path(headName), Why: "it is missing although there are entries"}
	}
	if err := l.disk.settle(); err != nil {
		return nil, err
	}
	if err := l.derived.index.Reset(); err != nil {
		return nil, err
	}
	l.derived.index.Made()
	t := l.derived.empty()
	if err := l.stamp(t, 0); err != nil {
		return nil, err
	}
	if err := l.sign(t); err != nil {
		return nil, err
	}
	if err := l.seal(t); err != nil {
		return nil, err
	}
	return t, s.removeTemps()
}

// removeTemps removes what a crash in the middle of publish left behind.
func (s *store) removeTemps() error {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(s.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// head is the sealed file: how many bytes of entries count, what seals the times,
// and the note.
type head struct {
	timesSeal   string
	bytes, size int64
	root        tlog.Hash
	note        []byte
}

func (l *Log) parseHead(data []byte) (*head, error) {
	path := l.store.path(headName)
	line, signed, ok := bytes.Cut(data, []byte("\n"))
	length, seal := string(line), ""
	if space := strings.IndexByte(length, ' '); space >= 0 {
		length, seal = length[:space], length[space:]
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if !ok || err != nil || n < 0 {
		return nil, &durable.CorruptError{Path: path, Why: "it does not name a length"}
	}
	opened, err := note.Open(signed, note.VerifierList(l.signer))
	if err != nil {
		return nil, fmt.Errorf("%s was signed by another key or for another origin than %s: %w", path, l.cfg.Origin, err)
	}
	h := &head{bytes: n, note: signed, timesSeal: seal}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != l.cfg.Origin {
		return nil, &durable.CorruptError{Path: path, Why: "its note is not a checkpoint of this log"}
	}
	h.size, err = strconv.ParseInt(lines[1], 10, 64)
	root, rerr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || rerr != nil || h.size < 0 || h.size > n/2 || len(root) != tlog.HashSize {
		return nil, &durable.CorruptError{Path: path, Why: "its note is not a checkpoint of this log"}
	}
	h.root = tlog.Hash(root)
	return h, nil
}

// chunkSize is how much of entries is read at once; more than any entry.
const chunkSize = 1 << 20

// scan grows a tree by what the head covers beyond it, in steps that take makes.
func (l *Log) scan(t *tree, h *head, take func(*tree, [][]byte) (*tree, error)) (*tree, error) {
	s := l.store
	if missing := h.size - t.n; missing > 1<<20 {
		l.cfg.Log.Info("reading the log's entries, once", "entries", missing)
	}
	chunk := make([]byte, chunkSize)
	for t.end < h.bytes {
		select {
		case <-l.quit: // nil but for a log that is open
			return nil, ErrClosed
		default:
		}
		chunk = chunk[:min(chunkSize, h.bytes-t.end)]
		if _, err := s.entries.ReadAt(chunk, t.end); errors.Is(err, io.EOF) {
			return nil, s.damaged(fmt.Sprintf("it is shorter than the %d bytes that %s covers", h.bytes, headName))
		} else if err != nil {
			return nil, err
		}
		records, _ := split(chunk)
		if len(records) == 0 || t.n+int64(len(records)) > h.size {
			return nil, s.damaged("its lengths do not fit " + headName)
		}
		next, err := take(t, records)
		if err != nil {
			return nil, err
		}
		t = next
	}
	if t.n != h.size {
		return nil, s.damaged("its lengths do not fit " + headName)
	}
	if t.root != h.root {
		return nil, s.damaged(fmt.Sprintf("its %d entries do not give the root that %s signs", h.size, headName))
	}
	return t, nil
}

// take grows a tree by entries that a checkpoint on disk is said to cover.
func (l *Log) take(t *tree, records [][]byte) (*tree, error) {
	leaves, lengths := hashRecords(records)
	next, g := t.extend(leaves, lengths)
	if err := l.derived.index.Room(); err != nil {
		return nil, err
	}
	if err := l.derived.write(t.n, g); err != nil {
		return nil, err
	}
	if err := l.derived.add(t.n, leaves); err != nil {
		return nil, err
	}
	return next, l.keep(next)
}

// keep makes what is derived of t's entries durable, beside further work, when there is
// enough of it. A checkpoint on disk covers them.
func (l *Log) keep(t *tree) error {
	if !l.derived.index.Full() {
		return nil
	}
	return l.derived.index.Flush(t.n, t.root[:], l.disk.syncDerived)
}

// hashRecords is the leaf hash and the length of each record, on all processors.
func hashRecords(records [][]byte) (leaves []tlog.Hash, lengths []int) {
	leaves, lengths = make([]tlog.Hash, len(records)), make([]int, len(records))
	const share = 64
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < len(records); from += share {
		g.Go(func() error {
			for i := from; i < min(from+share, len(records)); i++ {
				leaves[i], lengths[i] = tlog.RecordHash(records[i]), len(records[i])
			}
			return nil
		})
	}
	_ = g.Wait() // they only hash
	return leaves, lengths
}

// split is the whole records at the start of data and how many bytes they take
// (c2sp.org/tlog-tiles: uint16 length, entry).
func split(data []byte) (records [][]byte, used int) {
	for len(data)-used >= 2 {
		n := int(binary.BigEndian.Uint16(data[used:]))
		if len(data)-used < 2+n {
			break
		}
		records = append(records, data[used+2:used+2+n])
		used += 2 + n
	}
	return records, used
}
