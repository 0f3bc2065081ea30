package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Snapshot is the state of a log at one checkpoint. Entries that come later do
// not change it.
type Snapshot struct {
	Head  []byte // the sealed file checkpoint.sealed, as it was
	Count int64  // entries
	Size  int64  // bytes of the entries file
	*io.SectionReader
	// Times are those of a timed log, nil of another.
	Times *io.SectionReader
	files []*os.File
}

// Close closes the files.
func (s *Snapshot) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// open is the first size bytes of a file.
func (s *Snapshot) open(path string, size int64) (*io.SectionReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, f)
	return io.NewSectionReader(f, 0, size), nil
}

// OpenSnapshot reads the state of the log in a folder that may be in use. What is
// not what was written is a *durable.CorruptError.
func OpenSnapshot(dir string) (*Snapshot, error) {
	path := filepath.Join(dir, headName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sealed, err := durable.Unseal(path, raw)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Head: raw}
	first, text, _ := strings.Cut(string(sealed), "\n")
	length, _, timed := strings.Cut(first, " ")
	lines := strings.SplitN(text, "\n", 3)
	if s.Size, err = strconv.ParseInt(length, 10, 64); err == nil && len(lines) == 3 {
		s.Count, err = strconv.ParseInt(lines[1], 10, 64)
	}
	if err != nil || len(lines) != 3 {
		return nil, &durable.CorruptError{Path: path, Why: "it is not a checkpoint of a log"}
	}
	s.SectionReader, err = s.open(filepath.Join(dir, entriesName), s.Size)
	if err == nil && timed {
		s.Times, err = s.open(filepath.Join(dir, timesName), s.Count*timeSize)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// BehindError says that a log's folder lacks entries that its key has signed for:
// a log that went on from it would contradict what others have seen.
type BehindError struct{ Have, Want int64 }

func (e *BehindError) Error() string {
	return fmt.Sprintf("the log here has %d entries, and a checkpoint that it signed covers %d", e.Have, e.Want)
}

// ContradictError says that a log's folder is not what its key has signed for.
type ContradictError struct{ Size int64 }

func (e *ContradictError) Error() string {
	return fmt.Sprintf("the checkpoint of %d entries was signed over other entries than those here: one of the two is not this log's", e.Size)
}

// CatchUp makes sure that the log in a folder, which nobody may have open, does
// not contradict a checkpoint that was published: it covers that one's entries.
// Those that are missing are taken from a mirror (a folder in the form of C2SP
// tlog-tiles, with tile/entries/…), nil for none; they are believed because the
// checkpoint signs them. The result is how many were taken.
//
// A log that lacks entries is a *BehindError, one with others a *ContradictError.
func CatchUp(dir string, cfg Config, checkpoint []byte, mirror fs.FS) (taken int64, err error) {
	if err := checkConfig(&cfg); err != nil {
		return 0, err
	}
	l := &Log{cfg: cfg, signer: signing{cfg.Signer}}
	size, root, err := l.ownCheckpoint(checkpoint)
	if err != nil {
		return 0, err
	}
	st, err := openStore(dir, cfg.Timed)
	if err != nil {
		return 0, err
	}
	defer st.close() //nolint:errcheck // everything was synced before
	l.store, l.disk = st, st
	if l.derived, err = openDerived(dir, cfg.recent); err != nil {
		return 0, err
	}
	defer l.derived.close() //nolint:errcheck // it is made again
	st.derived = l.derived
	t, err := l.load()
	if err != nil {
		return 0, err
	}
	have := t.size()
	if size <= have {
		if h, err := t.rootAt(size); err != nil {
			return 0, err
		} else if h != root {
			return 0, &ContradictError{size}
		}
		return 0, nil
	}
	if mirror == nil || cfg.Timed {
		return 0, &BehindError{have, size}
	}
	return size - have, l.takeOver(t, size, root, mirror)
}

// ownCheckpoint reads a checkpoint that this log's key signed.
func (l *Log) ownCheckpoint(checkpoint []byte) (size int64, root tlog.Hash, err error) {
	n, err := note.Open(checkpoint, note.VerifierList(l.signer))
	if err != nil {
		return 0, root, fmt.Errorf("the checkpoint is not signed by this log: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != l.cfg.Origin {
		return 0, root, errors.New("the checkpoint is not of this log")
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	hash, rerr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || rerr != nil || size < 0 || len(hash) != tlog.HashSize {
		return 0, root, errors.New("the checkpoint cannot be read")
	}
	return size, tlog.Hash(hash), nil
}

// takeOver appends what a tree lacks of a checkpoint, as one commit: until that is
// sealed, what was written is beyond what counts.
func (l *Log) takeOver(t *tree, size int64, root tlog.Hash, mirror fs.FS) error {
	for t.n < size {
		bundle := t.n / tileWidth
		records, err := readBundle(mirror, bundle, min(size-bundle*tileWidth, tileWidth))
		if err != nil {
			return err
		}
		records = records[t.n-bundle*tileWidth:]
		var data []byte
		for _, r := range records {
			data = append(append(data, byte(len(r)>>8), byte(len(r))), r...)
		}
		if err := l.disk.appendEntries(data, t.end); err != nil {
			return err
		}
		t, _ = t.extend(hashRecords(records)) // what is derived is so at the next Open
	}
	if t.root != root {
		return errors.New("the mirror's entries do not give the root that the checkpoint signs: it is damaged, or another log's")
	}
	// Signed anew: the same text, without the lines that others have added.
	if err := l.sign(t); err != nil {
		return err
	}
	if err := l.seal(t); err != nil {
		return err
	}
	return l.disk.settle()
}

// readBundle reads the first n entries of a bundle, from the whole or a partial one.
func readBundle(mirror fs.FS, bundle, n int64) ([][]byte, error) {
	tile := tlog.Tile{H: tileHeight, L: -1, N: bundle, W: tileWidth}
	name := "tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/data/")
	f, err := mirror.Open(name)
	for w := int64(tileWidth) - 1; errors.Is(err, fs.ErrNotExist) && w >= n; w-- {
		f, err = mirror.Open(name + ".p/" + strconv.FormatInt(w, 10))
	}
	if err != nil {
		return nil, fmt.Errorf("the mirror lacks entries %d to %d: %w", bundle*tileWidth, bundle*tileWidth+n-1, err)
	}
	defer f.Close()
	records, err := readPiece(f, n)
	if err != nil {
		return nil, fmt.Errorf("the mirror's %s has fewer than %d entries", name, n)
	}
	return records, nil
}
