// Package rego evaluates policies written in Rego with the embedded OPA engine.
//
// There are two uses. [Compile] makes the policy of a gate: package
// hallmark.signing over [policy.Input], with a closed schema, so that a typo is
// an error when the policy is read and not a rule that silently never fires.
// [CompileAttestation] makes a policy over one in-toto statement, as cosign and
// the Sigstore policy-controller evaluate them.
//
// A policy sees its input and nothing else: no network, no clock but the one in
// the input, no environment, no randomness. What goes wrong while it is
// evaluated denies. A compiled policy is safe for concurrent use.
//
// Trusted: the policy text; whoever can modify it decides. Not trusted: the
// input. Evaluation stops after a deadline and when the heap grows beyond a
// bound, so a careless policy denies instead of taking the process down; a
// hostile author can still waste memory within one builtin call.
package rego

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeCompile    = "POLICY_COMPILE"   // the policy text is wrong
	CodeEval       = "POLICY_EVAL"      // evaluation failed or gave something else than a decision
	CodeDenied     = "POLICY_DENIED"    // the policy says no
	CodeIncomplete = "INPUT_INCOMPLETE" // something that every policy may rely on was not known
)

// Limits.
const (
	MaxBundle      = 256 << 10 // bytes of all files of a policy
	DefaultTimeout = 2 * time.Second
	maxHeapGrowth  = 512 << 20 // bytes that the heap may grow during one evaluation
)

// SigningQuery is where a gate's decision stands: rules allow, deny_msg, warn_msg
// and obligations, or one object named decision.
const SigningQuery = "data.hallmark.signing"

// Options of Compile. The zero value is what gates use.
type Options struct {
	Query       string            // package of the decision, default SigningQuery
	Timeout     time.Duration     // of one evaluation, default DefaultTimeout
	Obligations []string          // types that the caller enforces; any other one denies
	Print       func(line string) // receives print(); nil drops it
}

// CompileError says what is wrong with a policy, each reason with code
// POLICY_COMPILE and "file:line" as its subject.
type CompileError struct{ Reasons []policy.Reason }

func (e *CompileError) Error() string {
	var lines []string
	for _, r := range e.Reasons {
		if r.Subject != "" {
			lines = append(lines, r.Subject+": "+r.Message)
		} else {
			lines = append(lines, r.Message)
		}
	}
	return "policy does not compile: " + strings.Join(lines, "; ")
}

func compileErrorf(subject, format string, args ...any) *CompileError {
	return &CompileError{Reasons: []policy.Reason{{Code: CodeCompile, Message: fmt.Sprintf(format, args...), Subject: subject}}}
}

// compileError translates OPA's list of errors.
func compileError(err error) error {
	var list ast.Errors
	var one *ast.Error
	var ours *CompileError
	if errors.As(err, &ours) {
		return ours
	}
	if !errors.As(err, &list) {
		if !errors.As(err, &one) {
			return compileErrorf("", "%v", err)
		}
		list = ast.Errors{one}
	}
	e := &CompileError{}
	for _, a := range list {
		r := policy.Reason{Code: CodeCompile, Message: strings.ReplaceAll(a.Code+": "+a.Message, "\n", " ")}
		if a.Location != nil && a.Location.File != "" {
			r.Subject = fmt.Sprintf("%s:%d", a.Location.File, a.Location.Row)
		}
		if d, ok := a.Details.(*ast.RefErrInvalidDetail); ok {
			r.Hint = nearest(d)
		}
		if a.Code == ast.UnsafeVarErr && r.Hint == "" {
			r.Hint = "nothing gives it a value: is it misspelt?"
		}
		if a.Details != nil && r.Hint == "" { // which is shorter than all that there is
			if lines := a.Details.Lines(); len(lines) > 0 {
				r.Message += " (" + strings.Join(strings.Fields(strings.Join(lines, " ")), " ") + ")"
			}
		}
		e.Reasons = append(e.Reasons, r)
	}
	return e
}

