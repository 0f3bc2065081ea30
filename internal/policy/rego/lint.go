package rego

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// Codes of findings (docs/reasons.md). Each is a way in which a policy that compiles
// says something else than its author meant.
const (
	CodeNotUndefined  = "LINT_NOT_UNDEFINED"  // "not" of something that may be undefined
	CodeDenyUndefined = "LINT_DENY_UNDEFINED" // a denial that does not fire when something is absent
	CodeNoDefault     = "LINT_NO_DEFAULT"     // allow without a default
	CodeAllowFalse    = "LINT_ALLOW_FALSE"    // a second definition of allow
	CodeMessageLost   = "LINT_MESSAGE_LOST"   // a deny_msg that buildx drops
	CodeUnanchored    = "LINT_UNANCHORED"     // a match of a part where the whole is meant
	CodeUnverified    = "LINT_UNVERIFIED"     // a claim is believed that nothing verified
	CodeImpure        = "LINT_IMPURE"         // another answer for the same input
	CodeActor         = "LINT_ACTOR"          // who started a run is no authorisation
	CodeCount         = "LINT_COUNT"          // a list that is absent when it is empty has no length
	CodeTag           = "LINT_TAG"            // a tag is believed that nobody looks up when a digest stands beside it
)

// MaxSource is the longest file that [Lint] and [Format] read, in bytes.
const MaxSource = MaxBundle

// LintOptions are what a linter knows of a policy's input.
type LintOptions struct {
	// Optional reports whether a member of the input, by its path, may be absent. Nil:
	// that of a signing policy.
	Optional func(path []string) bool
	// Signing is set for a policy over the signing policy's document.
	Signing *SigningLint
}

// Lint reads the files of a policy, without compiling them, and names what in them is a
// trap: each finding has "file:line" as its subject and what to write instead as its
// hint. An error is a [CompileError]: the text does not parse. Tests (*_test.rego) are
// left out.
func Lint(files map[string][]byte, o LintOptions) ([]policy.Reason, error) {
	l := &linter{optional: o.Optional, signing: o.Signing}
	if l.optional == nil {
		l.optional = func(path []string) bool { return !slices.Contains(always, strings.Join(path, ".")) }
	}
	var modules []*ast.Module
	for _, name := range sortedNames(files) {
		if strings.HasSuffix(name, "_test.rego") || !strings.HasSuffix(name, ".rego") {
			continue
		}
		if len(files[name]) > MaxSource {
			return nil, compileErrorf(name, "%d bytes; a policy has at most %d", len(files[name]), MaxSource)
		}
		m, err := ast.ParseModuleWithOpts(name, string(files[name]), ast.ParserOptions{RegoVersion: ast.RegoV1})
		switch {
		case err != nil:
			return nil, compileError(err)
		case m == nil:
			return nil, compileErrorf(name, "the file is empty")
		}
		if l.signing != nil {
			spellOut(m)
		}
		modules = append(modules, m)
	}
	l.look(modules)
	for _, m := range modules {
		l.scope = scopeOf(m, modules)
		l.module(m)
	}
	sorted.Func(l.found, func(a, b finding) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	})
	var out []policy.Reason
	for _, f := range l.found {
		if !slices.Contains(out, f.Reason) {
			out = append(out, f.Reason)
		}
	}
	return out, nil
}

// Format is a file in the one layout of all Rego. An error is a [CompileError].
func Format(name string, text []byte) ([]byte, error) {
	if len(text) > MaxSource {
		return nil, compileErrorf(name, "%d bytes; a policy has at most %d", len(text), MaxSource)
	}
	out, err := format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, compileError(err)
	}
	return out, nil
}

func sortedNames(files map[string][]byte) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

type finding struct {
	policy.Reason
	file string
	line int
}

type linter struct {
	found    []finding
	optional func([]string) bool
	signing  *SigningLint
	scope    scope // of the module that is looked at

	// What the policy as a whole does.
	verifiesGit, verifiesImage bool
	bindsTag                   bool
	defaults                   map[string]bool // "package.rule"
	defined                    map[string]int
	otherwise                  map[string]bool // rules that some definition gives another value than false
}

func (l *linter) add(code string, at *ast.Location, hint, format string, args ...any) {
	r := policy.Reason{Code: code, Message: Clean(fmt.Sprintf(format, args...)), Subject: fmt.Sprintf("%s:%d", at.File, at.Row), Hint: hint}
	l.found = append(l.found, finding{r, at.File, at.Row})
}

