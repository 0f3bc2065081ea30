package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// Limits of a tree that is written out.
const (
	maxTreeSize  = 16 << 20
	maxFileSize  = 4 << 30
	maxTreeDepth = 256
	maxFiles     = 1 << 20
)

// Export writes the tree of the commit below dir, which must exist and be
// empty: exactly the bytes that the commit names, each file hashed against its
// id. No filter, no line-end conversion, no export-ignore, no hook, no
// submodule. Symbolic links are made but never followed, times are the
// commit's. warnings tell what a person may miss.
func (s *Source) Export(ctx context.Context, dir string) (warnings []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := s.run.batch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	e := &exporter{ctx: ctx, root: root, batch: b, hexLen: len(s.Commit.Tree), when: s.Commit.Committer.When}
	if err := e.tree(s.Commit.Tree, ".", 0); err != nil {
		return nil, fmt.Errorf("writing the tree of commit %s: %w", short(s.Commit.ID), err)
	}
	if len(e.submodules) > 0 {
		warnings = append(warnings, "submodules are not fetched, their folders are empty: "+strings.Join(e.submodules, ", "))
	} else if e.gitmodules {
		warnings = append(warnings, ".gitmodules names submodules; submodules are not fetched")
	}
	return warnings, nil
}

type exporter struct {
	ctx        context.Context
	root       *os.Root
	batch      *batch
	hexLen     int
	when       time.Time
	files      int
	gitmodules bool
	submodules []string
}

// treeEntry is one entry of a tree object: "mode SP name NUL raw-id".
type treeEntry struct{ mode, name, id string }

// tree writes one directory. Its parent was made by us, so os.Root meets no
// link in it; names that could leave it or shadow git's own files are refused.
func (e *exporter) tree(id, dir string, depth int) error {
	if depth > maxTreeDepth {
		return fmt.Errorf("%s: folders nest deeper than %d", dir, maxTreeDepth)
	}
	kind, content, err := e.batch.object(id, maxTreeSize)
	if err != nil {
		return err
	}
	if kind != "tree" || hashObject("tree", content, e.hexLen) != id {
		return fmt.Errorf("%s: object %s is not the tree that its id promises", dir, id)
	}
	entries, err := parseTree(content, e.hexLen)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, entry := range entries {
		if err := e.entry(entry, path.Join(dir, entry.name), depth); err != nil {
			return err
		}
	}
	return e.root.Chtimes(dir, e.when, e.when)
}

func (e *exporter) entry(entry treeEntry, name string, depth int) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if e.files++; e.files > maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	switch entry.mode {
	case "40000":
		if err := e.mkdir(name); err != nil {
			return err
		}
		return e.tree(entry.id, name, depth+1)
	case "160000":
		e.submodules = append(e.submodules, name)
		if err := e.mkdir(name); err != nil {
			return err
		}
		return e.root.Chtimes(name, e.when, e.when)
	case "120000":
		return e.link(entry.id, name)
	case "100644", "100755", "100664":
		e.gitmodules = e.gitmodules || name == ".gitmodules"
		perm := os.FileMode(0o644)
		if entry.mode == "100755" {
			perm = 0o755
		}
		return e.file(entry.id, name, perm)
	}
	return fmt.Errorf("%s: mode %s is not one that git writes", name, clip(entry.mode))
}

// mkdir makes a folder with the same mode whatever the umask: it ends in the image.
func (e *exporter) mkdir(name string) error {
	if err := e.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return e.root.Chmod(name, 0o755)
}

func (e *exporter) link(id, name string) error {
	kind, target, err := e.batch.object(id, 4096)
	if err != nil {
		return err
	}
	if kind != "blob" || hashObject("blob", target, e.hexLen) != id || bytes.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("%s: object %s is not the link that its id promises", name, id)
	}
	return e.root.Symlink(string(target), name)
}

func (e *exporter) file(id, name string, perm os.FileMode) (err error) {
	kind, size, err := e.batch.header(id)
	if err != nil {
		return err
	}
	if kind != "blob" || size > maxFileSize {
		return fmt.Errorf("%s: object %s is a %s of %d bytes, want a blob of at most %d", name, id, kind, size, int64(maxFileSize))
	}
	f, err := e.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	sum := newObjectHash("blob", size, e.hexLen)
	_, err = io.CopyN(io.MultiWriter(f, sum), e.batch.out.r, size)
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	if err := e.batch.out.newline(); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != id {
		return fmt.Errorf("%s: object %s has the content of %s", name, id, got)
	}
	if err := e.root.Chmod(name, perm); err != nil { // whatever the umask
		return err
	}
	return e.root.Chtimes(name, e.when, e.when)
}

// parseTree reads a tree object strictly.
func parseTree(content []byte, hexLen int) ([]treeEntry, error) {
	var entries []treeEntry
	seen := map[string]bool{}
	for len(content) > 0 {
		head, rest, ok := bytes.Cut(content, []byte{0})
		mode, name, ok2 := strings.Cut(string(head), " ")
		if !ok || !ok2 || len(rest) < hexLen/2 {
			return nil, fmt.Errorf("its tree object cannot be read")
		}
		if err := checkEntryName(name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("its tree object names %q twice", clip(name))
		}
		seen[name] = true
		entries = append(entries, treeEntry{mode, name, fmt.Sprintf("%x", rest[:hexLen/2])})
		content = rest[hexLen/2:]
	}
	return entries, nil
}

func checkEntryName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || strings.EqualFold(name, ".git") {
		return fmt.Errorf("a file named %q is not accepted", clip(name))
	}
	return nil
}
