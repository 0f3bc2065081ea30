package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Contents are what a registry's folder holds.
type Contents struct {
	Repositories, Manifests, Blobs, Tags int
	Bytes                                int64 // of manifests and blobs, mounted ones counted in each repository
}

// Check reads a registry's folder, which may be in use, and derives everything
// again: the digest of each blob and manifest, what each manifest names, each tag,
// and the referrers of each subject. It changes nothing. What does not hold is
// reported in no particular order; of content that is not that of its digest no
// byte can be named, since any of them may be the wrong one.
func Check(dir string, report func(durable.Damage)) (Contents, error) {
	c := checker{s: &Server{dir: dir, cfg: Config{MaxManifest: defaultMaxManifest}}, tell: report}
	root := filepath.Join(dir, "repos")
	var repos []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir() || path == root:
			return nil
		case d.Name()[0] == '_':
			return fs.SkipDir
		case isDir(filepath.Join(path, string(manifests))) || isDir(filepath.Join(path, string(blobs))):
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			repos = append(repos, filepath.ToSlash(name))
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		c.report(root, "it is missing")
		return Contents{}, nil
	} else if err != nil {
		return Contents{}, err
	}
	for _, repo := range repos {
		if err := c.repository(repo); err != nil {
			return Contents{}, err
		}
	}
	return c.found, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// checker checks repositories, their content on all processors.
type checker struct {
	s     *Server
	mu    sync.Mutex // tell and found
	tell  func(durable.Damage)
	found Contents
}

func (c *checker) report(path, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(durable.Damage{Path: path, Offset: -1, Why: fmt.Sprintf(format, args...)})
}

// lost reports what a file names and is not there, if the file itself still is.
func (c *checker) lost(path, format string, args ...any) {
	if !there(path) {
		return // deleted while we look
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(durable.Damage{Path: path, Offset: -1, Why: fmt.Sprintf(format, args...), Lost: true})
}

func (c *checker) count(add func(f *Contents)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.found)
}

func (c *checker) repository(repo string) error {
	c.count(func(f *Contents) { f.Repositories++ })
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	err := c.contents(repo, blobs, func(d evidence.Digest) { g.Go(func() error { return c.blob(repo, d) }) })
	if err == nil {
		err = c.contents(repo, manifests, func(d evidence.Digest) { g.Go(func() error { return c.manifest(repo, d) }) })
	}
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	tags, err := names(filepath.Join(c.s.repoDir(repo), "_tags"))
	if err != nil {
		return err
	}
	slices.Sort(tags)
	for _, tag := range tags {
		if err := c.tag(repo, tag); err != nil {
			return err
		}
	}
	return nil
}

// contents calls each for the digests that a folder has files of.
func (c *checker) contents(repo string, k kind, each func(evidence.Digest)) error {
	dir := filepath.Join(c.s.repoDir(repo), string(k))
	algorithms, err := names(dir)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		hexes, err := names(filepath.Join(dir, a))
		if err != nil {
			return err
		}
		for _, h := range hexes {
			d, err := parseDigest(a + ":" + h)
			if err != nil {
				c.report(filepath.Join(dir, a, h), "its name is not a digest")
				continue
			}
			each(d)
		}
	}
	return nil
}

func (c *checker) blob(repo string, d evidence.Digest) error {
	path := c.s.content(repo, blobs, d)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted while we look
	} else if err != nil {
		return err
	}
	defer f.Close()
	h := newHash(d.Algorithm())
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if sum(h, d.Algorithm()) != d {
		c.report(path, "its %d bytes are not those of its digest", n)
	}
	c.count(func(f *Contents) { f.Blobs++; f.Bytes += n })
	return nil
}

// manifest checks a manifest, that what it names is there, and that it is listed
// among the referrers of its subject.
func (c *checker) manifest(repo string, d evidence.Digest) error {
	path := c.s.content(repo, manifests, d)
	data, err := c.s.readManifest(repo, d)
	var damaged *damagedError
	switch {
	case errors.Is(err, errManifestUnknown):
		return nil // deleted while we look
	case errors.As(err, &damaged):
		c.count(func(f *Contents) { f.Manifests++ })
		c.report(path, "its bytes are not those of its digest")
		return nil
	case err != nil:
		return err
	}
	c.count(func(f *Contents) { f.Manifests++; f.Bytes += int64(len(data)) })
	m, err := parseManifest(data, "")
	if err != nil {
		c.report(path, "it cannot be read: %s", err)
		return nil
	}
	for _, b := range m.Blobs {
		if !b.Foreign && !there(c.s.content(repo, blobs, b.Digest)) {
			c.lost(path, "it names the blob %s, which is deleted or lost", b.Digest)
		}
	}
	for _, child := range m.Manifests {
		// An index may name blobs: BuildKit's cache does.
		if !child.Foreign && !there(c.s.content(repo, manifests, child.Digest)) && !there(c.s.content(repo, blobs, child.Digest)) {
			c.lost(path, "it names %s, which is deleted or lost", child.Digest)
		}
	}
	if m.Subject != nil && !there(c.s.referrerEntry(repo, m.Subject.Digest, d)) && there(path) {
		c.report(c.s.referrerEntry(repo, m.Subject.Digest, d), "it is missing: %s refers to this subject and would not be found", d)
	}
	return nil
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (c *checker) tag(repo, tag string) error {
	c.count(func(f *Contents) { f.Tags++ })
	path := c.s.tagPath(repo, tag)
	d, err := c.s.readTag(repo, tag)
	var damaged *damagedError
	var gone *apiError
	switch {
	case errors.As(err, &damaged):
		c.report(path, "%s", damaged.why)
	case errors.As(err, &gone): // deleted while we look
	case err != nil:
		return err
	case !there(c.s.content(repo, manifests, d)):
		c.lost(path, "it names the manifest %s, which is deleted or lost", d)
	}
	return nil
}
