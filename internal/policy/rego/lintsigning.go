package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// SigningLint is what a linter knows of the signing policy's document. Its policies are
// judged more strictly than others: the engine promises that members which are required
// are there, and a test of the policy does not.
type SigningLint struct {
	Nullable func(path []string) bool // members that may be null
	Data     map[string]any           // what data.json holds
}

// Codes of findings in signing policies alone.
const (
	CodeApprovals = "LINT_APPROVALS" // approvals are counted, and not people
	CodeRejected  = "LINT_REJECTED"  // what does not count is used to allow
	CodeNull      = "LINT_NULL"      // null is neither undefined nor false
)

// scope is what names mean in one module.
type scope struct {
	pkg     string                 // "data.hallmark.signing"
	imports map[string]string      // "lib" is data.hallmark.lib
	rules   map[string][]*ast.Rule // of the package, in all files
}

func scopeOf(m *ast.Module, modules []*ast.Module) scope {
	s := scope{pkg: m.Package.Path.String(), imports: map[string]string{}, rules: map[string][]*ast.Rule{}}
	for _, i := range m.Imports {
		s.imports[string(i.Name())] = i.Path.String()
	}
	for _, other := range modules {
		if !other.Package.Path.Equal(m.Package.Path) {
			continue
		}
		for _, r := range other.Rules {
			s.rules[r.Head.Ref()[0].String()] = append(s.rules[r.Head.Ref()[0].String()], r)
		}
	}
	return s
}

// path is where a reference leads, with imports and the package's own rules resolved;
// "" for one to a local variable.
func (s scope) path(r ast.Ref) string {
	head := r[0].String()
	full := r.String()
	switch {
	case head == "input" || head == "data":
		return full
	case s.imports[head] != "":
		return s.imports[head] + strings.TrimPrefix(full, head)
	case s.rules[head] != nil:
		return s.pkg + "." + full
	}
	return ""
}

// totals are the library's functions that are never undefined.
var totals = []string{"approvers", "missing_approvers", "rejected_by", "authors"}

// unsure is the first part of a term that may be undefined, "" without one.
func (l *linter) unsure(t *ast.Term) string { return l.unsureWithin(t, 0) }

func (l *linter) unsureWithin(t *ast.Term, depth int) string {
	if depth > 20 {
		return t.String()
	}
	switch v := t.Value.(type) {
	case ast.Var:
		if l.scope.rules[string(v)] != nil && !l.total(string(v), depth+1) {
			return string(v)
		}
	case ast.Ref:
		return l.unsureRef(v, depth)
	case ast.Call:
		name := v[0].String()
		if name == "object.get" {
			return ""
		}
		if ast.BuiltinMap[name] == nil && !l.ofLibrary(v[0], totals) {
			return t.String()
		}
		for _, arg := range v[1:] {
			if u := l.unsureWithin(arg, depth+1); u != "" {
				return u
			}
		}
	case *ast.Array:
		return l.unsureOf(v.Foreach, depth)
	case ast.Set:
		return l.unsureOf(v.Foreach, depth)
	case ast.Object:
		found := ""
		v.Foreach(func(key, value *ast.Term) {
			if found == "" {
				found = l.unsureWithin(key, depth+1)
			}
			if found == "" {
				found = l.unsureWithin(value, depth+1)
			}
		})
		return found
	}
	return ""
}

func (l *linter) unsureOf(each func(func(*ast.Term)), depth int) string {
	found := ""
	each(func(t *ast.Term) {
		if found == "" {
			found = l.unsureWithin(t, depth+1)
		}
	})
	return found
}

// ofLibrary reports whether a term names one of the library's rules or functions.
func (l *linter) ofLibrary(t *ast.Term, names []string) bool {
	r, ok := t.Value.(ast.Ref)
	if !ok {
		return false
	}
	name, ok := strings.CutPrefix(l.scope.path(r), libraryPackage+".")
	return ok && slices.Contains(names, name)
}

