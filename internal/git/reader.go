package git

import (
	"context"
	"errors"
	"fmt"
)

// Reader reads objects by their ids, which are computed again. Close it.
type Reader struct {
	b      *batch
	hexLen int
}

// Entry is one of a folder in a commit.
type Entry struct {
	Mode string // "100644", "100755", "120000", "40000", "160000"
	Name string
	ID   string
}

// Reader makes ready the trees of the commits, which are fetched in full of a URL.
func (r *Repository) Reader(ctx context.Context, commits ...string) (*Reader, error) {
	hexLen := 0
	for _, id := range commits {
		if !validID(id) || hexLen != 0 && len(id) != hexLen {
			return nil, fmt.Errorf("%q is not the id of a commit here", clip(id))
		}
		hexLen = len(id)
	}
	run := r.run
	if !run.place && len(commits) > 0 {
		if r.trees == nil {
			trees, err := newRunner(r.Location)
			if err != nil {
				return nil, err
			}
			r.trees = trees
		}
		run = r.trees
		if err := run.init(ctx, hexLen); err != nil {
			return nil, err
		}
		args := []string{"-C", run.repo(), "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head",
			"--end-of-options", run.location.argument()}
		for _, id := range commits {
			args = append(args, "+"+id+":"+fetchedRef+"/"+id)
		}
		if _, err := run.run(ctx, "fetching "+commits[0], args...); err != nil {
			return nil, err
		}
	}
	b, err := run.batch(ctx)
	if err != nil {
		return nil, err
	}
	return &Reader{b, hexLen}, nil
}

// Close ends it.
func (r *Reader) Close() error { return r.b.close() }

func (r *Reader) object(kind, id string, limit int64) ([]byte, error) {
	got, content, err := r.b.object(id, limit)
	if err != nil {
		return nil, err
	}
	if got != kind || hashObject(kind, content, r.hexLen) != id {
		return nil, fmt.Errorf("object %s is not the %s that its id promises", id, kind)
	}
	return content, nil
}

// Commit reads a commit.
func (r *Reader) Commit(id string) (*Commit, error) {
	raw, err := r.object("commit", id, MaxCommitSize)
	if err != nil {
		return nil, err
	}
	c, why := ParseCommit(raw)
	if why != nil {
		return nil, errors.New(why.Message)
	}
	return c, nil
}

// Tree reads a folder.
func (r *Reader) Tree(id string) ([]Entry, error) {
	raw, err := r.object("tree", id, maxTreeSize)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(raw, r.hexLen)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{e.mode, e.name, e.id}
	}
	return out, nil
}

// Blob reads a file of at most limit bytes; a larger one is nil, with its size.
func (r *Reader) Blob(id string, limit int64) (content []byte, size int64, err error) {
	kind, size, err := r.b.header(id)
	if err != nil {
		return nil, 0, err
	}
	if kind != "blob" {
		return nil, 0, fmt.Errorf("object %s is not the blob that its id promises", id)
	}
	if size > limit {
		return nil, size, r.b.skip(size)
	}
	if content, err = r.b.content(size); err != nil {
		return nil, 0, fmt.Errorf("object %s: %w", id, err)
	}
	if hashObject("blob", content, r.hexLen) != id {
		return nil, 0, fmt.Errorf("object %s is not the blob that its id promises", id)
	}
	return content, size, nil
}
