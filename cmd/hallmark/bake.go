package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/build/bake"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// bakeNames are the files that are read when none is named, as buildx does.
var bakeNames = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml",
	"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl"}

type bakeOptions struct {
	build   buildOptions // what holds for every target
	targets []string
	files   []string
	set     []string
	vars    []string
	inputs  string // --inputs
}

func newBakeCommand(a *app) *cobra.Command {
	var o bakeOptions
	c := &cobra.Command{
		Use:   "bake URL#REF [TARGET...]",
		Short: "Build and sign what a bake file of the commit asks for, as build --trusted does",
		Long: `Bake reads bake files (HCL, JSON, compose) of exactly the commit that is built, and
builds each target of them as hallmark build --trusted would, with the same policies,
tools and signatures (docs/trusted-build.md). Targets may also be groups; without one
it is "default".

A bake file is a program of whoever can push. It is read by hallmark-bake (make bake),
with buildx's own reader, without environment, files or network. What a trusted build
does not have (secrets, ssh, entitlements, other sources as context) is refused by
name; attest, cache-from, cache-to and output are the builder's and not taken.`,
		Example: `  hallmark bake https://git.example.com/org/app.git#v1.0.0 web --trusted=builder.json --set web.args.V=1    # exit 2 here: this folder has no builder.json
  hallmark bake . --ref v1.0.0    # exit 2: a folder is no source that others can look at`,
		Args: cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			o.build.source, o.targets = argv[0], argv[1:]
			return a.runBake(c.Context(), &o)
		},
	}
	f, b := c.Flags(), &o.build
	f.StringVar(&b.ref, "ref", "", "`REF` to build, when SOURCE does not say it")
	f.StringArrayVarP(&o.files, "file", "f", nil, "bake `FILE` of the commit; may repeat (default: those that buildx looks for)")
	f.StringArrayVar(&o.set, "set", nil, "`TARGET.KEY=VALUE` in the place of what the files say; may repeat")
	f.StringArrayVar(&o.vars, "var", nil, "variable `NAME=VALUE` of the files; may repeat")
	f.StringVar(&b.trusted, "trusted", installedBuilder, "builder file `FILE` (docs/trusted-build.md)")
	f.StringVar(&o.inputs, "inputs", "", "`FILE` with github-builder's inputs for bake, - for stdin (docs/github.md)")
	b.addShared(c)
	return c
}

// bakeAnswer is what bake prints with --json; docs/json.md has the table.
type bakeAnswer struct {
	Allowed bool            `json:"allowed"`
	Source  *policy.Git     `json:"source"`
	Reasons []policy.Reason `json:"reasons,omitempty"`
	Digest  string          `json:"digest,omitempty"` // when one target is built
	Signed  bool            `json:"signed"`
	inputsResult
	Targets      []*bakedTarget `json:"targets,omitempty"` // those that were built, in this order
	ElapsedMilli int64          `json:"elapsedMilliseconds,omitempty"`
}

type bakedTarget struct {
	Target string `json:"target"`
	*buildAnswer
}

func (a *app) runBake(ctx context.Context, o *bakeOptions) error {
	started := time.Now()
	b := &bakeJob{app: a, o: o, answer: &bakeAnswer{}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.base.close()
	d, err := b.run(ctx)
	if err != nil {
		for _, t := range b.answer.Targets {
			a.Warn("target %s was built before: %s", t.Target, t.made())
		}
		return a.buildFailed(err)
	}
	b.answer.Allowed, b.answer.Reasons = d.Allowed, d.Reasons
	b.answer.ElapsedMilli = time.Since(started).Milliseconds()
	return b.print(d)
}

// print says what was made of each target, also of those before one that was denied.
func (b *bakeJob) print(d policy.Decision) error {
	a := b.app
	if b.o.build.json {
		if err := a.PrintJSON(b.answer); err != nil {
			return err
		}
	} else {
		for _, t := range b.answer.Targets {
			a.Print("target %s", t.Target)
			if err := a.printBuild(&b.o.build, t.buildAnswer); err != nil {
				return err
			}
		}
	}
	if d.Allowed {
		return nil
	}
	return a.Deny(d)
}

// filesOfCommit reads the bake files of the exported commit, by their paths from its root;
// without names those that buildx looks for in the folder dir. env is .env of that folder.
func filesOfCommit(tree, dir string, names []string) (files []bake.File, env []byte, err error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	folder := rego.Folder(root)
	read := func(name string) ([]byte, error) { return rego.ReadBounded(folder, name, bake.MaxFile) }
	if len(names) == 0 {
		for _, name := range bakeNames {
			if _, err := root.Lstat(filepath.Join(dir, name)); err == nil {
				names = append(names, path.Join(dir, name))
			}
		}
		if len(names) == 0 {
			return nil, nil, fault.Hint(fault.Usagef("the commit has no bake file in its root"), "name one with --file; looked for: %s", strings.Join(bakeNames, ", "))
		}
	}
	for _, name := range names {
		data, err := read(path.Clean(name))
		if err != nil {
			return nil, nil, fault.Usagef("bake file %s of the commit: %v", name, err)
		}
		files = append(files, bake.File{Name: name, Data: data})
	}
	env, err = read(path.Join(dir, ".env"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return files, env, err
}
