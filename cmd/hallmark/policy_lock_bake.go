package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build/bake"
	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// isBake reports whether a file is a bake file by its name, as those that buildx looks for.
func isBake(name string) bool {
	return slices.Contains([]string{".hcl", ".json", ".yaml", ".yml"}, strings.ToLower(filepath.Ext(name)))
}

// lockedSources are the sources of the Dockerfiles or bake files of a call.
func (a *app) lockedSources(ctx context.Context, o *lockOptions) ([]sources.Source, error) {
	ours := slices.DeleteFunc(slices.Clone(o.files), func(f string) bool { return !isBake(f) })
	switch {
	case len(ours) == 0 && len(o.set)+len(o.vars) > 0:
		return nil, fault.Usagef("--set and --var are for bake files: -f FILE.hcl")
	case len(ours) == 0:
		return a.listSources(ctx, o.folder, o.files, &o.dockerfileOptions)
	case len(ours) < len(o.files):
		return nil, fault.Usagef("-f names Dockerfiles and bake files; a call locks the one or the other")
	case len(o.args)+len(o.contexts) > 0:
		return nil, fault.Usagef("--build-arg and --build-context are for Dockerfiles; a bake file says them, or --set TARGET.args.NAME=VALUE")
	}
	targets, err := a.bakeTargets(ctx, o)
	if err != nil {
		return nil, err
	}
	var all []sources.Source
	images := sources.NewRegistry(a.RegistryClient())
	for _, t := range targets {
		found, err := a.sourcesOfTarget(ctx, o, t, images)
		if err != nil {
			return nil, fault.Hint(err, "it is what bake target %s needs", t.Name)
		}
		all = append(all, found...)
	}
	return all, nil
}

// bakeTargets are the targets that hallmark bake would build: those of --target, else those
// of the group "default" and all that have tags. The others are parts of theirs.
func (a *app) bakeTargets(ctx context.Context, o *lockOptions) ([]bake.Target, error) {
	vars, err := pairs("--var", o.vars)
	if err != nil {
		return nil, err
	}
	def := bake.Definition{Set: o.set, Vars: vars, Targets: []string{o.target}}
	for _, name := range o.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		def.Files = append(def.Files, bake.File{Name: filepath.Base(name), Data: data})
	}
	if bake.Compose(def.Files) {
		def.DotEnv, err = os.ReadFile(filepath.Join(o.folder, ".env"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	program := filepath.Join(a.toolsFolder(), bake.Program)
	if o.target != "" {
		targets, err := bake.Resolve(ctx, program, def)
		return targets, a.withoutBake(err)
	}
	targets, refused, err := bake.ResolveAll(ctx, program, def)
	for _, why := range refused {
		a.Warn("not locked, and not to be built by hallmark bake: %s", cli.OneLine(why.Error()))
	}
	return targets, a.withoutBake(err)
}

func (a *app) withoutBake(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Hint(err, "bake files are read by %s: make bake builds it among the tools", bake.Program)
	}
	return err
}

// sourcesOfTarget lists what a build of one target fetches.
func (a *app) sourcesOfTarget(ctx context.Context, o *lockOptions, t bake.Target, images sources.Images) ([]sources.Source, error) {
	file := filepath.Join(o.folder, filepath.FromSlash(t.Dir), filepath.FromSlash(t.File))
	if t.File == "" {
		file = filepath.Join(file, "Dockerfile")
	}
	text, err := readDockerfile(file, a.Stdin)
	if err != nil {
		return nil, err
	}
	opts := sources.Options{Args: t.Args, Target: t.Stage, Platforms: t.Platforms, Contexts: t.Contexts}
	if len(o.platforms) > 0 {
		opts.Platforms = o.platforms
	}
	return sources.List(ctx, text, opts, images)
}
