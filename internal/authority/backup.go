package authority

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Saved is what a backup holds.
type Saved struct {
	Entries   int64 // of the log
	EntriesV1 int64 // of the log for older clients
	Files     int
	Bytes     int64 // of their content
}

// Backup writes a data folder to w as a tar archive (POSIX, pax). An authority may
// be running on it: the archive is of one state of keys, trust and log, and of the
// registry as it is when its turn comes, each tag with all that hangs on it. It
// holds every private key.
//
// Keys, trust and logs that are not what was written are a *durable.CorruptError: a
// damaged folder is not saved over a good backup. The registry is saved as it is:
// Check finds what is wrong there.
func Backup(dir string, w io.Writer) (Saved, error) {
	_, dir, err := readState(dir)
	if err != nil {
		return Saved{}, wayOut(err)
	}
	// Before anything is written: half an archive must not be taken for one.
	release, err := registry.Hold(filepath.Join(dir, registryDir))
	if err != nil {
		return Saved{}, err
	}
	defer release()
	if err := undamaged(dir); err != nil {
		return Saved{}, wayOut(err)
	}
	b := &saver{dir: dir, tar: tar.NewWriter(w), links: map[inode]string{}}
	st, err := b.small()
	if err != nil {
		return Saved{}, wayOut(err)
	}
	for service, entries := range map[string]*int64{ServiceLog: &b.saved.Entries, ServiceLogV1: &b.saved.EntriesV1} {
		for _, shard := range st.shards(service) {
			n, err := b.log(shard)
			if err != nil {
				return Saved{}, wayOut(err)
			}
			*entries += n
		}
	}
	if err := b.images(); err != nil {
		return Saved{}, err
	}
	if err := b.content(endOfBackup, strings.NewReader(""), 0); err != nil {
		return Saved{}, err
	}
	b.saved.Files-- // the end is none
	return b.saved, b.tar.Close()
}

// endOfBackup is the last member of an archive: one without it was cut.
const endOfBackup = ".complete"

// undamaged derives keys, trust and logs again, the logs without looking into their
// entries.
func undamaged(dir string) error {
	c := new(Checked)
	if err := c.check(dir, false); err != nil {
		return err
	}
	if len(c.Damage) > 0 {
		return &durable.CorruptError{Path: c.Damage[0].Path, Why: c.Damage[0].Why}
	}
	return nil
}

func (b *saver) images() error {
	// A registry may be empty; it must not be missing.
	if err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: registryDir + "/repos/", Mode: 0o700, Format: tar.FormatPAX}); err != nil {
		return err
	}
	for name, err := range registry.Files(filepath.Join(b.dir, registryDir)) {
		if err != nil {
			return err
		}
		if err := b.file(filepath.Join(registryDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return err
		}
	}
	return nil
}

type saver struct {
	dir   string
	tar   *tar.Writer
	links map[inode]string // blobs in several repositories are one file
	saved Saved
}

type inode struct{ dev, ino uint64 }

// smallFiles are all but log and registry: some kilobytes that are replaced file
// by file, and must be of one state.
func smallFiles(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	add := func(name string) error {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			out[name] = data
		}
		return err
	}
	for _, name := range []string{stateFile, fileTrustedRoot, fileSigningConfig, fileRoot, fileTrustRoot} {
		if err := add(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // derived ones are made again
			return nil, err
		}
	}
	for _, folder := range []string{keyDir, oidcDir, tufDir} {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() && e.Name()[0] != '.' {
				if err := add(filepath.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// small saves the small files of one state: it reads them until they read the
// same twice.
func (b *saver) small() (*state, error) {
	files, err := smallFiles(b.dir)
	for range 100 {
		if err != nil {
			return nil, err
		}
		var again map[string][]byte
		if again, err = smallFiles(b.dir); err == nil && equalFiles(files, again) {
			st, err := parseState(filepath.Join(b.dir, stateFile), files[stateFile])
			if err != nil {
				return nil, err
			}
			return st, b.write(files)
		}
		files = again
	}
	return nil, errors.New("the folder changes all the time: the backup would be of no one state")
}

func equalFiles(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, data := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

func (b *saver) write(files map[string][]byte) error {
	for _, name := range sortedNames(files) {
		if err := b.content(name, bytes.NewReader(files[name]), int64(len(files[name]))); err != nil {
			return err
		}
	}
	return nil
}

// log saves a log at one checkpoint and returns how many entries that covers.
func (b *saver) log(dir string) (int64, error) {
	s, err := tlog.OpenSnapshot(filepath.Join(b.dir, dir))
	if err != nil {
		return 0, err
	}
	defer s.Close() //nolint:errcheck // it was only read
	err = b.content(filepath.Join(dir, logHead), bytes.NewReader(s.Head), int64(len(s.Head)))
	if err == nil {
		err = b.content(filepath.Join(dir, logEntries), s, s.SectionReader.Size())
	}
	if err == nil && s.Times != nil {
		err = b.content(filepath.Join(dir, "times"), s.Times, s.Times.Size())
	}
	return s.Count, err
}

// file saves a file as it is, and one that is saved under another name as a link.
func (b *saver) file(name string) error {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 {
		id := inode{uint64(sys.Dev), sys.Ino}
		if first, ok := b.links[id]; ok {
			b.saved.Files++
			return b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: filepath.ToSlash(name), Linkname: filepath.ToSlash(first), Mode: 0o600, Format: tar.FormatPAX})
		}
		b.links[id] = name
	}
	return b.content(name, f, st.Size())
}

func (b *saver) content(name string, r io.Reader, size int64) error {
	if err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Size: size, Mode: 0o600, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if n, err := io.CopyN(b.tar, r, size); err != nil {
		return fmt.Errorf("%s ended after %d of %d bytes: %w", name, n, size, err)
	}
	b.saved.Files++
	b.saved.Bytes += size
	return nil
}
