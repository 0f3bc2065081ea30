package registry

import (
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// usage counts the bytes of blobs, manifests and unfinished uploads for each
// quota. A blob that is mounted counts in every repository that has it. All of
// its methods may be called on nil, which counts nothing.
type usage struct {
	quotas []quota
	seed   maphash.Seed
	paths  [64]sync.Mutex // by hash: who replaces a file and who measures it are one

	mu      sync.Mutex
	used    []int64 // of each quota
	uploads map[string]charge
}

// charge is what an unfinished upload has taken.
type charge struct {
	repo  string
	bytes int64
}

func newUsage(quotas []quota) *usage {
	return &usage{quotas: quotas, seed: maphash.MakeSeed(), used: make([]int64, len(quotas)), uploads: map[string]charge{}}
}

// add counts n more bytes in repo, or refuses with errQuota and counts nothing.
// Fewer bytes (n < 0) are always taken.
func (u *usage) add(repo string, n int64) error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.addLocked(repo, n)
}

func (u *usage) addLocked(repo string, n int64) error {
	if err := u.check(repo, n); err != nil {
		return err
	}
	u.count(repo, n)
	return nil
}

// check is errQuota when n more bytes are too many; the caller holds mu.
func (u *usage) check(repo string, n int64) error {
	for i, q := range u.quotas {
		if n > 0 && n > q.bytes-u.used[i] && matchAny(q.repositories, repo) {
			return errQuota.with("this would go beyond the quota of %s; delete something or ask for more", q.said)
		}
	}
	return nil
}

// fits is errQuota when n more bytes would be too many now. It is asked before a
// body is read.
func (u *usage) fits(repo string, n int64) error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.check(repo, n)
}

// grow counts n more bytes of an unfinished upload.
func (u *usage) grow(id, repo string, n int64) error {
	if u == nil || n == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.uploads[id]
	if c.repo == "" {
		c.repo = repo
	}
	if err := u.addLocked(c.repo, n); err != nil {
		return err
	}
	c.bytes += n
	u.uploads[id] = c
	return nil
}

// drop forgets what an upload has taken: its file is gone, or it is now a blob.
func (u *usage) drop(id string) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.uploads[id]
	delete(u.uploads, id)
	_ = u.addLocked(c.repo, -c.bytes) // fewer is never refused
}

// replace puts a file of size bytes where path is with put, and counts the
// difference. After an error nothing is counted.
func (u *usage) replace(repo, path string, size int64, put func() error) error {
	if u == nil {
		return put()
	}
	l := &u.paths[maphash.String(u.seed, path)%uint64(len(u.paths))]
	l.Lock()
	defer l.Unlock()
	more := size - sizeOf(path)
	if err := u.add(repo, more); err != nil {
		return err
	}
	if err := put(); err != nil {
		_ = u.add(repo, -more)
		return err
	}
	return nil
}

// sizeOf is a file's size, 0 when it is not there.
func sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// remove deletes a file durably and counts what it held no more; a file that is
// not there is fs.ErrNotExist.
func (s *Server) remove(repo, path string) error {
	if s.usage == nil {
		return remove(path)
	}
	size := sizeOf(path)
	err := remove(path)
	if err == nil {
		_ = s.usage.add(repo, -size)
	}
	return err
}

// measure counts what is stored. Uploads of repositories that are not there yet
// count for nobody until they go on.
func (s *Server) measure(quotas []quota) (*usage, error) {
	u := newUsage(quotas)
	marks := map[string]string{}
	err := s.eachRepo(func(repo string) error {
		marks[repoMark(repo)] = repo
		var sum int64
		for _, k := range []kind{blobs, manifests} {
			err := s.eachContent(repo, k, func(_ evidence.Digest, st fs.FileInfo) error {
				sum += st.Size()
				return nil
			})
			if err != nil {
				return err
			}
		}
		u.count(repo, sum)
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || len(e.Name()) != 48 {
			continue
		}
		if repo := marks[e.Name()[32:]]; repo != "" {
			u.count(repo, st.Size())
			u.uploads[e.Name()] = charge{repo, st.Size()}
		}
	}
	return u, nil
}

// count counts n bytes, whether or not that is more than a quota allows; the
// caller holds mu, or is alone.
func (u *usage) count(repo string, n int64) {
	for i, q := range u.quotas {
		if matchAny(q.repositories, repo) {
			u.used[i] += n
		}
	}
}

// eachRepo calls f with every repository that was ever pushed to.
func (s *Server) eachRepo(f func(repo string) error) error {
	root := filepath.Join(s.dir, "repos")
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != root:
			return nil // gone meanwhile
		case err != nil:
			return err
		case !e.IsDir() || path == root:
			return nil
		case strings.HasPrefix(e.Name(), "_"):
			return fs.SkipDir
		}
		for _, k := range []kind{blobs, manifests} {
			if _, err := os.Stat(filepath.Join(path, string(k))); err != nil {
				continue
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return f(filepath.ToSlash(name))
		}
		return nil
	})
}

// eachContent calls f with every stored file of a kind in a repository. What is
// removed meanwhile is passed over.
func (s *Server) eachContent(repo string, k kind, f func(d evidence.Digest, st fs.FileInfo) error) error {
	for _, algorithm := range []string{"sha256", "sha512"} {
		dir := filepath.Join(s.repoDir(repo), string(k), algorithm)
		entries, err := names(dir)
		if err != nil {
			return err
		}
		for _, name := range entries {
			d, err := parseDigest(algorithm + ":" + name)
			if err != nil {
				return &damagedError{filepath.Join(dir, name), "its name is not a digest"}
			}
			st, err := os.Lstat(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := f(d, st); err != nil {
				return err
			}
		}
	}
	return nil
}

// chargedReader counts what it reads for an upload, and ends with errQuota when
// that is too much.
type chargedReader struct {
	r     io.Reader
	usage *usage
	id    string
	repo  string
	n     int64 // counted
	err   error
}

func (c *chargedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		if c.err = c.usage.grow(c.id, c.repo, int64(n)); c.err != nil {
			return 0, c.err
		}
		c.n += int64(n)
	}
	return n, err
}

// back counts everything that was read no more.
func (c *chargedReader) back() {
	_ = c.usage.grow(c.id, c.repo, -c.n) // fewer is never refused
	c.n = 0
}
