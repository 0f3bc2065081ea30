package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

const scratch = "scratch"

// evaluation is one reading of a Dockerfile for one platform.
type evaluation struct {
	file     Dockerfile
	o        Options
	images   Images
	found    *list
	lex      *shell.Lex
	target   ocispec.Platform
	build    ocispec.Platform
	globals  *env
	states   []*state
	byName   map[string]*state
	last     *state
	commands int
	copied   int // variables that stages took over from others
}

// state is one stage, or an image that a COPY --from or RUN --mount names.
type state struct {
	stage    instructions.Stage
	written  Use
	platform *ocispec.Platform
	named    string // the named context that stands in the stage's place
	base     *state // the stage that this one begins with
	deps     []*state
	commands []command
	extern   bool // no stage: what another one copies from

	resolved, triggered bool
	fixed               bool // a named context: its instructions are not run
	vars                *env // what words see
	config              []string
	onBuild             []string
}

type command struct {
	instructions.Command
	onBuild bool
}

func newEvaluation(f Dockerfile, o Options, platform string, images Images, found *list) (*evaluation, error) {
	e := &evaluation{file: f, o: o, images: images, found: found, byName: map[string]*state{}}
	var err error
	if e.build, err = parsePlatform(o.BuildPlatform, platforms.DefaultSpec()); err != nil {
		return nil, err
	}
	if e.target, err = parsePlatform(platform, e.build); err != nil {
		return nil, err
	}
	return e, nil
}

func parsePlatform(s string, otherwise ocispec.Platform) (ocispec.Platform, error) {
	if s == "" {
		return platforms.Normalize(otherwise), nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return p, fault.Usagef("platform %q: want OS/ARCH or OS/ARCH/VARIANT, like linux/arm64", s)
	}
	return platforms.Normalize(p), nil
}

func (e *evaluation) run(ctx context.Context) error {
	if err := e.roots(ctx); err != nil {
		return err
	}
	stages, globals, err := e.parse()
	if err != nil {
		return e.explain(err)
	}
	last := stages[len(stages)-1].Name
	if e.o.Target != "" {
		last = e.o.Target
	}
	e.globals = globalEnv(e.build, e.target, last, e.o.Args)
	if err := e.globals.globalArgs(e.lex, globals, e.o.Args); err != nil {
		return e.explain(err)
	}
	if err := e.checkEpoch(); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return e.addStages(stages) },
		e.addDependencies,
		func() error { return e.resolve(ctx) },
		func() error { return e.dispatch(ctx) },
	} {
		if err := step(); err != nil {
			return e.explain(err)
		}
	}
	return nil
}

func (e *evaluation) parse() ([]instructions.Stage, []instructions.ArgCommand, error) {
	file, err := parser.Parse(bytes.NewReader(e.file.Text))
	if err != nil {
		return nil, nil, err
	}
	e.lex = shell.NewLex(file.EscapeToken)
	stages, globals, err := instructions.Parse(file.AST, nil)
	switch {
	case err != nil:
		return nil, nil, err
	case len(stages) == 0:
		return nil, nil, errors.New("there is no stage to build")
	case len(stages) > maxStages:
		return nil, nil, fmt.Errorf("%d stages; at most %d are read", len(stages), maxStages)
	}
	return stages, globals, nil
}

// checkEpoch: a date that is to be that of a stage or a context is a number only
// when that is fetched, and then could stand in a URL.
func (e *evaluation) checkEpoch() error {
	const name = "SOURCE_DATE_EPOCH"
	v, given := e.o.Args[name]
	if !given {
		v, _ = e.globals.Get(name)
	}
	if _, err := strconv.ParseInt(v, 10, 64); v != "" && err != nil {
		return fault.Usagef("%s: %s=%s: only a number of seconds can be known without building", e.file.Name, name, v)
	}
	return nil
}

// explain puts file and line before an error.
func (e *evaluation) explain(err error) error {
	line := 0
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		line = at.Locations[0][0].Start.Line
	}
	if line == 0 {
		return fmt.Errorf("%s: %w", e.file.Name, err)
	}
	if text, ok := strings.CutPrefix(err.Error(), fmt.Sprintf("dockerfile parse error on line %d: ", line)); ok {
		return fmt.Errorf("%s:%d: %s", e.file.Name, line, text)
	}
	return fmt.Errorf("%s:%d: %w", e.file.Name, line, err)
}

