package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Mutant is a file of a policy from which one thing is gone: a condition, a rule, or an
// element of a constant set. Tests that pass all the same do not know what it is for.
type Mutant struct {
	File string
	Line int
	What string // the text that is gone, on one line
	Text []byte // the file without it
	// Declares: the condition also gives a variable its value, so that the file may not
	// compile without it.
	Declares bool
}

// Mutants are all mutants of a file; defaults stay. An error is a [CompileError].
func Mutants(name string, text []byte) ([]Mutant, error) {
	m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, compileError(err)
	}
	if m == nil {
		return nil, compileErrorf(name, "the file is empty")
	}
	var out []Mutant
	cut := func(at *ast.Location, with string, declares bool) {
		from, to := at.Offset, at.Offset+len(at.Text)
		if to > len(text) || string(text[from:to]) != string(at.Text) {
			return // an expression that the parser made up
		}
		changed := slices.Concat(text[:from:from], []byte(with), text[to:])
		out = append(out, Mutant{File: name, Line: at.Row, What: strings.Join(strings.Fields(string(at.Text)), " "), Text: changed, Declares: declares})
	}
	for _, r := range m.Rules {
		for c := r; c != nil; c = c.Else {
			if c.Default {
				continue
			}
			if c == r {
				cut(c.Location, "", false)
			}
			mutateBody(c.Body, cut)
			if alwaysTrue(c.Body) && c.Head.Value != nil {
				if set, ok := c.Head.Value.Value.(ast.Set); ok && c.Head.Value.Location != nil {
					mutateSet(set, c.Head.Value.Location, cut)
				}
			}
		}
	}
	return out, nil
}

// mutateBody makes each condition true, and those within every likewise.
func mutateBody(b ast.Body, cut func(*ast.Location, string, bool)) {
	if len(b) == 1 && alwaysTrue(b) {
		return
	}
	for _, e := range b {
		if e.Location == nil {
			continue
		}
		_, declares := e.Terms.(*ast.SomeDecl)
		cut(e.Location, "true", declares || e.IsAssignment())
		if every, ok := e.Terms.(*ast.Every); ok {
			mutateBody(every.Body, cut)
		}
	}
}

// mutateSet leaves each element out.
func mutateSet(set ast.Set, at *ast.Location, cut func(*ast.Location, string, bool)) {
	elements := set.Slice()
	for i := range elements {
		var rest []string
		for j, e := range elements {
			if j != i {
				rest = append(rest, e.String())
			}
		}
		with := "{" + strings.Join(rest, ", ") + "}"
		if len(rest) == 0 {
			with = "set()"
		}
		cut(at, with, false)
	}
}
