package main

import (
	"bufio"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// A policy must not come from the repository that it judges. That it does not lie
// in the folder that is built from is only half of it: a second worktree, a clone
// of the source, or the checkout of a CI job that builds from the URL bring the
// repository's own files as well.

// checkoutOf is the folder of a checkout of the source repository that path lies
// in, "" when it lies in none. What is not recognised (a clone whose remote was
// renamed, an export without .git) is for the user to keep apart.
func (j *buildJob) checkoutOf(path string) string {
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			if common := commonDir(dir); common != "" && j.isSource(dir, common) {
				return dir
			}
			return ""
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// isSource reports whether the repository with a common directory is the one that
// is built from, or names it as a remote.
func (j *buildJob) isSource(worktree, common string) bool {
	if j.location.Path != "" && sameFile(commonDir(j.location.Path), common) {
		return true
	}
	for _, remote := range remotes(filepath.Join(common, "config")) {
		if !strings.Contains(remote, ":") && !filepath.IsAbs(remote) {
			remote = filepath.Join(worktree, remote)
		}
		at, err := git.ParseLocation(remote, true)
		switch {
		case err != nil:
		case j.location.Path != "" && at.Path != "":
			if sameFile(commonDir(j.location.Path), commonDir(at.Path)) {
				return true
			}
		case j.location.URL != "" && at.URL != "" && repositoryName(at.URL) == repositoryName(j.location.URL):
			return true
		}
	}
	return false
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// repositoryName is host and path of a URL, however it is spelled: over HTTP or
// SSH, with or without .git, in which case.
func repositoryName(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	return strings.ToLower(u.Host + "/" + strings.TrimRight(path, "/"))
}

// commonDir is where a worktree's, or a bare repository's, refs and configuration
// are (gitrepository-layout(5), "commondir"); "" when that cannot be read.
func commonDir(dir string) string {
	gitDir := filepath.Join(dir, ".git")
	if info, err := os.Stat(gitDir); err != nil {
		gitDir = dir
	} else if info.Mode().IsRegular() {
		text, err := os.ReadFile(gitDir)
		to, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
		if err != nil || !ok {
			return ""
		}
		gitDir = resolveFrom(dir, to)
	}
	if text, err := os.ReadFile(filepath.Join(gitDir, "commondir")); err == nil {
		return resolveFrom(gitDir, strings.TrimSpace(string(text)))
	}
	return gitDir
}

func resolveFrom(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// remotes are the values of all url variables of a git configuration file.
func remotes(config string) []string {
	f, err := os.Open(config)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), "url") {
			out = append(out, strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return out
}
