// Package review says what changed between two commits of a repository, for people who
// are to approve the later one: commits, authors, files, dependencies, workflows. It reads
// objects and runs nothing of the repository.
package review

import (
	"context"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// Review is what changed from base to head.
type Review struct {
	Base, Head  string // ids of commits; Base "" when there is nothing to compare with
	Range       *git.Range
	Authors     []Author // by number of commits, most first
	Files       []File   // sorted by path, at most [MaxFiles]
	FilesTotal  int
	Added       int // lines, over all files whose lines were counted
	Removed     int
	Uncounted   int      // files that are binary or too large for their lines to be counted
	Workflows   []string // paths of workflow files that were added, changed or removed
	NewPackages []Package
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
	Mode     string // new mode when it changed: "100755", "120000"; else ""
	Added    int
	Removed  int
	Binary   bool // or too large: lines are not counted
	Workflow bool
}

// Package is a dependency that a manifest names now and did not before, or names with
// another version.
type Package struct {
	Manifest string // path of the file
	System   string // "go", "npm", "pypi", "image"
	Name     string
	Version  string // as written; "" when none is
	Was      string // version before; "" for a new one
}

// MaxFiles is how many files a review names.
const MaxFiles = 10_000

// Of compares two commits of a repository; base "" compares with nothing.
func Of(ctx context.Context, r *git.Repository, base, head string) (*Review, error) {
	panic("not yet")
}
