// Package cuelang checks an in-toto statement against a policy in CUE, as cosign
// verify-attestation and the Sigstore policy-controller do, with one difference:
// every field that the policy names must be in the statement with a concrete
// value. There, a missing field passes, because the policy itself supplies it.
//
// Trusted: the policy text; whoever can modify it decides. Not trusted: the
// statement. A policy reads nothing but the statement: only CUE's own packages
// can be imported, and of those none does input or output.
package cuelang

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	cuejson "cuelang.org/go/encoding/json"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeCompile     = "POLICY_COMPILE"     // the policy text is wrong
	CodeEval        = "POLICY_EVAL"        // evaluation took too long or was impossible
	CodeAttestation = "ATTESTATION_POLICY" // the statement does not satisfy the policy
)

// Limits. CUE builds a value per member, so documents are bounded more tightly
// than elsewhere.
const (
	MaxPolicy   = 256 << 10
	MaxDocument = 16 << 20
	timeout     = 10 * time.Second
	maxReasons  = 20
)

// Policy is CUE text that compiles. It is safe for concurrent use: each check has
// a CUE context of its own, because contexts are not and keep what they have seen.
type Policy struct {
	name, text string
}

// CompileError says why a policy text is refused, with "file:line".
type CompileError struct{ Reasons []policy.Reason }

func (e *CompileError) Error() string {
	lines := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		lines[i] = r.Subject + ": " + r.Message
	}
	return "policy does not compile: " + strings.Join(lines, "; ")
}

// Compile checks the text of a policy; name is what errors call it.
func Compile(name string, text []byte) (*Policy, error) {
	refuse := func(subject, message string) error {
		return &CompileError{Reasons: []policy.Reason{{Code: CodeCompile, Message: message, Subject: subject}}}
	}
	switch {
	case len(text) > MaxPolicy:
		return nil, refuse(name, fmt.Sprintf("%d bytes; a policy has at most %d", len(text), MaxPolicy))
	case !utf8.Valid(text):
		return nil, refuse(name, "not UTF-8")
	case len(bytes.TrimSpace(text)) == 0:
		return nil, refuse(name, "the policy is empty, so it would demand nothing")
	}
	v, err := build(cuecontext.New(), name, string(text))
	if err != nil {
		return nil, compileError(name, err)
	}
	if v.IncompleteKind() != cue.StructKind {
		return nil, refuse(name, "the policy must be a struct, as in predicate: specVersion: \"1.4\"")
	}
	if fields, err := v.Fields(cue.Optional(true)); err != nil || !fields.Next() {
		return nil, refuse(name, "the policy names no field, so it would demand nothing")
	}
	if line, field := stray(name, text); field != "" {
		return nil, refuse(fmt.Sprintf("%s:%d", name, line), fmt.Sprintf(
			"%s is no field of a statement (_type, subject, predicateType, predicate) and nothing in the policy uses it", field))
	}
	return &Policy{name: name, text: string(text)}, nil
}

// stray finds a top-level field that neither a statement has nor the policy uses:
// a misspelt predicateType would demand nothing. Fields such as "before:
// time.Parse(…)", which cosign's examples use as names for values, are no stray.
func stray(name string, text []byte) (line int, field string) {
	file, err := parser.ParseFile(name, text)
	if err != nil {
		return 0, ""
	}
	used := map[string]bool{}
	var collect func(ast.Node) bool
	collect = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			used[n.Name] = true
		case *ast.Field:
			if _, plain := n.Label.(*ast.Ident); !plain {
				ast.Walk(n.Label, collect, nil)
			}
			ast.Walk(n.Value, collect, nil)
			return false
		}
		return true
	}
	ast.Walk(file, collect, nil)
	for _, d := range file.Decls {
		f, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		label, _, err := ast.LabelName(f.Label)
		if err != nil || statementField(label) || used[label] || strings.HasPrefix(label, "_") || strings.HasPrefix(label, "#") {
			continue
		}
		return f.Pos().Line(), label
	}
	return 0, ""
}

// statementField reports whether a statement has the top-level field.
func statementField(label string) bool {
	switch label {
	case "_type", "subject", "predicateType", "predicate":
		return true
	}
	return false
}

func build(ctx *cue.Context, name, text string) (v cue.Value, err error) {
	defer recovered(&err)
	v = ctx.CompileString(text, cue.Filename(name))
	return v, v.Err()
}

// recovered turns a panic of the CUE evaluator into an error: input that makes
// it panic is input that is refused.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the CUE evaluator failed: %v", r)
	}
}

func compileError(name string, err error) error {
	e := &CompileError{}
	for _, one := range cueerrors.Errors(err) {
		subject := name
		if pos := one.Position(); pos.IsValid() && pos.Line() > 0 {
			subject = fmt.Sprintf("%s:%d", name, pos.Line())
		}
		e.Reasons = append(e.Reasons, policy.Reason{Code: CodeCompile, Message: clean(message(one)), Subject: subject})
	}
	if len(e.Reasons) == 0 {
		e.Reasons = []policy.Reason{{Code: CodeCompile, Message: clean(err.Error()), Subject: name}}
	}
	return e
}