func (l *linter) unsureRef(r ast.Ref, depth int) string {
	path := l.scope.path(r)
	var names []string
	whole := true
	for _, t := range r[1:] {
		s, ok := t.Value.(ast.String)
		if whole = whole && ok; whole {
			names = append(names, string(s))
		}
	}
	switch head := r[0].String(); {
	case path == "":
		return r.String() // a member of what a variable is
	case head == "input":
		if len(names) > 0 && l.optional(names) || !whole {
			return r.String()
		}
		return ""
	case l.ofLibrary(ast.NewTerm(r), totals):
		return ""
	case l.scope.rules[head] != nil && len(r) == 1:
		if l.total(head, depth+1) {
			return ""
		}
	case head == "data" && whole && l.inData(names):
		return ""
	}
	return r.String()
}

func (l *linter) inData(path []string) bool {
	var at any = l.signing.Data
	for _, name := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return false
		}
		if at, ok = m[name]; !ok {
			return false
		}
	}
	return true
}

// total reports whether a rule of the package always has a value.
func (l *linter) total(name string, depth int) bool {
	if depth > 20 {
		return false
	}
	for _, r := range l.scope.rules[name] {
		switch {
		case r.Default, r.Head.Key != nil && r.Head.Value == nil && len(r.Head.Ref()) == 1: // name contains …
			return true
		case len(r.Head.Args) > 0 || r.Head.Value == nil || !alwaysTrue(r.Body):
		case l.unsureWithin(r.Head.Value, depth) == "":
			return true
		}
	}
	return false
}

func alwaysTrue(b ast.Body) bool {
	return len(b) == 0 || len(b) == 1 && !b[0].Negated && b[0].String() == "true"
}

// reads reports whether a term has a reference to the input, or to a member of a
// variable.
func (l *linter) reads(t *ast.Term) bool {
	found := false
	ast.WalkRefs(t, func(r ast.Ref) bool {
		path := l.scope.path(r)
		found = found || strings.HasPrefix(path, "input.") || path == "" && len(r) > 1 && ast.BuiltinMap[r.String()] == nil
		return found
	})
	return found
}

// negation finds what "not" does not do.
func (l *linter) negation(e *ast.Expr) {
	if !e.Negated || !e.IsCall() {
		return
	}
	operator := e.Operator().String()
	builtin := ast.BuiltinMap[operator] != nil
	for _, o := range e.Operands() {
		what := l.unsure(o)
		if _, nested := o.Value.(ast.Call); (operator == "equal" || operator == "eq") && !nested {
			continue
		}
		if what == "" && builtin && l.reads(o) {
			what = o.String()
		}
		if what == "" {
			continue
		}
		l.add(CodeNotUndefined, e.Location, "write what is negated as a rule of its own, ok if …, and negate that: not ok",
			"not %s: when %s is absent this is undefined, and not true", strings.TrimPrefix(spelled(e), "not "), what)
		return
	}
}

// signingRule looks at one rule of a signing policy.
func (l *linter) signingRule(m *ast.Module, r *ast.Rule) {
	name := r.Head.Ref().GroundPrefix().String()
	if name == "allow" && len(r.Head.Args) == 0 {
		switch {
		case !r.Default && isFalse(r.Head.Value):
			l.add(CodeAllowFalse, r.Location, "default allow := false",
				"allow is given the value false: where another rule gives it true, that is a conflict and everything is denied")
		case !l.defaults[ruleName(m, r)]:
			l.add(CodeNoDefault, firstOf(m, r).Location, "default allow := false", "allow has no default: without a rule that is true it is undefined, and the same policy as a decision object has no messages")
		}
	}
	says := denies(name) || strings.HasPrefix(name, "warn")
	v := ast.NewGenericVisitor(func(x any) bool {
		if e, ok := x.(*ast.Expr); ok {
			l.null(e, r.Body)
			if !says {
				l.starter(e)
			}
		}
		t, ok := x.(*ast.Term)
		if !ok {
			return false
		}
		switch v := t.Value.(type) {
		case ast.Ref:
			if s := v.String(); !says && (s == "input.rejected" || strings.HasPrefix(s, "input.rejected[")) {
				l.add(CodeRejected, at(t, r), "input.approvals, which has all that counts", "input.rejected is what did not verify or does not count, by whoever wrote it: it may be shown, and must not decide")
			}
			if len(v) > 2 && v[:2].String() == "input.approvals" {
				if n, ok := v[2].Value.(ast.Number); ok && n != "0" {
					l.approvals(at(t, r), v.String()+" is there")
				}
			}
		case ast.Call:
			l.counted(v, t, r)
		}
		return false
	})
	v.Walk(r)
	l.actor(r, says)
	for _, e := range r.Body { // count(…) as a condition of its own is an expression, and no term
		if e.IsCall() {
			l.counted(append(ast.Call{e.OperatorTerm()}, e.Operands()...), ast.NewTerm(ast.NullValue), r)
		}
	}
}

