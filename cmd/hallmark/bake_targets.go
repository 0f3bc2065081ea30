package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/bake"
	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// bakeJob is a run of hallmark bake: one commit, and a [buildJob] for each target.
type bakeJob struct {
	app    *app
	o      *bakeOptions
	base   *buildJob // fetches and judges the commit; builds nothing itself
	in     *inputs.Inputs
	vars   map[string]string
	tool   trusted.Tool // that read the bake files
	many   bool         // several targets are built
	answer *bakeAnswer
}

// prepare reads everything that can be wrong before anything is fetched.
func (b *bakeJob) prepare(ctx context.Context) (err error) {
	o := b.o
	o.build.bake, o.build.signer.opened = true, &openedKey{}
	if o.inputs != "" {
		if err := b.takeInputs(); err != nil {
			return err
		}
	} else if b.vars, err = pairs("--var", o.vars); err != nil {
		return err
	}
	if len(o.targets) == 0 {
		o.targets = []string{"default"}
	}
	b.base, err = b.app.prepareBuild(ctx, &o.build)
	return err
}

// takeInputs reads --inputs, which says what the flags of bake would.
func (b *bakeJob) takeInputs() error {
	o := b.o
	for flag, given := range map[string]bool{"a target": len(o.targets) > 0, "--file": len(o.files) > 0, "--set": len(o.set) > 0, "--var": len(o.vars) > 0} {
		if given {
			return fault.Usagef("%s and --inputs both say it; leave it to the inputs", flag)
		}
	}
	in, err := o.build.readInputs(b.app, o.inputs, true)
	if err != nil {
		return err
	}
	result, err := parseOutput(o.build.output)
	if err != nil {
		return err
	}
	if err := b.app.checkInputs(in, result); err != nil {
		return err
	}
	b.in, b.vars = in, in.Vars
	o.targets, o.files = []string{in.Target}, in.Files
	return nil
}

// run judges the commit, reads its bake files and builds one target after the other. The
// first that is denied or fails ends it; what was made before is complete and stays.
func (b *bakeJob) run(ctx context.Context) (policy.Decision, error) {
	first := &buildAnswer{}
	src, d, err := b.base.gate(ctx, first)
	b.answer.Source = first.Source
	if err != nil {
		return d, err
	}
	if src != nil {
		defer src.Close()
	}
	b.app.buildWarnings(first, d)
	if !d.Allowed {
		return d, nil
	}
	targets, result, err := b.targets(ctx, src)
	if err != nil {
		return denied(err)
	}
	for _, t := range targets {
		one := &bakedTarget{Target: t.Name, buildAnswer: &buildAnswer{Source: first.Source}}
		d, err := b.buildTarget(ctx, src, t, result, one.buildAnswer)
		if err != nil || !d.Allowed {
			for i := range d.Reasons {
				d.Reasons[i].Message = "target " + t.Name + ": " + d.Reasons[i].Message
			}
			return d, err
		}
		b.answer.Targets = append(b.answer.Targets, one)
		b.answer.VerifyCommands = append(b.answer.VerifyCommands, one.VerifyCommands...)
		one.inputsResult = inputsResult{}
	}
	b.answer.Signed = !slices.ContainsFunc(b.answer.Targets, func(t *bakedTarget) bool { return !t.Signed })
	if len(targets) == 1 {
		b.answer.Digest = b.answer.Targets[0].Digest
	}
	return policy.Decision{Allowed: true}, nil
}

