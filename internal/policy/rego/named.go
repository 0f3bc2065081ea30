package rego

import (
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// names watches whether an evaluation comes to one of some names: as the key of a
// reference or as an argument of a function, however the policy put it together. Going
// through all members of an object comes to those alone that are there.
type names struct {
	watched []string
	found   map[string]bool
	scanned map[any]bool // collections that were looked through
}

func newNames(watched []string) *names {
	return &names{watched: watched, found: map[string]bool{}, scanned: map[any]bool{}}
}

// Enabled and Config are a tracer's.
func (n *names) Enabled() bool             { return len(n.watched) > 0 }
func (*names) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent looks at an expression that is about to be evaluated, with what its
// variables are by then. Expressions within others (comprehensions, every) have events
// of their own, and the compiler has made one of each nested call and reference.
func (n *names) TraceEvent(e topdown.Event) {
	expr, ok := e.Node.(*ast.Expr)
	if !ok || e.Op != topdown.EvalOp {
		return
	}
	switch terms := expr.Terms.(type) {
	case *ast.Term:
		n.term(&e, terms)
	case []*ast.Term:
		for _, t := range terms[1:] { // the first names the function
			n.term(&e, t)
		}
	}
}

func (n *names) term(e *topdown.Event, t *ast.Term) {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		n.value(e.Plug(t).Value)
		return
	}
	for _, key := range ref[1:] {
		n.value(e.Plug(key).Value)
	}
}

// value looks for the names in a key or an argument. A path of names (json.filter) is
// taken apart. Of documents whose members are read only when a rule comes to them
// nothing is read.
func (n *names) value(v ast.Value) {
	switch v := v.(type) {
	case ast.String:
		for part := range strings.SplitSeq(string(v), "/") {
			if slices.Contains(n.watched, part) {
				n.found[part] = true
			}
		}
	case *ast.Array:
		if n.first(v) {
			v.Foreach(func(t *ast.Term) { n.value(t.Value) })
		}
	case ast.Set:
		if n.first(v) {
			v.Foreach(func(t *ast.Term) { n.value(t.Value) })
		}
	case ast.Object:
		if reflect.TypeOf(v) != lazyType && n.first(v) {
			v.Foreach(func(key, value *ast.Term) {
				n.value(key.Value)
				n.value(value.Value)
			})
		}
	}
}

func (n *names) first(collection any) bool {
	if n.scanned[collection] {
		return false
	}
	n.scanned[collection] = true
	return true
}