// look learns what the policy has that makes a pattern harmless.
func (l *linter) look(modules []*ast.Module) {
	l.defaults, l.defined, l.otherwise = map[string]bool{}, map[string]int{}, map[string]bool{}
	for _, m := range modules {
		for _, r := range m.Rules {
			name := ruleName(m, r)
			l.defined[name]++
			l.otherwise[name] = l.otherwise[name] || !r.Default && !isFalse(r.Head.Value)
			l.defaults[name] = l.defaults[name] || r.Default
		}
		ast.WalkRefs(m, func(r ast.Ref) bool {
			s := r.String()
			l.verifiesGit = l.verifiesGit || s == "verify_git_signature"
			l.verifiesImage = l.verifiesImage || strings.HasPrefix(s, "docker_github_builder") || s == "artifact_attestation" || s == "github_attestation" ||
				strings.Contains(s, ".provenance.signer") || strings.Contains(s, ".signatures")
			l.bindsTag = l.bindsTag || bindsTag(s)
			return false
		})
	}
}

func ruleName(m *ast.Module, r *ast.Rule) string {
	return m.Package.Path.String() + "." + r.Head.Ref().String()
}

func (l *linter) module(m *ast.Module) {
	for _, r := range m.Rules {
		for c := r; c != nil; c = c.Else {
			l.rule(m, c)
		}
	}
	ast.WalkExprs(m, func(e *ast.Expr) bool { l.expression(e); return false })
	ast.WalkTerms(m, func(t *ast.Term) bool { l.term(t); return false })
}

func (l *linter) rule(m *ast.Module, r *ast.Rule) {
	name := r.Head.Ref().String()
	if l.signing != nil {
		l.signingRule(m, r)
	} else {
		l.tag(name, r)
	}
	switch {
	case name == "allow" && l.signing != nil:
	case name == "allow" && !r.Default && isFalse(r.Head.Value) && l.otherwise[ruleName(m, r)]:
		l.add(CodeAllowFalse, r.Location, "default allow := false",
			"allow is given the value false: where another rule gives it true, that is a conflict and everything is denied")
	case name == "allow" && !l.defaults[ruleName(m, r)] && len(r.Head.Args) == 0 && l.defined[m.Package.Path.String()+".decision"] > 0:
		l.add(CodeNoDefault, firstOf(m, r).Location, "default allow := false", "allow has no default: without a rule that is true it is undefined, and so is the decision that contains it, with all its messages")
	case name == "deny_msg" && !r.Default && r.Head.Key == nil && isString(r.Head.Value):
		l.add(CodeMessageLost, r.Location, "deny_msg contains "+r.Head.Value.String()+" if …", "deny_msg is a text, and must be a set or an array of texts: buildx drops it")
	}
	if denies(name) {
		for _, e := range r.Body {
			l.denial(name, e)
		}
		l.message(name, r)
	}
}

// firstOf is the first rule of this name, so that many rules have one finding.
func firstOf(m *ast.Module, r *ast.Rule) *ast.Rule {
	for _, other := range m.Rules {
		if other.Head.Ref().Equal(r.Head.Ref()) {
			return other
		}
	}
	return r
}

func isFalse(t *ast.Term) bool { return t != nil && t.Value.Compare(ast.Boolean(false)) == 0 }

func isString(t *ast.Term) bool {
	if t == nil {
		return false
	}
	_, ok := t.Value.(ast.String)
	return ok
}

// denies reports whether a rule's being true means no.
func denies(name string) bool {
	return strings.HasPrefix(name, "deny") || name == "violation" || name == "violations"
}

// message finds a denial whose text is undefined when a field is absent, so that there is
// no denial: unless a condition of the rule wants the field.
func (l *linter) message(rule string, r *ast.Rule) {
	wanted := map[string]bool{}
	for _, e := range r.Body {
		if !e.Negated {
			ast.WalkRefs(e, func(ref ast.Ref) bool { wanted[ref.String()] = true; return false })
		}
	}
	for _, head := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if head == nil {
			continue
		}
		ref, _ := l.absent(head)
		if ref == "" || wanted[ref] {
			continue
		}
		l.add(CodeDenyUndefined, head.Location, "object.get("+parentOf(ref)+", …) with what to say when it is absent",
			"%s is part of the text: when it is absent, there is no text, and %s does not deny", ref, rule)
		return
	}
}

