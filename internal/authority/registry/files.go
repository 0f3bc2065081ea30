package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Files are the paths, below a registry's folder, of all that it has stored, in an
// order in which they can be copied while it is in use: what names something comes
// before what it names. Uploads that are under way are not among them. After an
// error nothing more comes.
func Files(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		stopped := errors.New("stopped")
		for _, part := range []string{"_tags", string(manifests), "_referrers", string(blobs)} {
			err := eachRepository(filepath.Join(dir, "repos"), func(repo string) error {
				return filepath.WalkDir(filepath.Join(repo, part), func(path string, d fs.DirEntry, err error) error {
					if errors.Is(err, fs.ErrNotExist) { // no such part, or deleted while we look
						return nil
					}
					if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".tmp-") {
						return err
					}
					rel, err := filepath.Rel(dir, path)
					if err == nil && !yield(rel, nil) {
						return stopped
					}
					return err
				})
			})
			if errors.Is(err, stopped) {
				return
			} else if err != nil {
				yield("", err)
				return
			}
		}
	}
}

// eachRepository calls f for the folder of each name that may be a repository's.
// Parts of a repository begin with an underscore, which names never do.
func eachRepository(root string, f func(dir string) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !d.IsDir() || path == root:
			return nil
		case d.Name()[0] == '_':
			return fs.SkipDir
		}
		return f(path)
	})
}

// Hold keeps garbage collection, of this or another process, from beginning in a
// registry's folder until release is called: what is copied piece by piece stays whole.
func Hold(dir string) (release func(), err error) { return hold(dir, syscall.LOCK_SH) }

// hold locks the folder of repositories itself: shared by whoever needs what is
// stored to stay, alone by garbage collection.
func hold(dir string, how int) (release func(), err error) {
	f, err := os.Open(filepath.Join(dir, "repos"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("the registry's folder is being backed up, or its garbage collected; try again later")
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() {
		// A child process that is being started holds a copy of the file, and with it the
		// lock, for a moment longer.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		_ = f.Close()
	}, nil
}