func line(locations []parser.Range) int {
	if len(locations) == 0 {
		return 0
	}
	return locations[0].Start.Line
}

// addStages knows each stage by its name, its base and its platform.
func (e *evaluation) addStages(stages []instructions.Stage) error {
	for _, st := range stages {
		use := Use{Line: line(st.Location), Instruction: "FROM", Written: st.BaseName}
		name, err := e.globals.replace(e.lex, st.BaseName)
		if err != nil {
			return parser.WithLocation(err, st.Location)
		}
		if name == "" {
			return parser.WithLocation(fmt.Errorf("FROM %s: the name of the base image is empty; does an ARG before the first FROM give it a value?", st.BaseName), st.Location)
		}
		st.BaseName = name
		s := &state{stage: st, written: use}
		if st.Platform != "" {
			if s.platform, err = e.stagePlatform(st); err != nil {
				return parser.WithLocation(err, st.Location)
			}
		}
		e.addState(s)
		if st.Name == "" || strings.EqualFold(st.Name, scratch) || strings.EqualFold(st.Name, "context") {
			continue
		}
		if s.named, err = e.namedContext(st.Name, s.platform); err != nil {
			return parser.WithLocation(err, st.Location)
		}
		if s.named != "" {
			s.base = nil
		}
	}
	e.last = e.states[len(e.states)-1]
	return nil
}

func (e *evaluation) stagePlatform(st instructions.Stage) (*ocispec.Platform, error) {
	name, err := e.globals.replace(e.lex, st.Platform)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, fmt.Errorf("--platform=%s: the platform is empty", st.Platform)
	}
	p, err := platforms.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("--platform=%s: %q is no platform", st.Platform, name)
	}
	return &p, nil
}

func (e *evaluation) addState(s *state) {
	e.states = append(e.states, s)
	if base, ok := e.byName[s.stage.BaseName]; ok {
		s.base = base
	}
	if s.stage.Name != "" {
		e.byName[strings.ToLower(s.stage.Name)] = s
	}
}

// addDependencies knows of each stage what it copies from.
func (e *evaluation) addDependencies() error {
	for _, s := range e.states[:len(e.states):len(e.states)] {
		for _, c := range s.stage.Commands {
			if err := e.addCommand(s, command{Command: c}); err != nil {
				return parser.WithLocation(err, c.Location())
			}
		}
	}
	return nil
}

// addCommand appends an instruction to a stage, and the stages that it needs.
func (e *evaluation) addCommand(s *state, c command) error {
	if e.commands++; e.commands > maxCommands {
		return fmt.Errorf("more than %d instructions", maxCommands)
	}
	s.commands = append(s.commands, c)
	deps, err := e.needs(c)
	if err != nil {
		return err
	}
	for _, d := range deps {
		s.deps = append(s.deps, d)
		if d.extern && !d.resolved {
			e.addState(d)
		}
	}
	return nil
}

// needs is the stages and images that an instruction copies from or mounts.
func (e *evaluation) needs(c command) ([]*state, error) {
	name := func(kind string) string {
		if c.onBuild {
			return "ONBUILD " + kind
		}
		return kind
	}
	switch c := c.Command.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			return nil, nil
		}
		word, err := newEnv().replace(e.lex, c.From)
		switch {
		case err != nil:
			return nil, err
		case word != c.From:
			return nil, fmt.Errorf("COPY --from=%s: a variable is not replaced here; name a stage, and use the variable in its FROM", c.From)
		}
		if i, err := strconv.Atoi(c.From); err == nil {
			if i < 0 || i >= len(e.states) {
				return nil, fmt.Errorf("COPY --from=%s: there is no stage of this number", c.From)
			}
			return []*state{e.states[i]}, nil
		}
		return []*state{e.stageOrImage(c.From, Use{line(c.Location()), name("COPY --from"), c.From})}, nil
	case *instructions.RunCommand:
		var out []*state
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				out = append(out, e.stageOrImage(m.From, Use{line(c.Location()), name("RUN --mount"), m.From}))
			}
		}
		return out, nil
	}
	return nil, nil
}

