package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Garbage, in one repository, is what nothing there needs any more:
//
//   - a referrer whose subject was here and is gone, and its referrers in turn;
//   - with Untagged, a manifest that neither has a tag nor is part of, or refers
//     to, one that is kept;
//   - a blob that no manifest which is kept names.
//
// A referrer whose subject never was here is kept: signatures may be stored apart
// from what they sign. What is younger than the grace time, or was lately looked
// for or pushed again, is kept too: its push may go on.

// Collected is what a garbage collection removed, or would remove.
type Collected struct {
	Repositories []CollectedRepository // those with garbage, or that could not be judged
	Manifests    int
	Blobs        int
	Bytes        int64 // that become free on the disk
}

// CollectedRepository is the part of one repository.
type CollectedRepository struct {
	Name      string
	Manifests []evidence.Digest
	Blobs     []evidence.Digest
	Bytes     int64 // that become free on the disk: a blob that is mounted elsewhere stays there
	Problem   string
}

// Collect removes garbage. In a repository in which something cannot be read
// nothing is removed, and its Problem says why. Requests go on meanwhile; a
// collection that is stopped leaves less garbage and nothing broken.
func (s *Server) Collect(ctx context.Context, how Schedule, dryRun bool) (Collected, error) {
	var all Collected
	if how.Grace < minGrace {
		return all, fmt.Errorf("the grace time of a garbage collection is at least %s", minGrace)
	}
	if !dryRun {
		release, err := hold(s.dir, syscall.LOCK_EX)
		if err != nil {
			return all, err
		}
		defer release()
		s.sweepUploads()
	}
	err := s.eachRepo(func(repo string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := s.collectRepo(repo, how, dryRun)
		if err != nil {
			c.Problem = err.Error()
			s.cfg.Log.ErrorContext(ctx, "garbage collection left a repository alone", "repository", repo, "err", err.Error())
		}
		if len(c.Manifests)+len(c.Blobs) == 0 && c.Problem == "" {
			return nil
		}
		c.Name = repo
		all.Repositories = append(all.Repositories, c)
		all.Manifests += len(c.Manifests)
		all.Blobs += len(c.Blobs)
		all.Bytes += c.Bytes
		return nil
	})
	return all, err
}

// maxMarks is how often a repository is looked through beside pushes; then they wait.
const maxMarks = 3

func (s *Server) collectRepo(repo string, how Schedule, dryRun bool) (CollectedRepository, error) {
	if dryRun {
		g, err := s.mark(repo, how)
		if err != nil {
			return CollectedRepository{}, err
		}
		return g.collected(), nil
	}
	s.sweepTemporary(repo, how)
	l := s.lock(repo)
	for range maxMarks {
		before := l.changes.Load()
		g, err := s.mark(repo, how)
		if err != nil || len(g.manifests)+len(g.blobs) == 0 {
			return CollectedRepository{}, err
		}
		l.Lock()
		if l.changes.Load() == before && !s.wanted(repo, g, how) {
			defer l.Unlock()
			return s.sweep(repo, g, how)
		}
		l.Unlock() // something was pushed or asked for: what was garbage may be needed now
	}
	l.Lock()
	defer l.Unlock()
	g, err := s.mark(repo, how)
	if err != nil {
		return CollectedRepository{}, err
	}
	return s.sweep(repo, g, how)
}

// wanted reports whether a client has lately asked for some of the garbage.
func (s *Server) wanted(repo string, g *garbage, how Schedule) bool {
	young := s.cfg.Now().Add(-how.Grace)
	for _, m := range g.manifests {
		if s.seen.within(repo, m.digest, young) {
			return true
		}
	}
	return slices.ContainsFunc(g.blobs, func(b deadFile) bool { return s.seen.within(repo, b.digest, young) })
}

// garbage is what a mark found, in the order in which it can be removed: nothing
// before what names it.
type garbage struct {
	manifests []deadManifest
	blobs     []deadFile
}

type deadFile struct {
	digest evidence.Digest
	path   string
	bytes  int64 // that removing it frees
}

type deadManifest struct {
	deadFile
	subject evidence.Digest // "" without one
}

func (g *garbage) collected() CollectedRepository {
	var c CollectedRepository
	for _, m := range g.manifests {
		c.Manifests = append(c.Manifests, m.digest)
		c.Bytes += m.bytes
	}
	for _, b := range g.blobs {
		c.Blobs = append(c.Blobs, b.digest)
		c.Bytes += b.bytes
	}
	return c
}

