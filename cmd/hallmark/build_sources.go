package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
)

// loadSourcePolicies compiles the policies of --source-policy. As with the signing
// policy, none of their files may lie in the source repository.
func (j *buildJob) loadSourcePolicies(ctx context.Context) error {
	for _, given := range j.o.sourcePolicies {
		if strings.HasPrefix(given, policyScheme) {
			if err := j.loadPublishedPolicy(ctx, given); err != nil {
				return err
			}
			continue
		}
		real, err := filepath.Abs(given)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		if err != nil {
			return fault.Usagef("--source-policy %s: %v", given, err)
		}
		dir, names, err := sourcePolicyFiles(real)
		if err != nil {
			return fault.Usagef("--source-policy %s: %v", given, err)
		}
		paths := []string{dir}
		for _, name := range names {
			p, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil {
				return fault.Usagef("--source-policy %s: %v", given, err)
			}
			paths = append(paths, p)
		}
		if err := j.outside("--source-policy "+given, paths); err != nil {
			return err
		}
		p, err := compileSourcePolicy(dir, names)
		shown := given
		if dir != real {
			shown = filepath.Dir(given)
		}
		if err := j.addSourcePolicy(build.SourcePolicy{Policy: p, Name: filepath.Base(real), From: build.FromOperator}, shown, err); err != nil {
			return fault.As(fault.Usage, fmt.Errorf("--source-policy %s: %w", given, err))
		}
	}
	return nil
}

// loadPublishedPolicy compiles a policy that hallmark policy publish stored. Its digest, or
// its pinned signer, says whose it is, and not where the source lies.
func (j *buildJob) loadPublishedPolicy(ctx context.Context, given string) error {
	bundle, err := j.app.fetchPolicy(ctx, given)
	if err != nil {
		return err
	}
	p, err := compileBundle(bundle, bundle.Top(), nil)
	if err := j.addSourcePolicy(build.SourcePolicy{Policy: p, Name: given, From: build.FromOperator}, "", err); err != nil {
		return fault.As(fault.Usage, fmt.Errorf("--source-policy %s: %w", given, err))
	}
	return nil
}

// sourcePolicyFiles are the files of one policy and the folder that they lie in: a
// file, or the *.rego files of a folder without those of its tests.
func sourcePolicyFiles(path string) (dir string, names []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	if !info.IsDir() {
		return filepath.Dir(path), []string{filepath.Base(path)}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		err = errors.New("no *.rego file in this folder")
	}
	return path, names, err
}

// compileSourcePolicy compiles files of a folder, which is all that the policy can
// read: links out of it are not followed.
func compileSourcePolicy(dir string, names []string) (*sourcepolicy.Policy, error) {
	files, o, err := readSourcePolicy(dir, names)
	if err != nil {
		return nil, err
	}
	return sourcepolicy.Compile(files, o)
}

func readSourcePolicy(dir string, names []string) ([]sourcepolicy.File, sourcepolicy.Options, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, sourcepolicy.Options{}, err
	}
	folder := rego.Folder(root) // open as long as the policy may read a key or a list
	var files []sourcepolicy.File
	for _, name := range names {
		data, err := rego.ReadBounded(folder, filepath.ToSlash(name), rego.MaxBundle)
		if err != nil {
			return nil, sourcepolicy.Options{}, err
		}
		files = append(files, sourcepolicy.File{Name: filepath.ToSlash(name), Data: data})
	}
	return files, sourcepolicy.Options{FS: folder}, nil
}

// addSourcePolicy adds a policy, or what is wrong with its text, which denies.
func (j *buildJob) addSourcePolicy(p build.SourcePolicy, dir string, err error) error {
	var bad *rego.CompileError
	if errors.As(err, &bad) {
		for _, r := range bad.Reasons {
			r.Subject = cmp.Or(r.Subject, p.Name)
			if dir != "" {
				r.Subject = filepath.Join(dir, r.Subject)
			}
			r.Message = r.Subject + ": " + r.Message
			j.denied = append(j.denied, r)
		}
		return nil
	}
	if err != nil {
		return err
	}
	j.needSources()
	j.sources.Policies = append(j.sources.Policies, p)
	return nil
}

// needSources makes the set of policies, without one yet.
func (j *buildJob) needSources() {
	if j.sources != nil {
		return
	}
	t := j.sourceTrust()
	fresh := j.app.Env("BUILDKIT_HOST") == "" // a daemon is started for this build
	j.sources = &build.SourcePolicies{Fresh: fresh, Resolver: sourcefacts.New(sourcefacts.Options{
		Registry: j.app.RegistryClient(), PlainHTTP: j.app.PlainHTTP, UserAgent: j.app.UserAgent(), Verifier: t.verifier, Pinned: t.pinned,
	})}
}

