package rego

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// CodeAttestation is the reason that a statement does not satisfy a policy.
const CodeAttestation = "ATTESTATION_POLICY"

// The packages of attestation policies, and what decides in each.
const (
	cosignPackage   = "data.signature"            // cosign verify-attestation: allow
	sigstorePackage = "data.sigstore"             // policy-controller: isCompliant
	ourPackage      = "data.hallmark.attestation" // allow, deny_msg, warn_msg
)

// Attestation is a compiled policy over one in-toto statement. Its input is the
// whole statement: input.predicateType, input.subject, input.predicate.
type Attestation struct {
	eval  evaluator
	entry string
	now   func() time.Time
}

// AttestationOptions are the options of CompileAttestation.
type AttestationOptions struct {
	Timeout time.Duration    // of one evaluation, default DefaultTimeout
	Now     func() time.Time // what time.now_ns answers, default time.Now
}

// CompileAttestation reads a policy of one of three packages:
//
//	signature             cosign's: data.signature.allow must be true
//	sigstore              policy-controller's: isCompliant is true, or a set of
//	                      objects {result, error, warning} of which one has result true
//	hallmark.attestation  allow must be true and deny_msg empty; warn_msg is shown
//
// Files that do not parse as Rego v1 are read as the Rego of before OPA 1.0,
// which is what cosign and policy-controller read.
func CompileAttestation(files map[string][]byte, o AttestationOptions) (*Attestation, error) {
	b, err := readBundle(files)
	if err != nil {
		return nil, err
	}
	if err := b.parseAny(); err != nil {
		return nil, err
	}
	entry, err := b.entry()
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	compiler := ast.NewCompiler().WithCapabilities(capabilities(attestationBuiltins(), ast.RegoV1)).
		WithDefaultRegoVersion(ast.RegoV1)
	a := &Attestation{entry: entry, now: o.Now}
	all, err := b.compile(compiler)
	if err != nil {
		return nil, err
	}
	a.eval, err = all.evaluator(entry, Options{Timeout: o.Timeout})
	if err != nil {
		return nil, err
	}
	if entry == ourPackage { // what others' tools read with unused rules, we read too
		if err := b.checkUsed(compiler, entry, []string{"allow", "deny_msg", "warn_msg"}); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// parseAny parses each file as Rego v1 and, failing that, as v0. Errors are v1's.
func (b *bundle) parseAny() error {
	for _, name := range b.names {
		m, err := parse(name, b.text[name], ast.RegoV1, attestationBuiltins())
		if err != nil {
			var old error
			if m, old = parse(name, b.text[name], ast.RegoV0, attestationBuiltins()); old != nil {
				return compileError(err)
			}
		}
		b.modules[name] = m
	}
	return nil
}

// entry is the one package that decides.
func (b *bundle) entry() (string, error) {
	found := map[string]bool{}
	for _, name := range b.names {
		switch pkg := b.modules[name].Package.Path.String(); pkg {
		case cosignPackage, sigstorePackage, ourPackage:
			found[pkg] = true
		}
	}
	if len(found) != 1 {
		pkg := b.modules[b.names[0]].Package
		return "", compileErrorf(fmt.Sprintf("%s:%d", b.names[0], pkg.Location.Row),
			"%s: a policy for attestations has exactly one of the packages signature (rule allow), sigstore (rule isCompliant) and hallmark.attestation (rules allow, deny_msg)", pkg)
	}
	for pkg := range found {
		return pkg, nil
	}
	return "", errors.New("unreachable")
}

// Check evaluates the policy on a verified statement, which must be one JSON
// object without duplicate members. An error means that ctx ended.
func (a *Attestation) Check(ctx context.Context, statement []byte) (policy.Decision, error) {
	doc, err := decodeStatement(statement)
	if err != nil {
		return policy.Deny(reason(CodeAttestation, "the statement is not JSON: %v", err)), nil
	}
	value, denied, err := a.eval.run(ctx, doc, a.now())
	if err != nil || denied != nil {
		return denyOr(denied), err
	}
	rules, _ := value.(map[string]any)
	switch a.entry {
	case sigstorePackage:
		return isCompliant(rules["isCompliant"]), nil
	case cosignPackage:
		return allowed(a.entry, rules, nil), nil
	}
	return allowed(a.entry, rules, []string{"deny_msg", "warn_msg"}), nil
}

// maxDepth is how deep a statement may nest.
const maxDepth = 64

func decodeStatement(statement []byte) (ast.Value, error) {
	if err := strictjson.Valid(statement, maxDepth); err != nil {
		return nil, err
	}
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(statement))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, errors.New("null")
	}
	return ast.InterfaceToValue(doc)
}