var comparisons = map[string]string{"neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

// denial finds a condition of a denial that is undefined, and so does not hold, when
// the field that it is about is absent. In a signing policy that is each call.
func (l *linter) denial(rule string, e *ast.Expr) {
	if e.Negated || !e.IsCall() || len(e.With) > 0 {
		return
	}
	operator := e.Operator().String()
	sign, compares := comparisons[operator]
	if !compares && l.signing == nil {
		return
	}
	for _, o := range e.Operands() {
		ref, nested := l.absent(o)
		if ref == "" || isCallOf(o, "count") {
			continue
		}
		what := "is compared with " + sign
		hint := "write the condition that is wanted as a rule of its own, ok if …, and deny with not ok; or object.get(" + parentOf(ref) + ", …) with what is to count when it is absent"
		if nested || !compares {
			what = "is computed with"
		}
		l.add(CodeDenyUndefined, e.Location, hint, "%s %s: when it is absent, %s does not deny", ref, what, rule)
		return
	}
}

// expression finds what negation does not do, and matches of parts.
func (l *linter) expression(e *ast.Expr) {
	if e.IsCall() {
		l.call(e.Operator().String(), e.Operands(), e.Location)
	}
	if !e.Negated && e.IsCall() {
		l.emptiness(e)
	}
	if l.signing != nil {
		l.negation(e)
		return
	}
	if !e.Negated || !e.IsCall() {
		return
	}
	operator := e.Operator().String()
	for _, o := range e.Operands() {
		ref, nested := l.absent(o)
		if ref == "" || (operator == "equal" || operator == "eq") && !nested {
			continue
		}
		l.add(CodeNotUndefined, e.Location, "write what is negated as a rule of its own, ok if …, and negate that: not ok",
			"not %s: when %s is absent this is undefined, and not true", strings.TrimPrefix(spelled(e), "not "), ref)
		return
	}
}

// emptiness finds count(x) == 0, < n or <= n of a list that is absent when it is empty.
func (l *linter) emptiness(e *ast.Expr) {
	sign, ok := map[string]string{"equal": "==", "lt": "<", "lte": "<="}[e.Operator().String()]
	if !ok || len(e.Operands()) != 2 {
		return
	}
	counted := e.Operands()[0]
	if n, isNumber := e.Operands()[1].Value.(ast.Number); !isNumber || !isCallOf(counted, "count") || sign == "==" && n != "0" {
		return
	}
	if ref, _ := l.absent(counted); ref != "" {
		l.add(CodeCount, e.Location, "not "+ref, "count(%s) %s %s: when there is none, it is absent, and its count is undefined, not 0", ref, sign, e.Operands()[1])
	}
}

// spelled is an expression as it was written, on one line.
func spelled(e *ast.Expr) string {
	if e.Location != nil && len(e.Location.Text) > 0 && len(e.Location.Text) < 200 {
		return strings.Join(strings.Fields(string(e.Location.Text)), " ")
	}
	return e.String()
}

// term finds claims, matches of parts, and what is not the same twice.
func (l *linter) term(t *ast.Term) {
	switch v := t.Value.(type) {
	case ast.Ref:
		l.claim(v, t.Location)
	case ast.Call:
		l.call(v[0].String(), v[1:], t.Location)
	}
}

func (l *linter) claim(r ast.Ref, at *ast.Location) {
	s := r.String()
	if l.signing != nil && l.signingClaim(s, at) {
		return
	}
	switch {
	case at == nil:
	case s == "rand.intn" || s == "uuid.rfc4122" || s == "time.now_ns":
		l.add(CodeImpure, at, "", "%s gives another answer each time: a decision by this policy cannot be kept", s)
	case !l.verifiesGit && strings.HasPrefix(s, "input.git.") && (strings.Contains(s, ".sshSignature") || strings.Contains(s, ".pgpSignature")):
		l.add(CodeUnverified, at, "verify_git_signature(input.git.tag, \"keys.pub\"); in a signing policy input.git.tag.signer",
			"%s is what an object says about its signature, and nothing here verifies that", s)
	case !l.verifiesGit && strings.HasPrefix(s, "input.git.") && (strings.Contains(s, ".author") || strings.Contains(s, ".committer") || strings.Contains(s, ".tagger")):
		l.add(CodeUnverified, at, "verify_git_signature(input.git.commit, \"keys.pub\") in the same policy",
			"%s is whatever the author of the object wrote there, and nothing here verifies a signature", s)
	case !l.verifiesImage && strings.HasPrefix(s, "input.image.provenance."):
		l.add(CodeUnverified, at, "input.image.provenance.signer, with the issuer and identity that you believe, in the same rule",
			"%s is the word of whoever signed the provenance, or of whoever pushed it, and nothing here asks who signed it", s)
	case s == "input.run.actor" || strings.HasPrefix(s, "input.run.actor."):
		l.add(CodeActor, at, "who approved or signed: input.approvals, input.git.tag.signer", "%s is who started the run, which anybody with write access can: it is no authorisation", s)
	}
}

// inNames are the fields in which a part that matches is somebody else's name.
var inNames = []string{"input.image.host", "input.image.repo", "input.image.fullRepo", "input.image.ref", "input.http.host", "input.http.url", "input.git.host", "input.git.remote", "input.git.fullURL"}

func (l *linter) call(name string, args []*ast.Term, at *ast.Location) {
	if at == nil || len(args) < 2 {
		return
	}
	field := func(t *ast.Term) string { return t.String() }
	text := func(t *ast.Term) (string, bool) {
		s, ok := t.Value.(ast.String)
		return string(s), ok
	}
	switch name {
	case "regex.match":
		if p, ok := text(args[0]); ok && slices.Contains(inNames, field(args[1])) && (!strings.HasPrefix(p, "^") || !strings.HasSuffix(p, "$")) {
			l.add(CodeUnanchored, at, "write ^ and $ around all of it, as in ^(…)$", "the expression %q matches a part of %s", p, field(args[1]))
		}
	case "contains":
		if p, ok := text(args[1]); ok && slices.Contains(inNames, field(args[0])) {
			l.add(CodeUnanchored, at, "compare the whole, with == or in", "%q may stand anywhere in %s", p, field(args[0]))
		}
	case "endswith":
		if p, ok := text(args[1]); ok && strings.HasSuffix(field(args[0]), ".host") && !strings.HasPrefix(p, ".") {
			l.add(CodeUnanchored, at, "write the dot, \"."+p+"\", or compare the whole", "%s may end with %q and be another host's name", field(args[0]), p)
		}
	case "startswith":
		p, ok := text(args[1])
		f := field(args[0])
		if ok && slices.Contains(inNames, f) && !strings.HasSuffix(f, ".ref") && !strings.HasSuffix(p, "/") {
			l.add(CodeUnanchored, at, "end it with a slash, \""+strings.TrimSuffix(p, "/")+"/\", or compare the whole", "%s may begin with %q and be another's name", f, p)
		}
	}
}

func isCallOf(t *ast.Term, name string) bool {
	c, ok := t.Value.(ast.Call)
	return ok && c[0].String() == name
}

// absent is the first reference below input in a term that may be absent, "" without
// one; nested when it stands in a call.
func (l *linter) absent(t *ast.Term) (ref string, nested bool) {
	switch v := t.Value.(type) {
	case ast.Ref:
		if l.mayBeAbsent(v) {
			return v.String(), false
		}
	case ast.Call:
		if v[0].String() == "object.get" {
			return "", false // says what counts when it is absent
		}
		for _, arg := range v[1:] {
			if r, _ := l.absent(arg); r != "" {
				return r, true
			}
		}
	case *ast.Array:
		for i := range v.Len() {
			if r, n := l.absent(v.Elem(i)); r != "" {
				return r, n
			}
		}
	}
	return "", false
}

func (l *linter) mayBeAbsent(r ast.Ref) bool {
	if len(r) < 2 || r[0].Value.Compare(ast.Var("input")) != 0 {
		return false
	}
	var path []string
	for _, part := range r[1:] {
		s, ok := part.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(s))
	}
	return len(path) > 0 && l.optional(path)
}

// always are the fields of a signing policy's input that are always there.
var always = []string{"now", "kind", "action", "git", "git.ref", "git.checksum", "git.commitChecksum", "git.isAnnotatedTag"}

// parentOf is what object.get is asked of.
func parentOf(ref string) string {
	if i := max(strings.LastIndexByte(ref, '.'), strings.LastIndexByte(ref, '[')); i > 0 {
		return ref[:i]
	}
	return ref
}

// Kind is the package of a file, such as "data.docker", and whether it has a rule
// named decision; "" for a file that does not parse.
func Kind(name string, text []byte) (pkg string, decides bool) {
	m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil || m == nil {
		return "", false
	}
	for _, r := range m.Rules {
		decides = decides || r.Head.Ref().String() == "decision"
	}
	return m.Package.Path.String(), decides
}

// CheckRef reports whether a text is one reference below input, and nothing more.
func CheckRef(text string) (bool, error) {
	if len(text) > 1000 {
		return false, nil
	}
	r, err := ast.ParseRef(text)
	if err != nil {
		return false, err
	}
	return r.HasPrefix(ast.InputRootRef) && len(r) > 1, nil
}
