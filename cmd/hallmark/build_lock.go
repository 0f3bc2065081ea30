package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/lockfile"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// readLock reads the lock of the commit and adds what it and --verified demand: the lock
// beside the Dockerfile or, without one there, that of the nearest folder above it. One
// that is there and cannot be read denies: what it says may be what a policy would deny for.
func (j *buildJob) readLock(ctx context.Context, src *git.Source, dockerfile string) (policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	var lock *lockText
	for dir := path.Dir(path.Clean(filepath.ToSlash(dockerfile))); lock == nil; dir = path.Dir(dir) {
		name := path.Join(dir, lockfile.Name)
		has, err := src.Has(ctx, name)
		if err != nil {
			return policy.Decision{}, err
		}
		if has {
			tree, err := j.export(ctx, src)
			if err != nil {
				return policy.Decision{}, err
			}
			if lock, err = lockIn(tree, name); err != nil {
				return policy.Deny(policy.Reason{Code: rego.CodeIncomplete, Subject: name,
					Message: fmt.Sprintf("%s of the commit cannot be read: %v", name, err),
					Hint:    "commit the lock as hallmark policy lock wrote it"}), nil
			}
		}
		if dir == "." {
			break
		}
	}
	return yes, j.addLock(src, lock)
}

// lockIn reads a lock of an exported tree, nil when it has none. Links out of the tree
// are not followed, and a link that leads nowhere is a lock that cannot be read.
func lockIn(dir, name string) (*lockText, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	data, err := rego.ReadBounded(root.FS(), name, lockfile.MaxSize)
	if err != nil {
		return nil, err
	}
	file, err := lockfile.Parse(data)
	return &lockText{name, data, file}, err
}

// lockOf is the name of the lock for what lies in a folder: there, or in the nearest folder
// above it within the checkout, as a build takes that of the commit.
func lockOf(dir string) string {
	beside := filepath.Join(dir, lockfile.Name)
	for at := dir; ; at = filepath.Join(at, "..") {
		name := filepath.Join(at, lockfile.Name)
		if _, err := os.Lstat(name); err == nil {
			return name
		}
		here, err := filepath.Abs(at)
		if _, top := os.Lstat(filepath.Join(at, ".git")); err != nil || top == nil || here == filepath.Dir(here) {
			return beside
		}
	}
}

// fileOfCommit reads a file of an exported tree; links out of the tree are not followed.
func fileOfCommit(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return rego.ReadBounded(root.FS(), filepath.ToSlash(name), sources.MaxDockerfile)
}
