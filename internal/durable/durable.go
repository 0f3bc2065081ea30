// Package durable writes files that survive a power cut and notices files that
// did not. What it has returned from is on disk: data, name and directory.
//
// State files that only we read are sealed: a first line with the SHA-256 of
// the rest, so that a truncated or bit-flipped file is refused by name instead
// of being half believed.
package durable

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// CorruptError says that a sealed file does not hold what was written to it.
type CorruptError struct{ Path, Why string }

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged (%s); nothing was changed", e.Path, e.Why)
}

// WriteFile replaces path atomically: temporary file beside it, fsync, rename,
// fsync of the directory. After an error the old content is still there.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll makes dir and its parents durable.
func MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	if err := MkdirAll(filepath.Dir(dir), perm); err != nil {
		return err
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := SyncDir(filepath.Dir(dir)); err != nil {
		_ = os.Remove(dir) // the next call must not take it for durable
		return err
	}
	return nil
}

const sealPrefix = "hallmark-sealed sha256:"

// WriteSealed is WriteFile with a seal that ReadSealed checks.
func WriteSealed(path string, data []byte, perm fs.FileMode) error {
	sum := sha256.Sum256(data)
	head := sealPrefix + hex.EncodeToString(sum[:]) + "\n"
	return WriteFile(path, append([]byte(head), data...), perm)
}

// ReadSealed reads a file that WriteSealed wrote. A file that is not exactly
// that is a *CorruptError; a file that is not there is fs.ErrNotExist.
func ReadSealed(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Unseal(path, data)
}

// Unseal is what a sealed file that was read as data holds; anything but what
// WriteSealed wrote is a *CorruptError about path.
func Unseal(path string, data []byte) ([]byte, error) {
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte(sealPrefix)) {
		return nil, &CorruptError{path, "its first line is not a seal"}
	}
	sum := sha256.Sum256(rest)
	if string(line[len(sealPrefix):]) != hex.EncodeToString(sum[:]) {
		return nil, &CorruptError{path, "its content does not match its seal"}
	}
	return rest, nil
}

// Damage is one thing that is not what was written.
type Damage struct {
	Path string
	// Offset is the first byte of the file that shows it; -1 where no byte does:
	// the file is missing, or its place is wrong.
	Offset int64
	Why    string
	// Lost says that something is named which is not there. A client may have
	// deleted it: it is for a person to know, and for nobody to repair.
	Lost bool
}

func (d Damage) String() string {
	if d.Offset < 0 {
		return d.Path + ": " + d.Why
	}
	return fmt.Sprintf("%s, byte %d: %s", d.Path, d.Offset, d.Why)
}

// SortDamage puts damage in the order of paths and places.
func SortDamage(all []Damage) {
	sorted.Func(all, func(x, y Damage) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Offset, y.Offset))
	})
}
