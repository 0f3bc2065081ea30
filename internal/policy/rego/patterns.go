package rego

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkPatterns refuses rules that take an object apart by a pattern, such as
// {"ref": r, "user": u} = input.image. A pattern matches an object with exactly its
// members, so the engine compares their number first, and would so tell a source
// whose facts are not known yet from one whose facts are, without reading any.
//
// For the same reason wholes, which are sources as they stand in the input, are not
// unified (=).
func checkPatterns(file string, m *ast.Module, wholes []string) error {
	var at *ast.Location
	for _, r := range m.Rules {
		if slices.ContainsFunc(r.Head.Args, func(t *ast.Term) bool { return hasObject(t, false) }) {
			at = r.Location
		}
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			if at == nil && (isPattern(e) || unifiesWhole(e, wholes)) {
				at = e.Location
			}
			return at != nil
		})
		if at != nil {
			err := compileErrorf(fmt.Sprintf("%s:%d", file, at.Row),
				"an object is taken apart by a pattern here, or unified (=) as a whole, which matches only an object with exactly the same members")
			err.Reasons[0].Hint = "assign it and name the members: x := input.image, and then x.user"
			return err
		}
	}
	return nil
}

// isPattern reports whether an expression matches something against an object.
func isPattern(e *ast.Expr) bool {
	if some, ok := e.Terms.(*ast.SomeDecl); ok { // some {"a": x} in list
		for _, s := range some.Symbols {
			if call, ok := s.Value.(ast.Call); ok {
				for _, t := range call[1 : len(call)-1] {
					if hasObject(t, false) {
						return true
					}
				}
			}
		}
		return false
	}
	if !e.IsCall() || len(e.Operands()) != 2 {
		return false
	}
	a, b := e.Operand(0), e.Operand(1)
	switch e.Operator().String() {
	case ast.Assign.Name:
		return hasObject(a, false)
	case ast.Equality.Name:
		return hasObject(a, !isInput(b)) || hasObject(b, !isInput(a))
	}
	return false
}

// unifiesWhole reports whether an expression is x = input.image or the like.
func unifiesWhole(e *ast.Expr, wholes []string) bool {
	if !e.IsCall() || e.Operator().String() != ast.Equality.Name {
		return false
	}
	return slices.ContainsFunc(e.Operands(), func(t *ast.Term) bool {
		return isInput(t) && slices.Contains(wholes, t.String()) || t.Equal(ast.InputRootDocument)
	})
}

// hasObject reports whether a term is an object or an array with one in it; with
// variables only, of objects that have some.
func hasObject(t *ast.Term, variables bool) bool {
	switch v := t.Value.(type) {
	case ast.Object:
		return !variables || !v.IsGround()
	case *ast.Array:
		for i := range v.Len() {
			if hasObject(v.Elem(i), variables) {
				return true
			}
		}
	}
	return false
}

func isInput(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && ref.HasPrefix(ast.InputRootRef)
}