// allowed reads rule allow and, where they count, the messages.
func allowed(entry string, rules map[string]any, read []string) policy.Decision {
	var d policy.Decision
	if contains(read, "deny_msg") {
		denials, err := messages(rules["deny_msg"])
		if err != nil {
			return policy.Deny(reason(CodeEval, "deny_msg: %v", err))
		}
		for _, m := range denials {
			d.Reasons = append(d.Reasons, reason(CodeAttestation, "%s", m))
		}
		warnings, err := messages(rules["warn_msg"])
		if err != nil {
			return policy.Deny(reason(CodeEval, "warn_msg: %v", err))
		}
		for _, m := range warnings {
			d.Warnings = append(d.Warnings, reason("POLICY_WARNING", "%s", m))
		}
	}
	rule := strings.TrimPrefix(entry, "data.") + ".allow"
	switch allow, defined := rules["allow"]; {
	case allow == true:
	case !defined && len(d.Reasons) == 0:
		d.Reasons = append(d.Reasons, reason(CodeAttestation, "%s is undefined: no rule allows this statement", rule))
	case defined && allow != false:
		d.Reasons = append(d.Reasons, reason(CodeEval, "%s is %s; only the boolean true allows", rule, TypeName(allow)))
	case len(d.Reasons) == 0:
		d.Reasons = append(d.Reasons, reason(CodeAttestation, "%s is false for this statement", rule))
	}
	d.Allowed = len(d.Reasons) == 0
	return d
}

// isCompliant reads policy-controller's rule: a boolean, or a set of objects of
// which the first with result true allows.
func isCompliant(value any) policy.Decision {
	const rule = "sigstore.isCompliant"
	switch v := value.(type) {
	case bool:
		if v {
			return policy.Decision{Allowed: true}
		}
		return policy.Deny(reason(CodeAttestation, "%s is false for this statement", rule))
	case nil:
		return policy.Deny(reason(CodeAttestation, "%s is undefined: no rule allows this statement", rule))
	case []any:
		return compliantList(rule, v)
	}
	return policy.Deny(reason(CodeEval, "%s is %s; it must be a boolean or a set of objects with result, error and warning", rule, TypeName(value)))
}

func compliantList(rule string, list []any) policy.Decision {
	var d policy.Decision
	for _, e := range list {
		m, ok := e.(map[string]any)
		result, isBool := m["result"].(bool)
		if !ok || !isBool || unknownKey(m, "result", "error", "warning") != "" {
			return policy.Deny(reason(CodeEval, "%s holds something else than objects with result (a boolean), error and warning", rule))
		}
		text, _ := m["error"].(string)
		warning, _ := m["warning"].(string)
		switch {
		case result && warning != "":
			return policy.Decision{Allowed: true, Warnings: []policy.Reason{reason("POLICY_WARNING", "%s", warning)}}
		case result:
			return policy.Decision{Allowed: true}
		case text == "":
			text = rule + " has a result that is false, without an error text"
		}
		if len(d.Reasons) < maxMessages {
			d.Reasons = append(d.Reasons, reason(CodeAttestation, "%s", text))
		}
	}
	if len(d.Reasons) == 0 {
		return policy.Deny(reason(CodeAttestation, "%s is empty: no rule allows this statement", rule))
	}
	return d
}
