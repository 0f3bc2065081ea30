package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// loadPolicy compiles the policy directory. A repository cannot bring its own
// policy or signers: no file of the directory may lie in the source repository,
// not through a symbolic link either.
func (j *buildJob) loadPolicy() error {
	dir, err := filepath.Abs(j.o.policy)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return fault.Usagef("--policy %s: %v", j.o.policy, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Usagef("--policy %s: want a directory: %v", j.o.policy, err)
	}
	paths := []string{dir}
	for _, e := range entries {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			return fault.Usagef("--policy %s: %v", j.o.policy, err)
		}
		paths = append(paths, real)
	}
	for _, p := range paths {
		repo := j.worktree()
		if repo == "" || !inside(p, repo) {
			repo = j.checkoutOf(p)
		}
		if repo != "" {
			return fault.Hint(fault.Usagef("--policy %s: %s lies inside the source repository, where whoever can push can change it", j.o.policy, p),
				"keep the policy in a directory outside %s", repo)
		}
	}
	if j.trust, err = git.LoadTrust(dir); err != nil {
		return err
	}
	return j.compile(dir)
}

// worktree is the folder that a local source repository rules, "" for a URL.
func (j *buildJob) worktree() string {
	if filepath.Base(j.location.Path) == ".git" {
		return filepath.Dir(j.location.Path)
	}
	return j.location.Path
}

func (j *buildJob) compile(dir string) error {
	files, err := rego.ReadFiles(dir)
	var set *rego.Set
	if err == nil {
		set, err = rego.Compile(files, rego.Options{})
	}
	var bad *rego.CompileError
	if errors.As(err, &bad) {
		for _, r := range bad.Reasons {
			if r.Subject != "" {
				r.Message = r.Subject + ": " + r.Message
			}
			j.denied = append(j.denied, r)
		}
		return nil
	}
	j.policy = set
	return err
}

// gate fetches the tag and judges it. src is nil when there is nothing to build.
func (j *buildJob) gate(ctx context.Context, answer *buildAnswer) (*git.Source, policy.Decision, error) {
	answer.Source = &policy.Git{Remote: j.location.String(), Ref: j.o.ref}
	if len(j.denied) > 0 {
		return nil, policy.Deny(j.denied...), nil
	}
	src, why, err := git.Open(ctx, j.location, j.o.ref)
	if err != nil {
		return nil, policy.Decision{}, err
	}
	if why != nil {
		return nil, policy.Deny(*why), nil
	}
	in, d, err := build.Gate(ctx, src, j.trust, j.policy, time.Now())
	if err != nil {
		return nil, policy.Decision{}, errors.Join(err, src.Close())
	}
	answer.Source, answer.Warnings = in.Git, d.Warnings
	return src, d, nil
}