func at(t *ast.Term, r *ast.Rule) *ast.Location {
	if t.Location != nil && t.Location.File != "" {
		return t.Location
	}
	return r.Location
}

func (l *linter) approvals(at *ast.Location, how string) {
	l.add(CodeApprovals, at, "lib.quorum(names, n), or count({a.principal | some a in input.approvals; …}) of named people",
		"%s: one person has as many approvals as they like, and counts once", how)
}

// counted finds count() of approvals that is not of a set of people.
func (l *linter) counted(c ast.Call, t *ast.Term, r *ast.Rule) {
	if c[0].String() != "count" || len(c) < 2 {
		return
	}
	of := l.resolved(c[1], r, 0)
	var people *ast.Term
	switch v := of.Value.(type) {
	case ast.Ref:
		if v.String() == "input.approvals" {
			l.approvals(at(t, r), "count(input.approvals)")
		}
		return
	case *ast.SetComprehension:
		people = v.Term
		if !overApprovals(v.Body) || l.isPrincipal(people, v.Body) {
			return
		}
	case *ast.ArrayComprehension:
		if !overApprovals(v.Body) {
			return
		}
	case *ast.ObjectComprehension:
		if !overApprovals(v.Body) || l.isPrincipal(v.Key, v.Body) {
			return
		}
	default:
		return
	}
	l.approvals(at(t, r), "this counts approvals")
}

// resolved is what a variable was given in the body, or as a rule without conditions.
func (l *linter) resolved(t *ast.Term, r *ast.Rule, depth int) *ast.Term {
	name := t.String()
	if v, ok := t.Value.(ast.Ref); (ok && len(v) > 1) || depth > 5 {
		return t
	}
	if _, isVar := t.Value.(ast.Var); !isVar {
		if _, isRef := t.Value.(ast.Ref); !isRef {
			return t
		}
	}
	for _, e := range r.Body {
		if e.IsAssignment() && len(e.Operands()) == 2 && e.Operand(0).String() == name {
			return l.resolved(e.Operand(1), r, depth+1)
		}
	}
	for _, rule := range l.scope.rules[name] {
		if rule.Head.Key == nil && len(rule.Head.Args) == 0 && rule.Head.Value != nil && !rule.Default {
			return l.resolved(rule.Head.Value, rule, depth+1)
		}
		if rule.Head.Key != nil && rule.Head.Value == nil { // name contains key if body
			return ast.SetComprehensionTerm(rule.Head.Key, rule.Body)
		}
	}
	return t
}

func overApprovals(b ast.Body) bool {
	found := false
	ast.WalkRefs(b, func(r ast.Ref) bool {
		found = found || len(r) >= 2 && r[:2].String() == "input.approvals"
		return found
	})
	return found
}

// isPrincipal reports whether the elements of a comprehension are people.
func (l *linter) isPrincipal(t *ast.Term, body ast.Body) bool {
	if strings.HasSuffix(t.String(), ".principal") {
		return true
	}
	for _, e := range body {
		if e.IsAssignment() && len(e.Operands()) == 2 && e.Operand(0).Equal(t) {
			return strings.HasSuffix(e.Operand(1).String(), ".principal")
		}
	}
	return false
}