// targets are what the bake files of the commit ask for. The result of the inputs' rules
// for tags is nil without inputs, and for files.
func (b *bakeJob) targets(ctx context.Context, src *git.Source) ([]bake.Target, *meta.Result, error) {
	tree, err := b.base.export(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	def := bake.Definition{Targets: b.o.targets, Set: b.o.set, Vars: b.vars}
	if def.Files, def.DotEnv, err = filesOfCommit(tree, b.folder(), b.o.files); err != nil {
		return nil, nil, err
	}
	if len(def.DotEnv) > 0 && !bake.Compose(def.Files) {
		if slices.ContainsFunc(def.Files, func(f bake.File) bool { return bake.Compose([]bake.File{f}) }) {
			b.app.Warn(".env of the commit is not read: with compose files alone it is, and here are others")
		}
		def.DotEnv = nil
	}
	result, err := b.derive(src, &def)
	if err != nil {
		return nil, nil, err
	}
	targets, err := b.resolve(ctx, def)
	switch {
	case err != nil:
		return nil, nil, err
	case len(targets) > 1 && (result != nil || b.base.o.result.dest != ""):
		var names []string
		for _, t := range targets {
			names = append(names, t.Name)
		}
		return nil, nil, fault.Usagef("the targets %s share one output; name one of them", strings.Join(names, ", "))
	}
	b.many = len(targets) > 1
	return targets, result, nil
}

// resolve has the bake files read by the program that the builder file names.
func (b *bakeJob) resolve(ctx context.Context, def bake.Definition) ([]bake.Target, error) {
	dir, err := os.MkdirTemp("", "hallmark-bake-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, bake.Program)
	b.tool, err = b.base.trusted.builder.Copy(bake.Program, filepath.Join(b.app.toolsFolder(), bake.Program), program)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Hint(fmt.Errorf("bake files are read by %s, which is not there: %w", bake.Program, err), "make bake builds it among the tools, and names it in the builder file there")
	}
	if err != nil {
		return nil, err
	}
	return bake.Resolve(ctx, program, def)
}

// folder is the folder of the commit that the bake files and contexts are found from.
func (b *bakeJob) folder() string {
	if b.in == nil || b.in.Context == "." {
		return ""
	}
	return b.in.Context
}

// derive adds to the bake files a target with what the ref gives, from which theirs
// inherit (docker/metadata-action's bake file).
func (b *bakeJob) derive(src *git.Source, def *bake.Definition) (*meta.Result, error) {
	if b.in == nil {
		return nil, nil
	}
	b.answer.OutputType = b.in.Output
	var result *meta.Result
	if b.in.Output == inputs.OutputImage {
		c, err := b.base.metaContext(src)
		if err != nil {
			return nil, err
		}
		if result, err = meta.Derive(b.in.Meta, c); err != nil {
			return nil, err
		}
		for _, n := range result.Notes {
			b.app.Warn("%s", n)
		}
		if b.answer.MetaJSON, err = result.JSON(); err != nil {
			return nil, err
		}
		b.answer.Tags = result.Tags
		file, err := metaFile(b.in, result)
		if err != nil {
			return nil, err
		}
		def.Files = append(def.Files, file)
	}
	var err error
	def.Set, err = meta.Expand("set", b.in.Set, result)
	return result, err
}

// metaFile is the bake file that docker/metadata-action would write.
func metaFile(in *inputs.Inputs, r *meta.Result) (bake.File, error) {
	type target struct {
		Tags        []string          `json:"tags"`
		Labels      map[string]string `json:"labels,omitempty"`
		Annotations []string          `json:"annotations,omitempty"`
		Args        map[string]string `json:"args"`
	}
	t := target{Tags: r.Tags, Args: map[string]string{"DOCKER_META_IMAGES": strings.Join(r.Images, ","), "DOCKER_META_VERSION": r.Version}}
	if in.SetMetaLabels {
		t.Labels = r.Labels
	}
	if in.SetMetaAnnotations {
		for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
			t.Annotations = append(t.Annotations, "manifest,index:"+key+"="+r.Annotations[key])
		}
	}
	data, err := json.Marshal(map[string]any{"target": map[string]target{in.MetaBakeTarget: t}})
	return bake.File{Name: "metadata.json", Data: data}, err
}

