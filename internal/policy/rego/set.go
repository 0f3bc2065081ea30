package rego

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// SetConfig is what a [Set] over a document of the caller's own is made of.
type SetConfig struct {
	Options
	Library []byte // the module data.hallmark.lib
	Schema  any    // closed JSON schema of the document
	Growth  uint64 // bytes that the heap may grow during one evaluation, default 512 MiB
	// OnePackage: rules stand in the queried package alone, and not below it.
	OnePackage bool
	// Modules of the engine beside the library, by a name that no file has.
	Modules map[string]string
	// Tests are files of the policy's tests. Their package may be that of the policy with
	// _test behind it, too.
	Tests map[string][]byte
}

// libraryPackage is where the library's rules stand.
const libraryPackage = "data.hallmark.lib"

// CompileSet is [Compile] for a document of the caller's own, which [Set.DecideValue] is
// given. The caller says by itself what a document must have.
func CompileSet(files map[string][]byte, c SetConfig) (*Set, error) {
	s, _, err := compileSet(files, c)
	return s, err
}

// unit is a policy with all that belongs to it.
type unit struct {
	bundle   *bundle
	compiler *ast.Compiler
}

func (c SetConfig) compile(files map[string][]byte) (unit, error) {
	all := map[string][]byte{}
	for _, of := range []map[string][]byte{files, c.Tests} {
		for name, text := range of {
			if all[name] != nil {
				return unit{}, compileErrorf(name, "this file is policy and test at once")
			}
			all[name] = text
		}
	}
	b, err := readBundle(all)
	if err != nil {
		return unit{}, err
	}
	b.tests = map[string]bool{}
	for name := range c.Tests {
		b.tests[name] = true
	}
	if err := b.parseV1(); err != nil {
		return unit{}, err
	}
	if err := b.checkPackages(c.Query, c.OnePackage); err != nil {
		return unit{}, err
	}
	engine := map[string]string{libraryFile: string(c.Library)}
	for name, text := range c.Modules {
		engine[name] = text
	}
	for name, text := range engine {
		if b.modules[name], err = parse(name, text, ast.RegoV1, gateBuiltins()); err != nil {
			return unit{}, compileError(err)
		}
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, c.Schema)
	compiler := ast.NewCompiler().WithCapabilities(capabilities(gateBuiltins(), ast.RegoV1)).
		WithSchemas(schemas).WithStrict(true).WithEnablePrintStatements(c.Print != nil)
	return b.compile(compiler)
}

// compile compiles the modules.
func (b *bundle) compile(compiler *ast.Compiler) (unit, error) {
	compiler.Compile(b.modules)
	if compiler.Failed() {
		return unit{}, compileError(compiler.Errors)
	}
	return unit{b, compiler}, b.checkDataRefs(compiler)
}

func (u unit) evaluator(query string, o Options) (evaluator, error) {
	e, err := newEvaluator(u.compiler, query, u.bundle.data)
	if err != nil {
		return evaluator{}, compileError(err)
	}
	e.timeout, e.growth, e.print = o.Timeout, maxHeapGrowth, o.Print
	if e.timeout <= 0 {
		e.timeout = DefaultTimeout
	}
	return e, nil
}

// Answer is what a policy said about a document.
type Answer struct {
	policy.Decision
	Obligations []Obligation // of an allowed decision
	Allow       bool         // the rule allow is true, whatever deny_msg says
	Silent      bool         // it said no without a word of its own
}

// DecideValue is [Set.Decide] about a decoded JSON value, with numbers as json.Number.
func (s *Set) DecideValue(ctx context.Context, doc map[string]any, now time.Time) (Answer, error) {
	value, denied, err := s.Value(ctx, doc, now)
	if err != nil {
		return Answer{}, err
	}
	return s.reading.Answer(value, denied), nil
}