// actor finds that the account that started the run decides. In a message it may stand.
func (l *linter) actor(r *ast.Rule, says bool) {
	v := ast.NewGenericVisitor(func(x any) bool {
		if t, ok := x.(*ast.Term); ok {
			if s := t.String(); s == "input.run.actor" || s == "input.run.actorID" {
				l.add(CodeActor, at(t, r), "who approved or signed: lib.quorum(names, n), input.git.tag.signer", "%s is who started the run, which anybody with write access can: it is no authorisation", s)
			}
		}
		return false
	})
	v.Walk(r.Body)
	if !says {
		v.Walk(r.Head)
	}
}

// starter finds that who started the run lets something through.
func (l *linter) starter(e *ast.Expr) {
	if e.Negated || !e.IsCall() || !slices.Contains([]string{"equal", "eq", ast.Member.Name}, e.Operator().String()) {
		return
	}
	for _, o := range e.Operands() {
		if o.String() == "input.run.actorPrincipal" {
			l.add(CodeActor, e.Location, "who approved or signed: lib.quorum(names, n), input.git.tag.signer", "input.run.actorPrincipal is who started the run, with an access token: it is no authorisation")
		}
	}
}

// null finds conditions that null fulfils.
func (l *linter) null(e *ast.Expr, body ast.Body) {
	path := func(t *ast.Term) string {
		r, ok := t.Value.(ast.Ref)
		if !ok || r[0].String() != "input" {
			return ""
		}
		var names []string
		for _, t := range r[1:] {
			s, ok := t.Value.(ast.String)
			if !ok {
				return ""
			}
			names = append(names, string(s))
		}
		if !l.signing.Nullable(names) {
			return ""
		}
		for _, other := range body {
			if other.Negated || !other.IsCall() {
				continue
			}
			operands := other.Operands()
			guards := strings.HasPrefix(other.Operator().String(), "is_") || other.Operator().String() == "neq" && len(operands) > 1 && operands[1].String() == "null"
			if guards && other != e && len(operands) > 0 && operands[0].Equal(t) {
				return ""
			}
		}
		return r.String()
	}
	if t, ok := e.Terms.(*ast.Term); ok {
		if ref := path(t); ref != "" {
			l.add(CodeNull, e.Location, "is_string("+ref+"), or compare it with ==", "%s is null when it is not known, and null is true as a condition", ref)
		}
		return
	}
	if !e.IsCall() || comparisons[e.Operator().String()] == "" || len(e.Operands()) != 2 { // lint comes before the compiler
		return
	}
	for i, o := range e.Operands() {
		if ref := path(o); ref != "" && e.Operand(1-i).String() != "null" {
			l.add(CodeNull, e.Location, "is_string("+ref+") before it in the same rule", "%s is null when it is not known, and null is less than every text and number, and unlike all of them", ref)
		}
	}
}

// signingClaim finds claims that have a verified counterpart in the document.
func (l *linter) signingClaim(s string, at *ast.Location) bool {
	switch {
	case at == nil:
	case strings.HasPrefix(s, "input.run.actor"):
		return true // see actor
	case strings.HasPrefix(s, "input.git.tag.sshSignature") || strings.HasPrefix(s, "input.git.tag.pgpSignature"):
		l.add(CodeUnverified, at, "lib.signed_tag_by(keys), or input.git.tag.signer, which is there only when a signature verified",
			"%s is what the tag says about its signature: whoever made the tag wrote it", s)
		return true
	case strings.HasPrefix(s, "input.git.") && (strings.Contains(s, ".author") || strings.Contains(s, ".committer") || strings.Contains(s, ".tagger")):
		l.add(CodeUnverified, at, "input.git.commit.signer, input.git.tag.signer: who verifiably signed", "%s is whatever the author of the object wrote there", s)
		return true
	}
	return false
}