func (e *evaluation) stageOrImage(name string, use Use) *state {
	if s, ok := e.byName[strings.ToLower(name)]; ok {
		return s
	}
	return &state{stage: instructions.Stage{BaseName: name}, written: use, extern: true}
}

// reachable is the target, or all stages, and all that they need.
func (e *evaluation) reachable() (map[*state]bool, error) {
	seen := map[*state]bool{}
	var visit func(*state)
	visit = func(s *state) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		visit(s.base)
		for _, d := range s.deps {
			visit(d)
		}
	}
	switch {
	case e.o.Target != "":
		s, ok := e.byName[strings.ToLower(e.o.Target)]
		if !ok {
			return nil, fault.Usagef("--target %s: there is no stage of this name", e.o.Target)
		}
		visit(s)
	case e.o.AllStages:
		for _, s := range e.states {
			visit(s)
		}
	default:
		visit(e.last)
	}
	return seen, nil
}

// resolve looks at the base images of the stages that are needed, and at what their
// ONBUILD triggers need, until nothing is new.
func (e *evaluation) resolve(ctx context.Context) error {
	for {
		needed, err := e.reachable()
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(16)
		var asked []*loaded
		for _, s := range e.states {
			if !needed[s] || s.base != nil || s.resolved {
				continue
			}
			s.resolved = true
			if s.named == "" && s.stage.BaseName == scratch {
				continue
			}
			l := &loaded{state: s}
			asked = append(asked, l)
			g.Go(func() error { return parser.WithLocation(e.load(gctx, l), s.stage.Location) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, l := range asked { // in order: the list is the same at each run
			if err := e.found.add(l.source, l.state.written); err != nil {
				return err
			}
		}
		more, err := e.triggers(needed)
		if err != nil || !more {
			return err
		}
	}
}

// triggers puts what a base has for ONBUILD before a stage's instructions, and
// reports whether that needs anything new.
func (e *evaluation) triggers(needed map[*state]bool) (more bool, err error) {
	for _, s := range e.states[:len(e.states):len(e.states)] {
		if !needed[s] || s.triggered {
			continue
		}
		s.triggered = true
		expressions := s.onBuild
		if s.base != nil {
			for _, c := range s.base.commands {
				if ob, ok := c.Command.(*instructions.OnbuildCommand); ok {
					expressions = append(expressions, ob.Expression)
				}
			}
		}
		own := s.commands
		s.commands = nil
		before := len(s.deps)
		for _, x := range expressions {
			c, err := parseTrigger(x)
			if err != nil {
				return false, parser.SetLocation(fmt.Errorf("ONBUILD of %s: %w", s.stage.BaseName, err), s.stage.Location)
			}
			if err := e.addCommand(s, command{c, true}); err != nil {
				return false, parser.SetLocation(fmt.Errorf("ONBUILD of %s: %w", s.stage.BaseName, err), s.stage.Location)
			}
		}
		s.commands = append(s.commands, own...)
		more = more || len(s.deps) > before
	}
	return more, nil
}

func parseTrigger(text string) (instructions.Command, error) {
	file, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(file.AST.Children) != 1 {
		return nil, errors.New("a trigger must be one instruction")
	}
	return instructions.ParseCommand(file.AST.Children[0])
}

// loaded is a base that was looked at.
type loaded struct {
	state  *state
	source Source
}

// load looks at the base of a stage.
func (e *evaluation) load(ctx context.Context, l *loaded) error {
	s := l.state
	platform := e.target
	if s.platform != nil {
		platform = *s.platform
	}
	input, name := s.named, s.stage.Name
	if input == "" {
		ref, err := reference.ParseNormalizedNamed(s.stage.BaseName)
		if err != nil {
			return fmt.Errorf("%s: neither a stage nor the name of an image: %w", s.stage.BaseName, err)
		}
		full := reference.TagNameOnly(ref).String()
		if input, err = e.namedContext(full, &platform); err != nil {
			return err
		}
		name = s.stage.BaseName
		if input == "" {
			input = "docker-image://" + full
		}
	} else {
		s.fixed = true
	}
	var config Config
	var err error
	if l.source, config, err = e.open(ctx, input, name, platform); err != nil {
		return err
	}
	s.config, s.onBuild = slices.Clone(config.Env), slices.Clone(config.OnBuild)
	return nil
}
