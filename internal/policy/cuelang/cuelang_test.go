package cuelang_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/cuelang"
)

const sbom = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"00"}}],` +
	`"predicateType":"https://cyclonedx.org/bom","predicate":{"bomFormat":"CycloneDX","specVersion":"1.4","version":1,"metadata":{"tools":[{"name":"syft","vendor":"anchore"}]}}}`

// walkthrough is the policy of the admission walk-through.
func walkthrough(version, tool string) string {
	return `predicateType: "https://cyclonedx.org/bom"
predicate: {
	specVersion: "` + version + `"
	metadata: tools: [{name: "` + tool + `"}]
}
`
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"passes":          {walkthrough("1.4", "syft"), ""},
		"tool":            {walkthrough("1.4", "trivy"), `predicate.metadata.tools.0.name: conflicting values "syft" and "trivy"`},
		"version":         {walkthrough("1.5", "syft"), `predicate.specVersion: conflicting values "1.4" and "1.5"`},
		"missing text":    {`predicate: nothing: "x"`, "predicate.nothing: "},
		"missing type":    {`predicate: nothing: string`, "predicate.nothing: "},
		"missing deep":    {`predicate: a: b: c: >3`, "predicate.a.b.c: "},
		"missing list":    {`predicate: parts: [...{name: string}]`, "predicate.parts: "},
		"required":        {`predicate: nothing!: string`, "predicate.nothing: "},
		"optional":        {`predicate: nothing?: string`, ""},
		"optional wrong":  {`predicate: specVersion?: int`, "predicate.specVersion: "},
		"type":            {`predicate: specVersion: int`, "predicate.specVersion: "},
		"bound":           {`predicate: version: >1`, "predicate.version: "},
		"regexp":          {`predicate: specVersion: =~"^1\\.[0-9]$"`, ""},
		"regexp denies":   {`predicate: specVersion: =~"^2"`, "predicate.specVersion: "},
		"disjunction":     {`predicate: specVersion: "1.3" | "1.4"`, ""},
		"disjunction not": {`predicate: specVersion: "1.3" | "1.5"`, "predicate.specVersion"},
		"closed":          {`close({predicateType: string})`, "not allowed"},
		"list length":     {`predicate: metadata: tools: [{name: "syft"}, {name: "x"}]`, "predicate.metadata.tools"},
		"builtin":         {"import \"strings\"\npredicate: specVersion: strings.MinRunes(3)", ""},
		"list builtin":    {"import \"list\"\npredicate: metadata: tools: list.MaxItems(0)", "predicate.metadata.tools: "},
		"template":        {"import \"text/template\"\npredicate: specVersion: template.Execute(\"{{range .x}}{{.}}{{end}}.{{.y}}\", {x: [1], y: 4})", ""},
		"template denies": {"import \"text/template\"\npredicate: specVersion: template.Execute(\"{{.y}}\", {y: 4})", "predicate.specVersion: "},
		"bottom":          {`predicate: specVersion: _|_`, "explicit error"},
		"default":         {`predicate: severity: *"low" | string`, "predicate.severity: the policy wants"},
		"default struct":  {`predicate: *{a: 1} | {b: 2}`, "predicate.a: the policy wants"},
		"in a list":       {`predicate: metadata: tools: [...{license: "MIT"}]`, "predicate.metadata.tools.0.license: the policy wants"},
		"conditional":     {"predicate: {specVersion: string, if specVersion == \"1.4\" {extra: true}}", "predicate.extra: the policy wants"},
		"hidden":          {"_max: 3\npredicate: version: <_max", ""},
		"let":             {"let max = 3\npredicate: version: <max", ""},
		"named value":     {"max: 3\npredicate: version: <max", ""},
		"definition":      {"#P: {specVersion: \"1.4\", ...}\npredicate: #P", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := cuelang.Compile("p.cue", []byte(tc.text))
			if err != nil {
				if tc.want != "" && strings.Contains(err.Error(), tc.want) {
					return
				}
				t.Fatal(err)
			}
			d, err := p.Check(t.Context(), []byte(sbom))
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != (tc.want == "") {
				t.Fatalf("%+v", d)
			}
			if tc.want != "" && (d.Reasons[0].Code != "ATTESTATION_POLICY" || !strings.Contains(d.Reasons[0].Message, tc.want)) {
				t.Errorf("got %q, want %q", d.Reasons[0].Message, tc.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"syntax":       {"predicateType: \"x\"\npredicate: {", "p.cue:2"},
		"reference":    {"predicateType: \"x\"\npredicate: nothing", "p.cue:2: reference \"nothing\" not found"},
		"import":       {"import \"example.com/x\"\npredicate: x.y", "p.cue:1"},
		"conflict":     {"predicateType: \"a\"\npredicateType: \"b\"", "conflicting values"},
		"empty":        {" \n", "demand nothing"},
		"comment":      {"// nothing\n", "demand nothing"},
		"only package": {"package x\n", "demand nothing"},
		"text":         {`"x"`, "must be a struct"},
		"number":       {`3`, "must be a struct"},
		"latin-1":      {"predicateType: \"\xe9\"", "UTF-8"},
		"too long":     {"predicateType: \"" + strings.Repeat("x", cuelang.MaxPolicy) + "\"", "at most"},
		"stray":        {"predicate: version: 1\npredicat: specVersion: \"1.5\"", "p.cue:2: predicat is no field"},
		"stray quoted": {"\"PredicateType\": \"x\"", "p.cue:1: PredicateType is no field"},
		"template":     {"import \"text/template\"\npredicate: specVersion: template.Execute(\"{{.y.Len}}\", {y: \"1.4\"})", "p.cue:2"},
		"rego":         {"package sigstore\nisCompliant { true }", "p.cue:2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := cuelang.Compile("p.cue", []byte(tc.text))
			var ce *cuelang.CompileError
			if !errors.As(err, &ce) || !strings.Contains(err.Error(), tc.want) || ce.Reasons[0].Code != "POLICY_COMPILE" {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestStatementsRefused(t *testing.T) {
	t.Parallel()
	p, err := cuelang.Compile("p.cue", []byte(`predicateType?: string`))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := p.Check(t.Context(), []byte(`{}`)); err != nil || !d.Allowed {
		t.Fatal(d, err)
	}
	for _, s := range []string{"", "{", "[]", "null", `"x"`, "{} {}", `{"a":1,"a":1}`, `{"a":{"b":1,"b":2}}`, `{"a":[{"b":1,"b":2}]}`,
		`{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, `{predicateType: "x"}`, "{\"a\": 1} // x", strings.Repeat(" ", cuelang.MaxDocument) + "{}"} {
		if d, err := p.Check(t.Context(), []byte(s)); err != nil || d.Allowed {
			t.Errorf("%.40q: %+v %v", s, d, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := p.Check(ctx, []byte(sbom)); err == nil && !d.Allowed {
		t.Error("a cancelled check denied instead of failing")
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	p, err := cuelang.Compile("p.cue", []byte(walkthrough("1.4", "syft")))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if d, err := p.Check(context.Background(), []byte(sbom)); err != nil || !d.Allowed {
					t.Error(d, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCheck(f *testing.F) {
	f.Add(walkthrough("1.4", "syft"), sbom)
	f.Add("predicate: a: b", `{"a":{"b":[1,2.0,true,null]}}`)
	f.Fuzz(func(t *testing.T, text, statement string) {
		if len(text) > 4096 || len(statement) > 4096 {
			return
		}
		p, err := cuelang.Compile("p.cue", []byte(text))
		if err != nil {
			return
		}
		d, err := p.Check(context.Background(), []byte(statement))
		if err != nil || d.Allowed != (len(d.Reasons) == 0) {
			t.Fatal(d, err)
		}
	})
}