// askSources adds the policy that lies beside the Dockerfile in the commit, as buildx
// loads it, and asks all policies what they want of the build. That of the source can
// only forbid more: the operator's are asked before it, and all must allow.
func (j *buildJob) askSources(ctx context.Context, src *git.Source) (policy.Decision, error) {
	dockerfile, err := j.dockerfile(ctx, src)
	if err != nil {
		return policy.Decision{}, err
	}
	if d, err := j.chooseFrontend(ctx, src, dockerfile); err != nil || !d.Allowed {
		return d, err
	}
	name := dockerfile + ".rego"
	has, err := src.Has(ctx, name)
	if err != nil {
		return policy.Decision{}, err
	}
	if has {
		dir, err := j.export(ctx, src)
		if err != nil {
			return policy.Decision{}, err
		}
		if err := j.addPolicyOfCommit(ctx, dir, name); err != nil {
			return policy.Deny(policy.Reason{Code: rego.CodeCompile, Subject: name,
				Message: fmt.Sprintf("the source policy %s of the commit cannot be read: %v", name, err)}), nil
		}
	}
	if len(j.denied) > 0 {
		return policy.Deny(j.denied...), nil
	}
	if d, err := j.readLock(ctx, src, dockerfile); err != nil || !d.Allowed {
		return d, err
	}
	if d, err := j.withLogins(ctx, src, dockerfile); err != nil || !d.Allowed {
		return d, err
	}
	if j.sources == nil {
		return policy.Decision{Allowed: true}, nil
	}
	if j.cache.takes(j.o.options) {
		j.sources.Fresh = false
	}
	return j.sources.Ask(ctx, j.o.options)
}

// dockerfile is the path of the Dockerfile in the commit, below the context's folder.
func (j *buildJob) dockerfile(ctx context.Context, src *git.Source) (string, error) {
	o := j.o.options
	if o.Dir != "" {
		// A link could lead out of the commit, and BuildKit and we could follow it differently.
		if is, err := src.IsFolder(ctx, o.Dir); err != nil {
			return "", err
		} else if !is {
			return "", fault.Usagef("context %s: the commit has no such folder", o.Dir)
		}
	}
	name := path.Join(o.Dir, cmp.Or(o.File, "Dockerfile"))
	if o.File != "" {
		return name, nil
	}
	// BuildKit takes a file "dockerfile" where there is no "Dockerfile".
	has, err := src.Has(ctx, name)
	if err != nil || has {
		return name, err
	}
	lower := path.Join(o.Dir, "dockerfile")
	if has, err = src.Has(ctx, lower); has {
		name = lower
	}
	return name, err
}

// addPolicyOfCommit adds the policy of the exported commit. Only where nothing has its
// name there is none (a link among its folders may hide that until here): a policy that
// is there and cannot be read, such as a link to nowhere, is an error. Nobody vouches for
// it: it is compiled and evaluated by a process of its own.
func (j *buildJob) addPolicyOfCommit(ctx context.Context, dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch _, err := root.Lstat(filepath.FromSlash(name)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	files, o, err := readSourcePolicy(dir, []string{name})
	if err != nil {
		return err
	}
	if j.worker == nil {
		j.worker = sandbox.New(policyProcess)
	}
	p, err := sourcepolicy.CompileSandboxed(ctx, j.worker, files, o)
	return j.addSourcePolicy(build.SourcePolicy{Policy: p, Name: name, From: build.FromSource}, "", err)
}

// export is the exported tree of the commit, made once.
func (j *buildJob) export(ctx context.Context, src *git.Source) (string, error) {
	if j.tree != "" {
		return j.tree, nil
	}
	dir, err := os.MkdirTemp("", "hallmark-source-")
	if err != nil {
		return "", err
	}
	warnings, err := src.Export(ctx, dir)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	for _, w := range warnings {
		j.app.Warn("%s", w)
	}
	j.tree = dir
	return dir, nil
}

// endPolicies ends the process of the commit's policy.
func (j *buildJob) endPolicies() {
	if j.worker != nil {
		j.worker.Close()
	}
}

// close ends the process of the commit's policy, and removes the exported tree.
func (j *buildJob) close() {
	j.endPolicies()
	if j.release != nil {
		j.release.store.close()
	}
	_ = j.cache.close()
	if j.tree != "" {
		_ = os.RemoveAll(j.tree)
	}
}

// usedPolicies are the source policies in words.
func usedPolicies(used []build.UsedPolicy) string {
	var names []string
	for _, p := range used {
		name := p.Name
		if p.From == build.FromSource {
			name += " of the commit"
		}
		names = append(names, fmt.Sprintf("%s (%s)", name, p.Digest))
	}
	return strings.Join(names, ", ")
}

// printSources says what was asked about and what became of it.
func (a *app) printSources(o *buildOptions, b *buildAnswer) {
	if len(b.SourcePolicies) == 0 {
		return
	}
	if o.check {
		a.Print("  sources    judged when they are used, by %s", usedPolicies(b.SourcePolicies))
		return
	}
	if o.result.parts != "" {
		a.Print("  sources    judged where each part was built, by %s", usedPolicies(b.SourcePolicies))
		return
	}
	a.Print("  sources    %d, all allowed by %s", len(b.Sources), usedPolicies(b.SourcePolicies))
	for _, s := range b.Sources {
		if s.UsedAs != "" && !slices.Contains(strings.Split(s.Source, "@"), s.UsedAs) {
			a.Print("  used       %s as %s", strings.TrimPrefix(s.Source, "docker-image://"), s.UsedAs)
		}
	}
}
