package review

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// modeFolder and modeModule are modes of folders and submodules.
const (
	modeFolder = "40000"
	modeModule = "160000"
	modePlain  = "100644"
)

// Compare compares two trees by their ids; before "" is an empty one. Trees of more than
// 500,000 entries together, where they differ, are an error.
func Compare(ctx context.Context, objects Objects, before, after string) (*Changes, error) {
	c := &comparison{ctx: ctx, objects: objects, out: &Changes{}}
	if err := c.trees("", before, after, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(c.out.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(c.out.Workflows)
	slices.SortStableFunc(c.out.NewPackages, func(a, b Package) int {
		return strings.Compare(a.Manifest+"\x00"+a.Name+"\x00"+a.Version, b.Manifest+"\x00"+b.Name+"\x00"+b.Version)
	})
	return c.out, nil
}

type comparison struct {
	ctx     context.Context
	objects Objects
	out     *Changes
	entries int
	read    int64
}

func (c *comparison) trees(dir, before, after string, depth int) error {
	if before == after {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: folders nest deeper than %d", plain(dir), maxDepth)
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	was, err := c.tree(before)
	if err != nil {
		return err
	}
	is, err := c.tree(after)
	if err != nil {
		return err
	}
	old := make(map[string]git.Entry, len(was))
	for _, e := range was {
		old[e.Name] = e
	}
	for _, e := range is {
		o := old[e.Name]
		delete(old, e.Name)
		if err := c.entry(path.Join(dir, e.Name), o, e, depth); err != nil {
			return err
		}
	}
	for _, e := range was {
		if _, gone := old[e.Name]; gone {
			if err := c.entry(path.Join(dir, e.Name), e, git.Entry{}, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *comparison) tree(id string) ([]git.Entry, error) {
	if id == "" {
		return nil, nil
	}
	entries, err := c.objects.Tree(id)
	if c.entries += len(entries); err == nil && c.entries > maxEntries {
		err = fmt.Errorf("more than %d files and folders are different", maxEntries)
	}
	return entries, err
}

// entry compares what stands at a path; the zero entry is nothing.
func (c *comparison) entry(name string, was, is git.Entry, depth int) error {
	if was == is {
		return nil
	}
	// A folder on one side and a file on the other: all of the one goes, the other comes.
	var oldTree, newTree string
	if was.Mode == modeFolder {
		oldTree, was = was.ID, git.Entry{}
	}
	if is.Mode == modeFolder {
		newTree, is = is.ID, git.Entry{}
	}
	if oldTree != "" || newTree != "" {
		if err := c.trees(name, oldTree, newTree, depth+1); err != nil {
			return err
		}
	}
	if was.ID == "" && is.ID == "" {
		return nil
	}
	return c.file(name, was, is)
}

func (c *comparison) file(name string, was, is git.Entry) error {
	f := File{Path: plain(name), Status: "changed", Workflow: IsWorkflow(name)}
	switch {
	case was.ID == "":
		f.Status = "added"
	case is.ID == "":
		f.Status = "removed"
	case was.ID == is.ID:
		f.Status = "mode"
	}
	if is.Mode != was.Mode && !(was.ID == "" && is.Mode == modePlain) {
		f.Mode = is.Mode
	}
	if f.Workflow {
		c.out.Workflows = append(c.out.Workflows, f.Path)
	}
	before, after, counted, err := c.contents(was, is)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if f.Status != "mode" {
		if f.Binary = !counted; counted {
			f.Added, f.Removed = lines(before, after)
		} else {
			c.out.Uncounted++
		}
	}
	c.out.Added += f.Added
	c.out.Removed += f.Removed
	if c.out.FilesTotal++; len(c.out.Files) < MaxFiles {
		c.out.Files = append(c.out.Files, f)
	}
	return c.packages(name, was, is)
}

// contents are the two files, when their lines can be counted. A submodule has none.
func (c *comparison) contents(was, is git.Entry) (before, after []byte, counted bool, err error) {
	if was.ID == is.ID {
		return nil, nil, false, nil
	}
	for _, side := range []struct {
		e    git.Entry
		into *[]byte
	}{{was, &before}, {is, &after}} {
		if side.e.ID == "" || side.e.Mode == modeModule {
			continue
		}
		if c.read > maxRead {
			return nil, nil, false, nil
		}
		content, size, err := c.objects.Blob(side.e.ID, maxLines)
		if err != nil {
			return nil, nil, false, err
		}
		c.read += int64(len(content))
		if content == nil && size > 0 || bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0 {
			return nil, nil, false, nil
		}
		*side.into = content
	}
	return before, after, true, nil
}

// text is a manifest of at most maxText bytes.
func (c *comparison) text(e git.Entry) (text string, ok bool, err error) {
	if e.ID == "" || e.Mode == modeModule {
		return "", true, nil
	}
	content, size, err := c.objects.Blob(e.ID, maxText)
	return string(content), err == nil && (content != nil || size == 0), err
}

// IsWorkflow reports whether a file says what a CI system runs, or who may change or
// release what.
func IsWorkflow(name string) bool {
	for _, dir := range []string{".github/workflows/", ".github/actions/", ".gitea/workflows/", ".forgejo/workflows/", ".circleci/",
		".buildkite/", ".gitlab/ci/", ".woodpecker/", ".tekton/", ".hallmark/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	switch name {
	case ".gitlab-ci.yml", ".gitlab-ci.yaml", "Jenkinsfile", "azure-pipelines.yml", "azure-pipelines.yaml", ".travis.yml", ".drone.yml",
		".woodpecker.yml", ".woodpecker.yaml", "bitbucket-pipelines.yml", "cloudbuild.yaml", "cloudbuild.yml", ".cirrus.yml", "appveyor.yml",
		".docker/github-builder.rego":
		return true
	}
	base := path.Base(name)
	return base == "action.yml" || base == "action.yaml"
}
