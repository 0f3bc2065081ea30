package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// kind is a folder of content under its digests.
type kind string

const (
	blobs     kind = "_blobs"
	manifests kind = "_manifests"
)

func (s *Server) repoDir(repo string) string {
	return filepath.Join(s.dir, "repos", filepath.FromSlash(repo))
}

// content is where the bytes of a digest live in a repository.
func (s *Server) content(repo string, k kind, d evidence.Digest) string {
	return filepath.Join(s.repoDir(repo), string(k), d.Algorithm(), d.Hex())
}

func (s *Server) tagPath(repo, tag string) string {
	return filepath.Join(s.repoDir(repo), "_tags", tag)
}

// exists reports whether the repository has ever been pushed to.
func (s *Server) exists(repo string) bool {
	st, err := os.Stat(filepath.Join(s.repoDir(repo), string(manifests)))
	return err == nil && st.IsDir()
}

func newHash(algorithm string) hash.Hash {
	if algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func sum(h hash.Hash, algorithm string) evidence.Digest {
	return evidence.Digest(algorithm + ":" + hex.EncodeToString(h.Sum(nil)))
}

func digestOf(data []byte, algorithm string) evidence.Digest {
	h := newHash(algorithm)
	h.Write(data)
	return sum(h, algorithm)
}

// dirCache knows the folders whose names are already durable. Making one is
// done alone: a folder that another request has made but not yet synced must
// not carry an acknowledged file.
type dirCache struct {
	mu    sync.Mutex
	known map[string]bool
}

func (c *dirCache) ensure(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[dir] {
		return nil
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if c.known == nil || len(c.known) > 100_000 {
		c.known = map[string]bool{}
	}
	c.known[dir] = true
	return nil
}

// readManifest is the manifest with digest d, checked against it. A manifest
// that is not there is errManifestUnknown.
func (s *Server) readManifest(repo string, d evidence.Digest) ([]byte, error) {
	path := s.content(repo, manifests, d)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errManifestUnknown
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, s.cfg.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if digestOf(data, d.Algorithm()) != d {
		return nil, &damagedError{path, "its content does not match its digest"}
	}
	return data, nil
}

// readTag is the digest that a tag names.
func (s *Server) readTag(repo, tag string) (evidence.Digest, error) {
	path := s.tagPath(repo, tag)
	data, err := durable.ReadSealed(path)
	var corrupt *durable.CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errManifestUnknown.with("no such tag in this repository")
	case errors.As(err, &corrupt):
		return "", &damagedError{path, corrupt.Why}
	case err != nil:
		return "", err
	}
	d, err := parseDigest(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return "", &damagedError{path, "it does not hold a digest"}
	}
	return d, nil
}

// stamp identifies the state of a file: a changed file has another one.
type stamp struct {
	ino                uint64
	size, mtime, ctime int64
}

func stampOf(st fs.FileInfo) stamp {
	v := stamp{size: st.Size(), mtime: st.ModTime().UnixNano(), ctime: durable.ChangedAt(st)}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		v.ino = sys.Ino
	}
	return v
}

// verifiedCache remembers which blob files were hashed in which state, so that
// a blob is read twice only after a restart or a change of the file.
type verifiedCache struct {
	mu    sync.Mutex
	known map[verifiedFile]bool
}

type verifiedFile struct {
	digest evidence.Digest
	stamp  stamp
}

const maxVerified = 100_000

func (c *verifiedCache) has(d evidence.Digest, v stamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[verifiedFile{d, v}]
}

func (c *verifiedCache) add(d evidence.Digest, v stamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxVerified {
		c.known = map[verifiedFile]bool{}
	}
	c.known[verifiedFile{d, v}] = true
}

// openBlob opens a blob whose bytes match its digest. A blob that is not there
// is errBlobUnknown. Whoever got the file reads what was checked: stored files
// are replaced, never written in place.
func (s *Server) openBlob(repo string, d evidence.Digest) (*os.File, fs.FileInfo, error) {
	path := s.content(repo, blobs, d)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errBlobUnknown
	}
	if err != nil {
		return nil, nil, err
	}
	st, err := s.checkBlob(f, path, d)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

func (s *Server) checkBlob(f *os.File, path string, d evidence.Digest) (fs.FileInfo, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if s.verified.has(d, stampOf(st)) {
		return st, nil
	}
	h := newHash(d.Algorithm())
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	if sum(h, d.Algorithm()) != d {
		return nil, &damagedError{path, "its content does not match its digest"}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	s.verified.add(d, stampOf(st))
	return st, nil
}

// install moves a finished, synced file of size bytes to the place of its blob.
// It replaces what is there: that can only be the same bytes, or a damaged copy.
func (s *Server) install(tmp, repo string, d evidence.Digest, size int64) error {
	dst := s.content(repo, blobs, d)
	if err := s.dirs.ensure(filepath.Dir(dst)); err != nil {
		return err
	}
	if err := s.usage.replace(repo, dst, size, func() error { return os.Rename(tmp, dst) }); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dst))
}

// remove deletes a file durably; a file that is not there is fs.ErrNotExist.
func remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// names lists a folder's entries of ours; temporary files begin with a dot. A
// folder that is not there is empty.
func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	kept := all[:0]
	for _, n := range all {
		if !strings.HasPrefix(n, ".") {
			kept = append(kept, n)
		}
	}
	return kept, nil
}
