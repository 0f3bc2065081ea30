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
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
)

// loadPolicy compiles the policy directory. A repository cannot bring its own
// policy or signers: no file of the directory may lie in the source repository,
// not through a symbolic link either.
func (j *buildJob) loadPolicy(ctx context.Context) error {
	if j.o.policy == "" {
		return j.loadStore(ctx)
	}
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
	if err := j.outside("--policy "+j.o.policy, paths); err != nil {
		return err
	}
	if judge.IsFolder(dir) {
		folder, d, err := j.app.readSigningPolicy(dir)
		j.denied, j.release = d.Reasons, &releaseGate{folder: folder}
		return err
	}
	if j.trust, err = git.LoadTrust(dir); err != nil {
		return err
	}
	return j.compile(dir)
}

// outside demands that no path lies in the source repository.
func (j *buildJob) outside(flag string, paths []string) error {
	for _, p := range paths {
		repo := j.worktree()
		if repo == "" || !inside(p, repo) {
			repo = j.checkoutOf(p)
		}
		if repo != "" {
			return fault.Hint(fault.Usagef("%s: %s lies inside the source repository, where whoever can push can change it", flag, p),
				"keep the policy in a directory outside %s", repo)
		}
	}
	return nil
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
func (j *buildJob) gate(ctx context.Context, answer *buildAnswer) (_ *git.Source, d policy.Decision, err error) {
	ended := j.o.show.Step("[gate] " + j.o.ref + " of " + j.location.String())
	defer func() { ended(build.Ended(d, err)) }()
	answer.Source = &policy.Git{Remote: j.location.String(), Ref: j.o.ref}
	if len(j.denied) > 0 {
		return nil, policy.Deny(j.denied...), nil
	}
	open := git.Open
	if id := j.o.commit; id != "" {
		open = func(ctx context.Context, at git.Location, ref string) (*git.Source, *policy.Reason, error) {
			return git.OpenAt(ctx, at, ref, id)
		}
	} else if j.trusted != nil && git.IsCommit(j.o.ref) {
		open = git.OpenCommit
	}
	src, why, err := open(ctx, j.location, j.o.ref)
	if err != nil {
		return nil, policy.Decision{}, err
	}
	if why != nil {
		return nil, policy.Deny(*why), nil
	}
	if j.policy == nil {
		answer.Source = &src.Git
		d := policy.Decision{Allowed: true}
		if j.trusted == nil || j.o.check {
			if d, err = j.askRelease(ctx, src); err != nil {
				err = errors.Join(err, src.Close())
			}
		}
		return src, d, err
	}
	in, d, err := build.Gate(ctx, src, j.trust, j.policy, time.Now())
	if err != nil {
		return nil, policy.Decision{}, errors.Join(err, src.Close())
	}
	answer.Source = in.Git
	return src, d, nil
}