// Set is a compiled policy of a gate.
type Set struct {
	eval    evaluator
	reading Reading
	own     map[string]bool // names of the policy's files
}

// Compile reads the files of one policy: *.rego, each with package
// hallmark.signing or a package below it, and optionally data.json, whose
// members are data.NAME. Keys are the names that errors show. A rule that neither
// decides nor is used by another one is an error: it would silently never fire.
func Compile(files map[string][]byte, o Options) (*Set, error) {
	s, _, err := compileSet(files, SetConfig{Options: o, Library: library, Schema: inputSchema()})
	return s, err
}

// compileSet also gives what was compiled.
func compileSet(files map[string][]byte, c SetConfig) (*Set, unit, error) {
	if c.Query == "" {
		c.Query = SigningQuery
	}
	all, err := c.compile(files)
	if err != nil {
		return nil, unit{}, err
	}
	s := &Set{reading: Reading{Query: c.Query, Obligations: c.Obligations}, own: map[string]bool{}}
	for _, name := range all.bundle.names {
		s.own[name] = true
	}
	if s.eval, err = all.evaluator(c.Query, c.Options); err != nil {
		return nil, unit{}, err
	}
	s.eval.growth = cmp.Or(c.Growth, s.eval.growth)
	decide := []string{"allow", "deny_msg", "warn_msg", "obligations"}
	if s.reading.Object = all.bundle.defines(all.compiler, c.Query+".decision"); s.reading.Object {
		decide = []string{"decision"}
	}
	if err := all.bundle.checkUsed(all.compiler, c.Query, decide); err != nil {
		return nil, unit{}, err
	}
	return s, all, nil
}

// Obligation is a condition of an allowed decision that the caller must meet.
type Obligation struct {
	Type       string         `json:"type"`
	Parameters map[string]any `json:"parameters,omitempty"`
}

// ObligationTypes is the closed list of signing-policy obligations.
func ObligationTypes() []string {
	return []string{"no-push", "record-vsa", "require-tsa", "max-builds", "annotate", "notify"}
}

// Evaluate is [Set.Decide] for callers that enforce no obligations of their own.
func (s *Set) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	d, _, err := s.Decide(ctx, in)
	return d, err
}

// Decide evaluates the policy. The obligations are those of Options.Obligations
// that the policy wants; a policy that wants others denies. An error means that
// ctx ended.
func (s *Set) Decide(ctx context.Context, in policy.Input) (policy.Decision, []Obligation, error) {
	if missing := incomplete(in); len(missing) > 0 {
		return policy.Deny(missing...), nil, nil
	}
	doc, err := inputValue(in)
	if err != nil {
		return policy.Deny(reason(CodeIncomplete, "the input document cannot be written down: %v", err)), nil, nil
	}
	value, denied, err := s.eval.run(ctx, doc, in.Now)
	if err != nil || denied != nil {
		return denyOr(denied), nil, err
	}
	d, obligations := s.reading.decision(value)
	return d, obligations, nil
}

func denyOr(r *policy.Reason) policy.Decision {
	if r == nil {
		return policy.Decision{}
	}
	return policy.Deny(*r)
}

func reason(code, format string, args ...any) policy.Reason {
	return policy.Reason{Code: code, Message: Clean(fmt.Sprintf(format, args...))}
}

// Clean keeps what a policy says (it may quote its input) on one harmless line.
func Clean(s string) string {
	if len(s) > 1000 {
		s = s[:1000] + "…"
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, s)
}

// Reading is how a decision is read off what a policy's package evaluated to.
type Reading struct {
	Query       string   // the package
	Object      bool     // the rule decision alone decides
	Obligations []string // types that the caller enforces
}