// graph is a repository's manifests and what they name.
type graph struct {
	manifests map[evidence.Digest]*node
	tagged    map[evidence.Digest]bool
	referrers map[evidence.Digest][]evidence.Digest // by subject
	blobs     map[evidence.Digest]bool              // named by something that lives
}

type node struct {
	parts   []evidence.Digest // blobs and manifests
	subject evidence.Digest
	size    int64
	age     time.Time // since when it is here
	alive   bool
}

// mark finds the garbage of a repository.
func (s *Server) mark(repo string, how Schedule) (*garbage, error) {
	g, err := s.readGraph(repo)
	if err != nil {
		return nil, err
	}
	young := s.cfg.Now().Add(-how.Grace)
	var work []evidence.Digest
	for d, n := range g.manifests {
		root, err := s.isRoot(repo, g, d, n, how, young)
		if err != nil {
			return nil, err
		}
		if root {
			work = append(work, d)
		}
	}
	for len(work) > 0 {
		d := work[len(work)-1]
		work = work[:len(work)-1]
		g.blobs[d] = true // an index may name what is stored as a blob
		n := g.manifests[d]
		if n == nil || n.alive {
			continue
		}
		n.alive = true
		work = append(append(work, n.parts...), g.referrers[d]...)
	}
	dead := &garbage{manifests: g.dead(func(d evidence.Digest) string { return s.content(repo, manifests, d) })}
	err = s.eachContent(repo, blobs, func(d evidence.Digest, st fs.FileInfo) error {
		if !g.blobs[d] && !changed(st).After(young) && !s.seen.within(repo, d, young) {
			dead.blobs = append(dead.blobs, deadFile{d, s.content(repo, blobs, d), freed(st)})
		}
		return nil
	})
	return dead, err
}

// isRoot reports whether a manifest lives whatever else does.
func (s *Server) isRoot(repo string, g *graph, d evidence.Digest, n *node, how Schedule, young time.Time) (bool, error) {
	switch {
	case g.tagged[d], n.age.After(young), s.seen.within(repo, d, young):
		return true, nil
	case n.subject == "":
		return !how.Untagged, nil
	case g.manifests[n.subject] != nil:
		return false, nil // it lives when its subject does
	}
	_, err := os.Lstat(s.gonePath(repo, n.subject))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // its subject never was here
	}
	return false, err
}

// readGraph reads every tag and manifest of a repository. One that cannot be read
// is an error: what it names is not known.
func (s *Server) readGraph(repo string) (*graph, error) {
	g := &graph{map[evidence.Digest]*node{}, map[evidence.Digest]bool{}, map[evidence.Digest][]evidence.Digest{}, map[evidence.Digest]bool{}}
	// Manifests before tags: a tag of one that came in between is then merely unknown.
	err := s.eachContent(repo, manifests, func(d evidence.Digest, st fs.FileInfo) error {
		data, err := s.readManifest(repo, d)
		if errors.Is(err, errManifestUnknown) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		m, err := parseManifest(data, "")
		if err != nil {
			return fmt.Errorf("stored manifest %s: %w", d, err)
		}
		n := &node{size: freed(st), age: changed(st)}
		for _, p := range slices.Concat(m.Blobs, m.Manifests) {
			n.parts = append(n.parts, p.Digest)
		}
		if m.Subject != nil {
			n.subject = m.Subject.Digest
			g.referrers[n.subject] = append(g.referrers[n.subject], d)
		}
		g.manifests[d] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	tags, err := names(filepath.Join(s.repoDir(repo), "_tags"))
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		d, err := s.readTag(repo, tag)
		if errors.Is(err, errManifestUnknown) || errors.As(err, new(*apiError)) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		g.tagged[d] = true
	}
	return g, nil
}

// dead lists the manifests that do not live, each before its parts and its subject.
func (g *graph) dead(path func(evidence.Digest) string) []deadManifest {
	named := map[evidence.Digest]int{} // by how many that are dead
	for d, n := range g.manifests {
		if n.alive {
			continue
		}
		named[d] += 0
		for _, p := range append(slices.Clone(n.parts), n.subject) {
			named[p]++
		}
	}
	var ready []evidence.Digest
	for d, n := range g.manifests {
		if !n.alive && named[d] == 0 {
			ready = append(ready, d)
		}
	}
	slices.Sort(ready)
	var out []deadManifest
	for len(ready) > 0 {
		d := ready[0]
		ready = ready[1:]
		n := g.manifests[d]
		out = append(out, deadManifest{deadFile{d, path(d), n.size}, n.subject})
		for _, p := range append(slices.Clone(n.parts), n.subject) {
			if named[p]--; named[p] == 0 && g.manifests[p] != nil && !g.manifests[p].alive {
				ready = append(ready, p)
			}
		}
	}
	return out // digests cannot form a circle
}

// sweep removes garbage; the caller holds the repository's lock alone and nothing
// was pushed since the mark.
func (s *Server) sweep(repo string, g *garbage, how Schedule) (CollectedRepository, error) {
	var done garbage
	young := s.cfg.Now().Add(-how.Grace)
	for _, m := range g.manifests {
		if err := s.removeManifest(repo, m.digest, m.subject); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done.collected(), err
		}
		done.manifests = append(done.manifests, m)
	}
	for _, b := range g.blobs {
		if s.seen.within(repo, b.digest, young) {
			continue // somebody has just asked for it
		}
		size := sizeOf(b.path)
		if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done.collected(), err
		}
		_ = s.usage.add(repo, -size) // fewer is never refused
		done.blobs = append(done.blobs, b)
	}
	// Nothing names these any more: that they are gone needs to be durable only now.
	for _, algorithm := range []string{"sha256", "sha512"} {
		err := durable.SyncDir(filepath.Join(s.repoDir(repo), string(blobs), algorithm))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done.collected(), err
		}
	}
	return done.collected(), nil
}

