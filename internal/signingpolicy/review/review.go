// Package review says what changed between two commits of a repository, for people who
// are to approve the later one: commits, authors, files, dependencies, workflows. It reads
// objects and runs nothing of the repository. All its texts can be shown on a terminal.
package review

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// Limits of what is read; what lies beyond is counted, or said to be unread.
const (
	MaxFiles   = 10_000  // that are named
	MaxCommits = 10_000  // that are read for their authors
	maxEntries = 500_000 // of trees, both sides together
	maxDepth   = 256
	maxLines   = 1 << 20   // bytes of a file whose lines are counted
	maxRead    = 256 << 20 // bytes of all of them
	maxText    = 512 << 10 // bytes of a manifest
	maxNames   = 10_000    // packages that are named
)

// Review is what changed from base to head.
type Review struct {
	Base, Head string // ids of commits; Base "" when there is nothing to compare with
	Range      *git.Range
	Authors    []Author // by number of commits, most first
	Changes
}

// Changes are the differences of two trees.
type Changes struct {
	Files       []File // sorted by path, at most [MaxFiles]
	FilesTotal  int
	Added       int // lines, over all files whose lines were counted
	Removed     int
	Uncounted   int      // files whose lines were not counted: binary, too large, or too many
	Workflows   []string // paths of files that say what CI systems run, added, changed or removed
	NewPackages []Package
	Unread      []string // paths of manifests that could not be read: what they name is not known
}

// Author is one of the people that the commits name: a claim of whoever made them.
type Author struct {
	Name, Email string
	Commits     int
}

// File is one that is different.
type File struct {
	Path     string
	Status   string // "added", "removed", "changed", "mode" (only its mode)
	Mode     string // new mode when it changed or is new and not "100644": "100755", "120000", "160000"; else ""
	Added    int    // lines
	Removed  int
	Binary   bool // or too large: its lines are not counted
	Workflow bool
}

// Package is a dependency that a manifest names now and did not before, or names with
// another version.
type Package struct {
	Manifest string // path of the file
	System   string // "go", "npm", "pypi", "image", "submodule"
	Name     string
	Version  string // as written; "" when none is
	Was      string // version before; "" for a new one
	New      bool   // the manifest did not name it before
}

// Objects gives trees and files by their ids. [git.Reader] does.
type Objects interface {
	Tree(id string) ([]git.Entry, error)
	Blob(id string, limit int64) (content []byte, size int64, err error)
}

// Of compares two commits of a repository; base "" compares with nothing.
func Of(ctx context.Context, r *git.Repository, base, head string) (_ *Review, err error) {
	out := &Review{Base: base, Head: head}
	if out.Range, err = r.Between(ctx, base, head, MaxCommits); err != nil {
		return nil, err
	}
	out.Authors = authors(out.Range.Commits)
	ids := []string{head}
	if base != "" {
		ids = append(ids, base)
	}
	objects, err := r.Reader(ctx, ids...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, objects.Close()) }()
	trees := make([]string, 2)
	for i, id := range ids {
		c, err := objects.Commit(id)
		if err != nil {
			return nil, err
		}
		trees[i] = c.Tree
	}
	changes, err := Compare(ctx, objects, trees[1], trees[0])
	if err != nil {
		return nil, err
	}
	out.Changes = *changes
	return out, nil
}

func authors(commits []*git.Commit) []Author {
	count := map[[2]string]int{}
	for _, c := range commits {
		count[[2]string{plain(c.Author.Name), plain(c.Author.Email)}]++
	}
	out := make([]Author, 0, len(count))
	for who, n := range count {
		out = append(out, Author{who[0], who[1], n})
	}
	slices.SortFunc(out, func(a, b Author) int {
		if a.Commits != b.Commits {
			return b.Commits - a.Commits
		}
		return strings.Compare(a.Name+"\x00"+a.Email, b.Name+"\x00"+b.Email)
	})
	return out
}

// plain is a text that does to a terminal, and to the order in which it is read, nothing.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			return 0xfffd
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