// decision reads what the package evaluated to. Anything that is not exactly a
// decision denies.
func (r Reading) decision(value any) (policy.Decision, []Obligation) {
	doc, ok := value.(map[string]any)
	if !ok {
		return policy.Deny(reason(CodeEval, "%s is %s; it must be a package with rules", r.Query, TypeName(value))), nil
	}
	if r.Object {
		d, defined := doc["decision"]
		doc, ok = d.(map[string]any)
		switch {
		case !defined:
			return policy.Deny(reason(CodeDenied, "%s.decision is undefined: no rule allowed this", r.Query)), nil
		case !ok:
			return policy.Deny(reason(CodeEval, "decision is %s; it must be an object", TypeName(d))), nil
		}
		if bad := unknownKey(doc, "allow", "deny_msg", "warn_msg", "obligations"); bad != "" {
			return policy.Deny(reason(CodeEval, "decision has the member %q, whose meaning is not known", bad)), nil
		}
	}
	out := policy.Decision{}
	denials, err := messages(doc["deny_msg"])
	if err != nil {
		return policy.Deny(reason(CodeEval, "deny_msg: %v", err)), nil
	}
	warnings, err := messages(doc["warn_msg"])
	if err != nil {
		return policy.Deny(reason(CodeEval, "warn_msg: %v", err)), nil
	}
	for _, m := range denials {
		out.Reasons = append(out.Reasons, reason(CodeDenied, "%s", m))
	}
	for _, m := range warnings {
		out.Warnings = append(out.Warnings, reason("POLICY_WARNING", "%s", m))
	}
	obligations, denied := r.obligations(doc["obligations"])
	out.Reasons = append(out.Reasons, denied...)
	switch allow, defined := doc["allow"]; {
	case allow == true:
	case !defined && len(out.Reasons) == 0:
		out.Reasons = append(out.Reasons, reason(CodeDenied, "%s.allow is undefined: no rule allowed this", r.Query))
	case defined && allow != false:
		out.Reasons = append(out.Reasons, reason(CodeEval, "%s.allow is %s; only the boolean true allows", r.Query, TypeName(allow)))
	case len(out.Reasons) == 0:
		out.Reasons = append(out.Reasons, reason(CodeDenied, "%s.allow is false and the policy gives no deny_msg", r.Query))
	}
	out.Allowed = len(out.Reasons) == 0
	if !out.Allowed {
		return out, nil
	}
	return out, obligations
}

func (r Reading) obligations(value any) ([]Obligation, []policy.Reason) {
	if value == nil {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, []policy.Reason{reason(CodeEval, "obligations is %s; it must be a set of objects", TypeName(value))}
	}
	var out []Obligation
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, ok := m["type"].(string)
		switch {
		case !ok:
			return nil, []policy.Reason{reason(CodeEval, "an obligation without a type")}
		case !contains(ObligationTypes(), name):
			return nil, []policy.Reason{reason(CodeEval, "the obligation %q is not known; known are %s", name, strings.Join(ObligationTypes(), ", "))}
		case !contains(r.Obligations, name):
			return nil, []policy.Reason{reason(CodeDenied, "the policy allows this only with the obligation %q, which this command cannot enforce", name)}
		}
		delete(m, "type")
		out = append(out, Obligation{Type: name, Parameters: m})
	}
	return out, nil
}

// maxMessages bounds what one policy may say.
const maxMessages = 100

// messages reads a set or an array of strings; nil when undefined.
func messages(value any) ([]string, error) {
	if value == nil {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("is %s; it must be a set of strings", TypeName(value))
	}
	var out []string
	for _, e := range list {
		m, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("holds %s; it must be a set of strings", TypeName(e))
		}
		if len(out) == maxMessages {
			break
		}
		out = append(out, m)
	}
	return out, nil
}

func unknownKey(m map[string]any, known ...string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !contains(known, k) {
			return k
		}
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// TypeName is a JSON value in words, such as "the number 3".
func TypeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprintf("the boolean %v", v)
	case string:
		return fmt.Sprintf("the string %q", v)
	case json.Number:
		return "the number " + v.String()
	case []any:
		return "a set or an array"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v)
}