// buildTarget builds one target as hallmark build --trusted would.
func (b *bakeJob) buildTarget(ctx context.Context, src *git.Source, t bake.Target, r *meta.Result, answer *buildAnswer) (d policy.Decision, err error) {
	ended := b.o.build.show.Step("[target] " + t.Name)
	defer func() { ended(build.Ended(d, err)) }()
	for _, option := range t.Decided {
		b.app.Warn("target %s: %s of the bake file is not taken: the builder decides it", t.Name, option)
	}
	o, others, err := b.optionsOf(t, r)
	if err != nil {
		return policy.Decision{}, err
	}
	j, err := b.app.prepareBuild(ctx, o)
	if err != nil {
		return policy.Decision{}, fmt.Errorf("target %s: %w", t.Name, err)
	}
	defer j.endPolicies() // the tree is that of all targets
	defer func() { _ = j.cache.close() }()
	j.tree, j.inputs, j.tags = b.base.tree, b.in, others
	j.trusted.tools = append(j.trusted.tools, b.tool)
	if b.in != nil {
		if err := errors.Join(j.chooseScanner(b.in), j.cacheOf(b.in)); err != nil {
			return policy.Decision{}, err
		}
	}
	j.cache.named(t.Name, b.many)
	d, err = j.askSources(ctx, src)
	if j.sources != nil {
		answer.SourcePolicies = j.sources.Used()
	}
	if err != nil || !d.Allowed {
		return d, err
	}
	b.app.buildWarnings(answer, d)
	answer.Allowed = true
	d, err = j.make(ctx, src, answer)
	if err == nil {
		d.Warnings = append(d.Warnings, j.cache.warnings()...)
		b.app.buildWarnings(answer, d)
	}
	return d, err
}

// optionsOf is the build that a target asks for, and the names that its image gets beside
// the first one.
func (b *bakeJob) optionsOf(t bake.Target, r *meta.Result) (*buildOptions, []string, error) {
	o := b.o.build // a copy; what is shared in it is not written to
	o.args, o.labels = lines(t.Args), lines(t.Labels)
	to := &o.options
	to.Dir, to.Target = path.Join(b.folder(), t.Dir), t.Stage
	if t.File != "Dockerfile" { // which buildx says of every target; then BuildKit takes "dockerfile", too
		to.File = t.File
	}
	if dir := o.result.policies; b.many && dir != "" {
		o.output = "image,policies=" + filepath.Join(dir, t.Name)
	}
	to.Platforms, to.NoCache, to.Ulimits, to.Contexts = t.Platforms, t.NoCache || len(t.NoCacheFilter) > 0, t.Ulimits, t.Contexts
	to.Hermetic = to.Hermetic || t.NoNetwork
	if t.ShmSize > 0 {
		to.ShmSize = fmt.Sprint(t.ShmSize)
	}
	to.Annotations = map[string]string{}
	for _, a := range t.Annotations {
		key, value, ok := strings.Cut(a, "=")
		if !ok {
			return nil, nil, fault.Usagef("target %s: annotation %q: want KEY=VALUE", t.Name, a)
		}
		to.Annotations[key] = value
	}
	if o.result.dest != "" {
		return &o, nil, nil
	}
	tags := t.Tags
	if r != nil {
		tags = r.Tags // the inputs say the names, whether or not the target inherits them
	}
	if len(tags) == 0 {
		return nil, nil, fault.Usagef("target %s has no tags: where is its image to go?", t.Name)
	}
	first, err := registry.ParseRef(tags[0])
	if err != nil {
		return nil, nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	var others []string
	for _, tag := range tags[1:] {
		ref, err := registry.ParseRef(tag)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("target %s: %w", t.Name, err)
		case ref.Name() != first.Name() || ref.Tag == "" || ref.Digest != "":
			return nil, nil, fault.Usagef("target %s: %s and %s: a trusted build pushes to one repository", t.Name, tags[0], tag)
		}
		others = append(others, ref.Tag)
	}
	o.image = tags[0]
	return &o, others, nil
}

// lines are pairs as flags have them.
func lines(m map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, name+"="+m[name])
	}
	return list
}
