package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Has reports whether the commit's tree has an entry of that path ("docker/Dockerfile"),
// of whatever kind. It is also true when a symbolic link is on the way: what lies behind
// it only the exported tree tells.
func (s *Source) Has(ctx context.Context, path string) (has bool, err error) {
	mode, err := s.mode(ctx, path)
	return mode != "", err
}

// IsFolder reports whether the commit's tree has a folder of that path ("docker/app"),
// with nothing but folders on the way.
func (s *Source) IsFolder(ctx context.Context, path string) (bool, error) {
	mode, err := s.mode(ctx, path)
	return mode == modeFolder, err
}

// Modes of tree entries (git-fast-import(1), "filemodify").
const (
	modeFolder = "40000"
	modeLink   = "120000"
)

// mode is that of the entry of that path, or of a link on the way; "" without one.
func (s *Source) mode(ctx context.Context, path string) (mode string, err error) {
	b, err := s.run.batch(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	id := s.Commit.Tree
	for depth, name := range strings.Split(path, "/") {
		if depth > maxTreeDepth {
			return "", fmt.Errorf("%s: folders nest deeper than %d", clip(path), maxTreeDepth)
		}
		kind, content, err := b.object(id, maxTreeSize)
		if err != nil {
			return "", err
		}
		if kind != "tree" || hashObject("tree", content, len(s.Commit.Tree)) != id {
			return "", fmt.Errorf("%s: object %s is not the tree that its id promises", clip(path), id)
		}
		entries, err := parseTree(content, len(s.Commit.Tree))
		if err != nil {
			return "", err
		}
		mode = ""
		for _, e := range entries {
			if e.name == name {
				mode, id = e.mode, e.id
			}
		}
		switch mode {
		case modeFolder:
		case "", modeLink:
			return mode, nil
		default:
			if depth < strings.Count(path, "/") {
				mode = "" // a file on the way
			}
			return mode, nil
		}
	}
	return mode, nil
}
