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
	// publish replaces the checkpoint: all of it or nothing.
	publish(head []byte) error
	// settle makes durable which files the folder shows.
	settle() error
}

type store struct {
	dir     string
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
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *store) publish(head []byte) error {
	return durable.WriteSealed(s.path(headName), head, 0o600)
}

func (s *store) settle() error {
	return errors.Join(durable.SyncDir(s.dir), durable.SyncDir(filepath.Dir(s.dir)))
}

// read is the W entries of a full or partial bundle, exactly as stored, after
// they were compared with the hashes that the checkpoint covers.
func (s *store) read(t *tree, tile tlog.Tile) ([]byte, error) {
	first := tile.N * tileWidth
	start, end := t.offsets[first], t.offsets[first+int64(tile.W)]
	data := make([]byte, end-start)
	if _, err := s.entries.ReadAt(data, start); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.path(entriesName), err)
	}
	for i := first; i < first+int64(tile.W); i++ {
		record := data[t.offsets[i]-start : t.offsets[i+1]-start]
		if int(binary.BigEndian.Uint16(record)) != len(record)-2 || tlog.RecordHash(record[2:]) != t.leaves()[i] {
			return nil, s.damaged("entry " + strconv.FormatInt(i, 10) + " is not what was written")
		}
	}
	return data, nil
}

func (s *store) damaged(why string) error {
	return &durable.CorruptError{Path: s.path(entriesName), Why: why}
}

// load reads the folder and believes it only when the entries give the root
// that the checkpoint signs.
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
	t, err := s.scan(head)
	if err != nil {
		return nil, err
	}
	if t.root, err = tlog.TreeHash(t.size(), t); err != nil {
		return nil, err
	}
	if t.root != head.root {
		return nil, s.damaged(fmt.Sprintf("its %d entries do not give the root that %s signs", head.size, headName))
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
	t := emptyTree()
	if err := l.stamp(t, 0); err != nil {
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

// scan reads and hashes what the checkpoint covers, on all processors.
func (s *store) scan(h *head) (*tree, error) {
	leaves := make([]tlog.Hash, h.size)
	lengths := make([]int, 0, h.size)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	defer g.Wait() //nolint:errcheck // the workers only hash; this is for early returns
	for pos := int64(0); pos < h.bytes; {
		chunk := make([]byte, min(chunkSize, h.bytes-pos))
		if _, err := s.entries.ReadAt(chunk, pos); errors.Is(err, io.EOF) {
			return nil, s.damaged(fmt.Sprintf("it is shorter than the %d bytes that %s covers", h.bytes, headName))
		} else if err != nil {
			return nil, err
		}
		records, used := split(chunk)
		if used == 0 || len(lengths)+len(records) > len(leaves) {
			return nil, s.damaged("its lengths do not fit " + headName)
		}
		dst := leaves[len(lengths):]
		for _, r := range records {
			lengths = append(lengths, len(r))
		}
		g.Go(func() error {
			for i, r := range records {
				dst[i] = tlog.RecordHash(r)
			}
			return nil
		})
		pos += int64(used)
	}
	if len(lengths) != len(leaves) {
		return nil, s.damaged("its lengths do not fit " + headName)
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return emptyTree().extend(leaves, lengths), nil
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