// message is the error's text without position and path.
func message(e cueerrors.Error) string {
	format, args := e.Msg()
	text := fmt.Sprintf(format, args...)
	if cause := cueerrors.Unwrap(e); cause != nil && text == "" {
		text = cause.Error()
	}
	return text
}

// Check unifies the statement with the policy and demands that the result is
// without conflicts and concrete. Reasons name the field, as in
// `predicate.metadata.tools.0.name: conflicting values "syft" and "trivy"`. The
// statement must be one JSON object. An error means that ctx ended.
func (p *Policy) Check(ctx context.Context, statement []byte) (policy.Decision, error) {
	if err := oneObject(statement); err != nil {
		return policy.Deny(policy.Reason{Code: CodeAttestation, Message: clean("the statement cannot be read: " + err.Error())}), nil
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan policy.Decision, 1)
	go func() { done <- p.check(statement) }()
	select {
	case d := <-done:
		return d, nil
	case <-bounded.Done():
		if ctx.Err() != nil {
			return policy.Decision{}, ctx.Err()
		}
		return policy.Deny(policy.Reason{Code: CodeEval, Message: fmt.Sprintf("the policy was stopped: evaluation took longer than %v", timeout), Subject: p.name}), nil
	}
}

func (p *Policy) check(statement []byte) policy.Decision {
	missing, err := p.unify(statement)
	if err == nil && len(missing) == 0 {
		return policy.Decision{Allowed: true}
	}
	d := policy.Deny(missing...)
	seen := map[string]bool{}
	for _, e := range cueerrors.Errors(err) {
		path := strings.Join(e.Path(), ".")
		text := message(e)
		if path != "" {
			text = path + ": " + text
		}
		if !seen[text] && len(d.Reasons) < maxReasons {
			seen[text] = true
			d.Reasons = append(d.Reasons, policy.Reason{Code: CodeAttestation, Message: clean(text), Subject: path})
		}
	}
	if len(d.Reasons) == 0 {
		return policy.Deny(policy.Reason{Code: CodeEval, Message: clean(err.Error()), Subject: p.name})
	}
	sort.SliceStable(d.Reasons, func(i, j int) bool { return d.Reasons[i].Subject < d.Reasons[j].Subject })
	return d
}

// unify reports what the policy names and the statement does not have, or the
// conflicts between the two.
func (p *Policy) unify(statement []byte) (missing []policy.Reason, err error) {
	defer recovered(&err)
	ctx := cuecontext.New()
	demand, err := build(ctx, p.name, p.text)
	if err != nil {
		return nil, err
	}
	expr, err := cuejson.Extract("statement", statement)
	if err != nil {
		return nil, err
	}
	have := ctx.BuildExpr(expr)
	if err := have.Err(); err != nil {
		return nil, err
	}
	both := demand.Unify(have)
	if err := both.Validate(cue.Concrete(true), cue.Final()); err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(statement, &doc); err != nil {
		return nil, err
	}
	a := absence{}
	err = a.object(both, doc, "")
	return a.missing, err
}

// absence collects the fields of the unified value that the statement does not
// have: the policy supplied those itself.
type absence struct{ missing []policy.Reason }

func (a *absence) object(v cue.Value, have map[string]any, path string) error {
	fields, err := v.Fields()
	if err != nil {
		return err
	}
	for fields.Next() && len(a.missing) < maxReasons {
		name := fields.Selector().Unquoted()
		at := name
		if path != "" {
			at = path + "." + name
		} else if !statementField(name) {
			continue // a name for a value; stray has looked at it
		}
		found, ok := have[name]
		if !ok {
			a.missing = append(a.missing, policy.Reason{
				Code: CodeAttestation, Message: clean(at + ": the policy wants this field and the statement does not have it"), Subject: at,
			})
			continue
		}
		if err := a.value(fields.Value(), found, at); err != nil {
			return err
		}
	}
	return nil
}

func (a *absence) value(v cue.Value, have any, path string) error {
	switch have := have.(type) {
	case map[string]any:
		return a.object(v, have, path)
	case []any:
		list, err := v.List()
		if err != nil {
			return err
		}
		for i := 0; list.Next() && i < len(have); i++ {
			if err := a.value(list.Value(), have[i], path+"."+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxDepth is how deep a statement may nest.
const maxDepth = 64

// oneObject refuses what is no single JSON object, and duplicate members: CUE
// would merge those, where other readers take the last.
func oneObject(data []byte) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("it has %d bytes; CUE policies read at most %d", len(data), MaxDocument)
	}
	if err := strictjson.Valid(data, maxDepth); err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return errors.New("it is no JSON object")
	}
	return nil
}

// clean keeps messages, which quote the statement, on one harmless line.
func clean(s string) string {
	if len(s) > 1000 {
		s = s[:1000] + "…"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
