package rego

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// TestProgram is a policy with its tests: rules without arguments, in the test
// files, whose names begin with test_.
type TestProgram struct {
	Tests []Test // by package and name

	bundle  *bundle
	ruled   map[string]bool // names of the policy's own files
	eval    map[string]evaluator
	decide  evaluator
	covered map[string]map[int]bool
}

// Test is one test rule.
type Test struct {
	Package string // "docker"
	Name    string // "test_alpine"
	File    string
	Line    int
	Input   any // what it gives with "with input as", nil when that is no constant
}

// TestOutcome is what became of a test.
type TestOutcome struct {
	Passed bool
	Reason *policy.Reason // why it could not be evaluated
	Lines  []string       // what was printed
}

// CompileTests compiles a policy together with test files. The policy's files are
// those of the config.
func CompileTests(c ProgramConfig, tests map[string][]byte) (*TestProgram, error) {
	all := c
	all.Files = map[string][]byte{}
	for name, text := range c.Files {
		all.Files[name] = text
	}
	for name, text := range tests {
		if _, ruled := c.Files[name]; ruled {
			return nil, compileErrorf(name, "this file is policy and test at once")
		}
		all.Files[name] = text
	}
	b, err := all.read()
	if err != nil {
		return nil, err
	}
	compiler, err := all.compile(b)
	if err != nil {
		return nil, err
	}
	return newTests(b, tests, c.Query, func(query string) (evaluator, error) { return all.evaluator(compiler, query) })
}

// CompileSetTests is CompileTests for the policy of a [Set]; the tests are those of the
// config.
func CompileSetTests(files map[string][]byte, c SetConfig) (*TestProgram, error) {
	_, all, err := compileSet(files, c)
	if err != nil {
		return nil, err
	}
	return newTests(all.bundle, c.Tests, c.Query, func(query string) (evaluator, error) { return all.evaluator(query, c.Options) })
}

// newTests finds the tests of a policy that was compiled with them.
func newTests(b *bundle, tests map[string][]byte, decide string, compile func(query string) (evaluator, error)) (*TestProgram, error) {
	t := &TestProgram{bundle: b, ruled: map[string]bool{}, eval: map[string]evaluator{}, covered: map[string]map[int]bool{}}
	for _, name := range b.names {
		if _, isTest := tests[name]; !isTest {
			t.ruled[name] = true // imported files are policy, too
			continue
		}
		if err := t.find(name, b.modules[name]); err != nil {
			return nil, err
		}
	}
	sort.Slice(t.Tests, func(i, j int) bool {
		a, b := t.Tests[i], t.Tests[j]
		return a.Package < b.Package || a.Package == b.Package && a.Name < b.Name
	})
	for _, test := range t.Tests {
		e, err := compile("data." + test.Package + "." + test.Name)
		if err != nil {
			return nil, err
		}
		e.lazy = false
		t.eval[test.Package+"."+test.Name] = e
	}
	var err error
	t.decide, err = compile(decide)
	return t, err
}

// find lists the tests of a module.
func (t *TestProgram) find(file string, m *ast.Module) error {
	for _, r := range m.Rules {
		name := string(r.Head.Name)
		if !strings.HasPrefix(name, "test_") || len(r.Head.Args) > 0 {
			continue
		}
		test := Test{Package: strings.TrimPrefix(m.Package.Path.String(), "data."), Name: name, File: file, Line: r.Location.Row}
		for _, other := range t.Tests {
			if other.Package == test.Package && other.Name == test.Name && other.File != file {
				return compileErrorf(fmt.Sprintf("%s:%d", file, test.Line), "%s stands in %s:%d, too: one of the two could fail unseen", name, other.File, other.Line)
			}
		}
		test.Input = constantInput(r.Body)
		if i := slices.IndexFunc(t.Tests, func(o Test) bool { return o.Package == test.Package && o.Name == name }); i >= 0 {
			continue // a second body of the same rule
		}
		t.Tests = append(t.Tests, test)
	}
	return nil
}

// constantInput is the value of the first "with input as" of a body, nil unless it
// is a constant.
func constantInput(body ast.Body) any {
	for _, e := range body {
		for _, w := range e.With {
			ref, ok := w.Target.Value.(ast.Ref)
			if !ok || !ref.Equal(ast.InputRootRef) {
				continue
			}
			if v, err := ast.JSON(w.Value.Value); err == nil {
				return v
			}
			return nil
		}
	}
	return nil
}

// Run runs a test. A test that does not pass has a value other than true, or none.
// An error means that ctx ended.
func (t *TestProgram) Run(ctx context.Context, test Test, now time.Time, run any) (TestOutcome, error) {
	e, ok := t.eval[test.Package+"."+test.Name]
	if !ok {
		return TestOutcome{}, fmt.Errorf("there is no test %s.%s", test.Package, test.Name)
	}
	var out TestOutcome
	e.print = func(line string) { out.Lines = append(out.Lines, line) }
	e.tracers = []topdown.QueryTracer{coverage{t}}
	value, denied, err := e.run(context.WithValue(ctx, runKey{}, run), ast.NewObject(), now)
	out.Passed, out.Reason = denied == nil && value == true, denied
	return out, err
}

// Decide is what the policy itself decides about a document, as [Program.Run].
func (t *TestProgram) Decide(ctx context.Context, d *Document, now time.Time, run any) (any, *policy.Reason, error) {
	e := t.decide
	return e.run(context.WithValue(ctx, runKey{}, run), d.value, now)
}

// Coverage is which lines of the policy the tests came to, and which they did not:
// lines where an expression or a rule begins.
type Coverage struct {
	File       string
	Covered    []int
	NotCovered []int
}

// Coverage sums up the tests that ran.
func (t *TestProgram) Coverage() []Coverage {
	var all []Coverage
	for _, name := range t.bundle.names {
		if !t.ruled[name] {
			continue
		}
		c := Coverage{File: name}
		for _, line := range lines(t.bundle.modules[name]) {
			if t.covered[name][line] {
				c.Covered = append(c.Covered, line)
			} else {
				c.NotCovered = append(c.NotCovered, line)
			}
		}
		all = append(all, c)
	}
	return all
}

// lines are those where something is evaluated.
func lines(m *ast.Module) []int {
	found := map[int]bool{}
	for _, r := range m.Rules {
		if r.Default {
			continue
		}
		found[r.Location.Row] = true
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			if e.Location != nil && e.Location.File != "" {
				found[e.Location.Row] = true
			}
			return false
		})
	}
	var sorted []int
	for line := range found {
		sorted = append(sorted, line)
	}
	slices.Sort(sorted)
	return sorted
}

// coverage notes where an evaluation comes to.
type coverage struct{ of *TestProgram }

func (coverage) Enabled() bool               { return true }
func (coverage) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (c coverage) TraceEvent(e topdown.Event) {
	if e.Op != topdown.EvalOp && e.Op != topdown.ExitOp {
		return
	}
	loc := e.Location
	if loc == nil || !c.of.ruled[loc.File] {
		return
	}
	if c.of.covered[loc.File] == nil {
		c.of.covered[loc.File] = map[int]bool{}
	}
	c.of.covered[loc.File][loc.Row] = true
}
