package rego

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// Trace notes what became of each rule of a [Program], for people who wonder about a
// decision. It reads no values, so that nothing is fetched because of it: what the
// rules saw is looked up afterwards. A trace is for one evaluation at a time.
type Trace struct {
	programs []*Program // in the order in which they ran first
	runs     map[*Program]*traced
}

// traced is the last run of a program.
type traced struct {
	rules map[uint64]*ast.Rule // by the query that evaluates the body
	query map[uint64]uint64    // the query above
	steps map[*ast.Rule]*Step
}

// Step is what became of one rule.
type Step struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Rule string `json:"rule"`
	True bool   `json:"true"` // it had a value; else At says which condition did not hold
	// Default: no rule of this name had a value, so it is its default.
	Default bool   `json:"default,omitempty"`
	At      int    `json:"at,omitempty"`
	Text    string `json:"text,omitempty"`
	// Saw are the members of the input that the condition names, "undefined" for those
	// that are not there; of a rule that is true those of its whole body.
	Saw []Seen `json:"saw,omitempty"`
}

// Seen is a member of the input and its value as JSON.
type Seen struct {
	Ref   string `json:"ref"`
	Value string `json:"value"`
}

type traceKey struct{}

// WithTrace lets programs that run with the context note what they do.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	t := &Trace{runs: map[*Program]*traced{}}
	return context.WithValue(ctx, traceKey{}, t), t
}

// begin forgets an earlier run of the program, which wanted to know more.
func (t *Trace) begin(p *Program) topdown.QueryTracer {
	if t.runs[p] == nil {
		t.programs = append(t.programs, p)
	}
	run := newTraced()
	t.runs[p] = run
	return run
}

func newTraced() *traced {
	return &traced{rules: map[uint64]*ast.Rule{}, query: map[uint64]uint64{}, steps: map[*ast.Rule]*Step{}}
}

// Enabled and Config are a tracer's.
func (*traced) Enabled() bool               { return true }
func (*traced) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// maxTraced bounds how many queries of one run are told apart.
const maxTraced = 100_000

// TraceEvent notes which rule a query evaluates, that it had a value, or the condition
// that did not hold: the one furthest down, since those above did.
func (t *traced) TraceEvent(e topdown.Event) {
	if e.Op == topdown.EnterOp && len(t.query) < maxTraced {
		t.query[e.QueryID] = e.ParentID
	}
	switch node := e.Node.(type) {
	case *ast.Rule:
		if e.Op == topdown.EnterOp && len(t.rules) < maxTraced {
			t.rules[e.QueryID] = node
		}
		if node.Location == nil || e.Op != topdown.EnterOp && e.Op != topdown.ExitOp {
			return
		}
		s := t.steps[node]
		if s == nil {
			s = &Step{File: node.Location.File, Line: node.Location.Row, Rule: node.Head.Ref().String(), Default: node.Default}
			t.steps[node] = s
		}
		if e.Op == topdown.ExitOp {
			s.True, s.At, s.Text = true, 0, bodyText(node)
		}
	case *ast.Expr:
		if e.Op != topdown.FailOp || node.Location == nil {
			return
		}
		rule := t.ruleOf(e.QueryID)
		if rule == nil {
			return
		}
		if s := t.steps[rule]; s != nil && !s.True && node.Location.Row >= s.At {
			s.At, s.Text = node.Location.Row, string(node.Location.Text)
		}
	}
}

func bodyText(r *ast.Rule) string {
	var lines []string
	for _, e := range r.Body {
		if e.Location != nil {
			lines = append(lines, string(e.Location.Text))
		}
	}
	return strings.Join(lines, "; ")
}

// ruleOf is the rule whose body a query is, or is within.
func (t *traced) ruleOf(query uint64) *ast.Rule {
	for range 64 {
		if r := t.rules[query]; r != nil {
			return r
		}
		above, ok := t.query[query]
		if !ok || above == query {
			return nil
		}
		query = above
	}
	return nil
}

// Steps are the rules that were come to, in the order of the policies and their lines;
// those of the engine's own library are left out. input is what was known in the end.
func (t *Trace) Steps(input any) []Step {
	document := plainJSON(input)
	var out []Step
	for _, p := range t.programs {
		own := map[string]bool{}
		for name := range p.files {
			own[name] = true
		}
		out = append(out, t.runs[p].list(own, document)...)
	}
	return out
}

// list are the steps in the policy's own files, in the order of the lines.
func (t *traced) list(own map[string]bool, document any) []Step {
	var steps []Step
	for _, s := range t.steps {
		if !own[s.File] {
			continue
		}
		s := *s
		s.Saw = seen(s.Text, document)
		s.Text = Clean(strings.Join(strings.Fields(s.Text), " "))
		steps = append(steps, s)
	}
	sorted.Func(steps, func(a, b Step) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Rule, b.Rule))
	})
	return slices.CompactFunc(steps, func(a, b Step) bool { return a.File == b.File && a.Line == b.Line && a.True == b.True })
}

func plainJSON(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var out any
	_ = json.Unmarshal(data, &out) // it was just written
	return out
}

var inputMember = pattern.New(`\binput((?:\.[A-Za-z_][A-Za-z0-9_]*|\["[^"\\]*"\]|\[[0-9]+\])+)`)

var inputPart = pattern.New(`\.([A-Za-z_][A-Za-z0-9_]*)|\["([^"\\]*)"\]|\[([0-9]+)\]`)

// maxSeen bounds a value that is shown.
const maxSeen = 200

// seen are the members of the document that a text names.
func seen(text string, document any) []Seen {
	var out []Seen
	for _, m := range inputMember().FindAllStringSubmatch(text, 20) {
		value := document
		for _, part := range inputPart().FindAllStringSubmatch(m[1], -1) {
			value = member(value, part[1]+part[2], part[3])
		}
		s := Seen{Ref: "input" + m[1], Value: "undefined"}
		if _, missing := value.(absent); !missing {
			if data, err := json.Marshal(value); err == nil {
				s.Value = Clean(string(data[:min(len(data), maxSeen)]))
			}
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

type absent struct{}

func member(v any, name, index string) any {
	switch v := v.(type) {
	case map[string]any:
		if e, ok := v[name]; ok && index == "" {
			return e
		}
	case []any:
		i := 0
		for _, c := range index {
			if i = i*10 + int(c-'0'); i >= len(v) {
				return absent{}
			}
		}
		if index != "" && i < len(v) {
			return v[i]
		}
	}
	return absent{}
}