// Value is what the policy's package evaluates to, as decoded JSON; a failure of the policy
// is a reason. An error means that ctx ended.
func (s *Set) Value(ctx context.Context, doc map[string]any, now time.Time) (any, *policy.Reason, error) {
	v, err := ast.InterfaceToValue(doc)
	if err != nil {
		r := reason(CodeIncomplete, "the input document cannot be written down: %v", err)
		return nil, &r, nil
	}
	return s.eval.run(ctx, v, now)
}

// Reading is how this policy's value is read.
func (s *Set) Reading() Reading { return s.reading }

// Answer is the decision in a policy's value.
func (r Reading) Answer(value any, denied *policy.Reason) Answer {
	if denied != nil {
		return Answer{Decision: policy.Deny(*denied)}
	}
	d, obligations := r.decision(value)
	said, _ := value.(map[string]any)
	if r.Object {
		said, _ = said["decision"].(map[string]any)
	}
	words, err := messages(said["deny_msg"])
	silent := !d.Allowed && err == nil && len(words) == 0 && len(d.Reasons) == 1 && d.Reasons[0].Code == CodeDenied
	return Answer{Decision: d, Obligations: obligations, Allow: said["allow"] == true, Silent: silent}
}

// Unmet is a condition of the library, such as quorum, that a rule of the policy asked
// for and that did not hold.
type Unmet struct {
	Name string // without its package
	Args []any  // JSON values; a set is a sorted list
	Rule string // the policy's rule: "allow", "deny_msg", "passed"
	File string
	Line int
}

// Trace evaluates the policy about a value and says what became of each of its rules,
// and what of the library did not hold, each condition once for each rule. An error means
// that ctx ended; an evaluation that fails gives what it came to.
func (s *Set) Trace(ctx context.Context, doc map[string]any, now time.Time) ([]Step, []Unmet, error) {
	v, err := ast.InterfaceToValue(doc)
	if err != nil {
		return nil, nil, nil
	}
	u := &unmet{traced: newTraced(), own: s.own}
	e := s.eval
	e.print, e.all = nil, true
	e.tracers = append(slices.Clone(e.tracers), u)
	if _, _, err := e.run(ctx, v, now); err != nil {
		return nil, nil, err
	}
	return u.list(s.own, doc), u.found, nil
}

// maxUnmet bounds how many conditions one trace names.
const maxUnmet = 100

// unmet notes the library's conditions that fail.
type unmet struct {
	*traced
	own   map[string]bool
	found []Unmet
}

// TraceEvent is a tracer's.
func (u *unmet) TraceEvent(e topdown.Event) {
	u.traced.TraceEvent(e)
	expr, ok := e.Node.(*ast.Expr)
	if !ok || e.Op != topdown.FailOp || expr.Negated || expr.Location == nil || !u.own[expr.Location.File] || len(u.found) == maxUnmet {
		return
	}
	var ref ast.Ref
	var args []*ast.Term
	switch terms := expr.Terms.(type) {
	case *ast.Term:
		ref, _ = terms.Value.(ast.Ref)
	case []*ast.Term:
		ref, _ = terms[0].Value.(ast.Ref)
		args = terms[1:]
	}
	name, ok := strings.CutPrefix(ref.String(), libraryPackage+".")
	if !ok {
		return
	}
	found := Unmet{Name: name, File: expr.Location.File, Line: expr.Location.Row}
	for _, a := range args {
		v, err := ast.JSON(e.Plug(a).Value)
		if err != nil {
			return // an argument that is not known: it was undefined
		}
		found.Args = append(found.Args, v)
	}
	if r := u.ruleOf(e.QueryID); r != nil {
		found.Rule = r.Head.Ref().GroundPrefix().String()
	}
	key := fmt.Sprint(found.Name, found.Rule, jsonText(found.Args))
	for _, other := range u.found {
		if key == fmt.Sprint(other.Name, other.Rule, jsonText(other.Args)) {
			return
		}
	}
	u.found = append(u.found, found)
}

func jsonText(v any) string {
	data, _ := json.Marshal(v) // of what was read as JSON
	return string(data)
}
