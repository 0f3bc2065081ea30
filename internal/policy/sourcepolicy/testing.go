package sourcepolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Tests are a policy with its test files, which are buildx's: rules test_… that look
// at the policy's rules with an input of their own (with input as {…}). Nothing is
// fetched: what a test does not give is not there.
type Tests struct {
	program *rego.TestProgram
	policy  *Policy
	mu      sync.Mutex // coverage is noted while a test runs
}

// TestResult is what became of one test.
type TestResult struct {
	Package  string
	Name     string
	File     string
	Line     int
	Passed   bool
	Reason   *policy.Reason // why it could not be evaluated; nil when it was
	Printed  []string       // by print()
	Notes    []string       // what a function could not verify, since a test fetches nothing
	Duration time.Duration

	// What the policy decides about the test's input, when that is a constant.
	Input        json.RawMessage
	Allow        *bool
	DenyMessages []string
	Missing      []string // facts that the decision asks for and the input does not give
}

// CompileTests compiles a policy with its tests. An error is a [rego.CompileError].
func CompileTests(policyFiles, testFiles []File, o Options) (*Tests, error) {
	c, err := config(policyFiles, o)
	if err != nil {
		return nil, err
	}
	c.Print = true
	tests := map[string][]byte{}
	for _, f := range testFiles {
		if _, twice := tests[f.Name]; twice {
			return nil, fmt.Errorf("the test file %s is given twice", f.Name)
		}
		tests[f.Name] = f.Data
	}
	program, err := rego.CompileTests(c, tests)
	if err != nil {
		return nil, err
	}
	return &Tests{program: program, policy: &Policy{name: "the policy", folder: &folder{fs: o.FS}, json: map[string]rego.Value{}}}, nil
}

// Tests are the tests, by package and name.
func (t *Tests) Tests() []rego.Test { return slices.Clone(t.program.Tests) }

// Coverage is which lines of the policy the tests that ran came to.
func (t *Tests) Coverage() []rego.Coverage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.program.Coverage()
}

// Run runs the tests that match, all when match is nil. Tests that do not pass are
// results; an error means that ctx ended.
func (t *Tests) Run(ctx context.Context, match func(rego.Test) bool) ([]TestResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var results []TestResult
	for _, test := range t.program.Tests {
		if match != nil && !match(test) {
			continue
		}
		r, err := t.run(ctx, test)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (t *Tests) run(ctx context.Context, test rego.Test) (TestResult, error) {
	start := time.Now()
	p := t.pass(&node{named: &Input{}, known: &known{}})
	out, err := t.program.Run(ctx, test, start, p)
	if err != nil {
		return TestResult{}, err
	}
	slices.Sort(p.notes)
	r := TestResult{
		Package: test.Package, Name: test.Name, File: test.File, Line: test.Line,
		Passed: out.Passed, Reason: out.Reason, Printed: out.Lines, Notes: slices.Compact(p.notes),
	}
	if test.Input != nil {
		if err := t.decide(ctx, test.Input, start, &r); err != nil {
			return TestResult{}, err
		}
	}
	r.Duration = time.Since(start)
	return r, nil
}

// pass is what functions work on in a test.
func (t *Tests) pass(n *node) *pass {
	e := &Evaluation{req: Request{Now: time.Now()}, root: n}
	p := e.newPass(t.policy)
	p.test = true
	return p
}

// decide fills in what the policy decides about the input, twice: as it stands, and
// with traps where a source would have facts.
func (t *Tests) decide(ctx context.Context, input any, now time.Time, r *TestResult) error {
	var err error
	if r.Input, err = json.Marshal(input); err != nil {
		return nil // no JSON value: a set in it, say
	}
	members, ok := input.(map[string]any)
	if !ok {
		return nil
	}
	p := t.pass(&node{named: &Input{}, known: &known{}})
	value, denied, err := t.program.Decide(ctx, rego.NewDocument(object(members)), now, p)
	if err != nil {
		return err
	}
	if a, messages, bad := readDecision(value); denied == nil && bad == nil {
		r.Allow, r.DenyMessages = &a.allow, messages
	}
	dec := json.NewDecoder(bytes.NewReader(r.Input))
	var in Input
	if dec.Decode(&in) != nil {
		return nil
	}
	n := &node{named: &in, known: &known{}}
	p = t.pass(n)
	o := object(members)
	n.missing(o, p.ask)
	if _, _, err := t.program.Decide(ctx, rego.NewDocument(o), now, p); err != nil {
		return err
	}
	for _, w := range p.list() {
		for _, a := range w.Asks {
			r.Missing = append(r.Missing, label(w.node, a))
		}
	}
	return nil
}

// object is a decoded JSON object whose sources can get traps.
func object(members map[string]any) rego.Object {
	o := rego.Object{}
	for k, v := range members {
		if m, ok := v.(map[string]any); ok && factsOf[k] != nil {
			source := rego.Object{}
			for k, v := range m {
				source[k] = v
			}
			o[k] = source
		} else {
			o[k] = v
		}
	}
	return o
}

// missing puts traps where the document has no member of a fact.
func (n *node) missing(o rego.Object, ask ask) {
	for kind, facts := range factsOf {
		source, ok := o[kind].(rego.Object)
		if !ok {
			continue
		}
		for _, f := range facts {
			given := slices.ContainsFunc(f.members, func(m string) bool { _, ok := source[m]; return ok })
			if given {
				continue
			}
			for _, m := range f.members {
				source[m] = rego.Unknown(func() { ask(n, Ask{Fact: f.fact}) })
			}
		}
	}
}