// removeManifest removes a manifest and its entry under its subject ("" is none);
// the caller holds the repository's lock alone. That it was here stays written
// down when it has referrers: they are garbage from now on, other than those whose
// subject is kept elsewhere.
func (s *Server) removeManifest(repo string, d, subject evidence.Digest) error {
	gone := s.gonePath(repo, d)
	if _, err := os.Stat(filepath.Dir(gone)); err == nil {
		if err := durable.WriteFile(gone, nil, 0o600); err != nil {
			return err
		}
	}
	if err := s.remove(repo, s.content(repo, manifests, d)); err != nil {
		return err
	}
	if subject == "" {
		return nil
	}
	if err := remove(s.referrerEntry(repo, subject, d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// gonePath is the file that says that a subject was here and was removed.
func (s *Server) gonePath(repo string, subject evidence.Digest) string {
	return filepath.Join(s.referrersDir(repo, subject), ".gone")
}

// sweepTemporary removes what an interrupted write has left in a repository. It
// does so alone, so that no write is under way whatever the clock says.
func (s *Server) sweepTemporary(repo string, how Schedule) {
	l := s.lock(repo)
	l.Lock()
	defer l.Unlock()
	young := s.cfg.Now().Add(-how.Grace)
	for _, dir := range []string{"_tags", "_manifests/sha256", "_manifests/sha512"} {
		left, _ := filepath.Glob(filepath.Join(s.repoDir(repo), dir, ".tmp-*")) // the pattern is ours
		for _, path := range left {
			if st, err := os.Lstat(path); err == nil && !changed(st).After(young) {
				_ = os.Remove(path)
			}
		}
	}
}

// changed is when a file came to its place, or was linked to another.
func changed(st fs.FileInfo) time.Time { return time.Unix(0, stampOf(st).ctime) }

// freed is how many bytes removing this name of a file gives back.
func freed(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 {
		return 0
	}
	return st.Size()
}

// Run collects garbage as the rules say until ctx ends.
func (s *Server) Run(ctx context.Context) {
	if s.cfg.Rules == nil || s.cfg.Rules.GC.Every == 0 {
		return
	}
	tick := time.NewTicker(s.cfg.Rules.GC.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c, err := s.Collect(ctx, s.cfg.Rules.GC, false)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.cfg.Log.ErrorContext(ctx, "garbage collection failed", "err", err.Error())
		default:
			s.cfg.Log.InfoContext(ctx, "garbage collected", "manifests", c.Manifests, "blobs", c.Blobs, "bytes", c.Bytes)
		}
	}
}
