package rego

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// spellOut writes members of the input out where a module has another name for them, by an
// import or by a variable of the rule: a trap is one under each name. It changes the
// module, of which positions stay what they are.
func spellOut(m *ast.Module) {
	imported := map[ast.Var]ast.Ref{}
	for _, i := range m.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok && path.HasPrefix(ast.InputRootRef) && len(path) > 1 {
			imported[i.Name()] = path
		}
	}
	for _, r := range m.Rules {
		for c := r; c != nil; c = c.Else {
			spellOutRule(c, imported)
		}
	}
}

func spellOutRule(r *ast.Rule, imported map[ast.Var]ast.Ref) {
	names := map[ast.Var]ast.Ref{}
	for name, ref := range imported {
		names[name] = ref
	}
	// What is assigned keeps its name where it is assigned.
	kept := map[*ast.Term]bool{}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if !e.IsAssignment() || len(e.Operands()) != 2 {
			return false
		}
		name, ok := e.Operand(0).Value.(ast.Var)
		kept[e.Operand(0)] = true
		if !ok {
			return false
		}
		if ref, ok := e.Operand(1).Value.(ast.Ref); ok {
			if head, ok := ref[0].Value.(ast.Var); ok && names[head] != nil {
				ref = append(slices.Clone(names[head]), ref[1:]...)
			}
			if ref.HasPrefix(ast.InputRootRef) && len(ref) > 1 && ref.IsGround() {
				names[name] = ref
			}
		}
		return false
	})
	if len(names) == 0 {
		return
	}
	var visit func(any) bool
	walk := func(x any) { ast.NewGenericVisitor(visit).Walk(x) }
	visit = func(x any) bool {
		t, ok := x.(*ast.Term)
		if !ok {
			return false
		}
		switch v := t.Value.(type) {
		case ast.Var:
			if ref := names[v]; ref != nil && !kept[t] {
				t.Value = slices.Clone(ref)
			}
		case ast.Ref:
			if head, ok := v[0].Value.(ast.Var); ok && names[head] != nil {
				t.Value = append(slices.Clone(names[head]), v[1:]...)
			}
			for _, part := range v[1:] {
				walk(part)
			}
			return true // the head is no term of its own
		}
		return false
	}
	walk(r.Head)
	walk(r.Body)
}
