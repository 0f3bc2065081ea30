package rego_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

const (
	commitID = "1111111111111111111111111111111111111111"
	tagID    = "2222222222222222222222222222222222222222"
	hsm      = "SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// release is the input of a build from a well-signed release tag.
func release() policy.Input {
	return policy.Input{
		Kind: "build", Now: now,
		Git: &policy.Git{
			Ref: "refs/tags/v1.2.3", TagName: "v1.2.3", Checksum: tagID, CommitChecksum: commitID, IsAnnotatedTag: true,
			Tag: &policy.Tag{Object: commitID, Type: "commit", Tag: "v1.2.3", NameMatchesRef: true, SignatureKind: "ssh",
				Signer: &policy.TagSigner{Kind: "ssh", Fingerprint: hsm, Principals: []string{"alice@example.org"}}},
			Commit: &policy.Commit{Tree: commitID, Parents: []string{}},
		},
	}
}

func image() policy.Input {
	return policy.Input{
		Kind: "image", Now: now,
		Image: &policy.Image{Ref: "r.example/a:1", Digest: evidence.SHA256(nil)},
		Signatures: []policy.Fact{{Format: evidence.FormatBundle03, PredicateType: evidence.PredicateSign,
			Signer: evidence.Signer{Identity: "alice@example.org", Issuer: "https://i.example"}}},
	}
}

func files(text string) map[string][]byte { return map[string][]byte{"p.rego": []byte(text)} }

const header = "package hallmark.signing\nimport data.hallmark.lib\n"

// strict is the idiom that we recommend, over today's input.
const strict = header + `
needed := {"release-tag", "signed"}
passed contains "release-tag" if lib.release_tag
passed contains "signed" if lib.signed_tag_by({"alice@example.org", "bob@example.org"})
default allow := false
allow if needed - passed == set()
deny_msg contains sprintf("%s: not satisfied", [x]) if some x in needed - passed
`

func compile(t *testing.T, text string) *rego.Set {
	t.Helper()
	s, err := rego.Compile(files(text), rego.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func evaluate(t *testing.T, text string, in policy.Input) policy.Decision {
	t.Helper()
	d, err := compile(t, text).Evaluate(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if d.Allowed != (len(d.Reasons) == 0) {
		t.Fatalf("allowed is %v with reasons %v", d.Allowed, d.Reasons)
	}
	return d
}

func TestAllows(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"strict":      strict,
		"trivial":     "package hallmark.signing\ndefault allow := false\nallow if input.git.isAnnotatedTag",
		"fingerprint": header + "allow if lib.signed_tag_by([\"" + hsm + "\"])",
		"decision":    "package hallmark.signing\ndecision := {\"allow\": true, \"deny_msg\": set()}",
		"time":        "package hallmark.signing\nallow if time.parse_rfc3339_ns(input.now) > 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := evaluate(t, text, release()); !d.Allowed {
				t.Error(d.Reasons)
			}
		})
	}
	d := evaluate(t, "package hallmark.signing\nallow if input.signatures[0].signer.identity == \"alice@example.org\"\nwarn_msg contains \"old\\n\\u001b[31m\"", image())
	if !d.Allowed || len(d.Warnings) != 1 || d.Warnings[0].Message != "old ?[31m" {
		t.Error(d)
	}
	if d := evaluate(t, "package hallmark.signing\nallow if count(input.attestations) == 0", image()); !d.Allowed {
		t.Error("an empty list is undefined", d.Reasons)
	}
}

// TestBadIdiomsDeny has the ways to write a policy that opens when something is
// missing or wrong (signing-policy design, finding 7 and section 4.1).
func TestBadIdiomsDeny(t *testing.T) {
	t.Parallel()
	const p = "package hallmark.signing\n"
	for name, tc := range map[string]struct{ text, code, message string }{
		"string true":        {p + `allow := "true"`, "POLICY_EVAL", `the string "true"`},
		"number":             {p + `allow := 1`, "POLICY_EVAL", "the number 1"},
		"object":             {p + `allow := {"x": 1}`, "POLICY_EVAL", "an object"},
		"null":               {p + `allow := null`, "POLICY_EVAL", "null"},
		"set":                {p + `allow contains "x"`, "POLICY_EVAL", "a set or an array"},
		"undefined":          {p + `allow if input.kind == "x"`, "POLICY_DENIED", "undefined"},
		"false":              {p + `allow := false`, "POLICY_DENIED", "false"},
		"conflict":           {p + "allow := true if input.kind == \"build\"\nallow := false if input.git.isAnnotatedTag", "POLICY_EVAL", "eval_conflict_error"},
		"constant false":     {p + "allow := false\nallow if input.git.isAnnotatedTag", "POLICY_EVAL", "eval_conflict_error"},
		"deny beside allow":  {p + "allow := true\ndeny_msg contains \"no\"", "POLICY_DENIED", "no"},
		"deny text":          {p + "allow := true\ndeny_msg := \"no\"", "POLICY_EVAL", "set of strings"},
		"deny empty text":    {p + "allow := true\ndeny_msg := \"\"", "POLICY_EVAL", "set of strings"},
		"deny number":        {p + "allow := true\ndeny_msg contains 3", "POLICY_EVAL", "set of strings"},
		"deny object":        {p + "allow := true\ndeny_msg := {\"a\": true}", "POLICY_EVAL", "set of strings"},
		"warn text":          {p + "allow := true\nwarn_msg := \"x\"", "POLICY_EVAL", "warn_msg"},
		"decision text":      {p + `decision := "allow"`, "POLICY_EVAL", "must be an object"},
		"decision string":    {p + `decision := {"allow": "true"}`, "POLICY_EVAL", "only the boolean true"},
		"decision denies":    {p + "decision := {\"allow\": true, \"deny_msg\": [\"no\"]}", "POLICY_DENIED", "no"},
		"decision replaces":  {p + "allow := true\ndecision := {\"allow\": false} if allow", "POLICY_DENIED", "false"},
		"decision undefined": {p + "allow := true\ndecision := {\"allow\": allow} if input.kind == \"x\"", "POLICY_DENIED", "decision is undefined"},
		"decision unknown":   {p + `decision := {"allow": true, "caps": ["x"]}`, "POLICY_EVAL", `"caps"`},
		"builtin error":      {p + "allow if to_number(\"a\") > 0", "POLICY_EVAL", "to_number"},
		"obligation":         {p + "allow := true\nobligations contains {\"type\": \"no-push\"}", "POLICY_DENIED", "cannot enforce"},
		"unknown obligation": {p + "allow := true\nobligations contains {\"type\": \"be-nice\"}", "POLICY_EVAL", "not known"},
		"obligation text":    {p + "allow := true\nobligations contains \"no-push\"", "POLICY_EVAL", "without a type"},
		"obligations object": {p + "allow := true\nobligations := {\"type\": \"no-push\"}", "POLICY_EVAL", "set of objects"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := evaluate(t, tc.text, release())
			if d.Allowed || d.Reasons[0].Code != tc.code || !strings.Contains(d.Reasons[0].Message, tc.message) {
				t.Errorf("got %+v, want %s %q", d, tc.code, tc.message)
			}
		})
	}
}

// TestIncompleteInput: rules never see an input with a hole, so deny rules that
// are undefined for it cannot open the gate.
func TestIncompleteInput(t *testing.T) {
	t.Parallel()
	s := compile(t, "package hallmark.signing\ndeny_msg contains \"x\" if not input.git.isAnnotatedTag\nallow if count(deny_msg) == 0")
	for name, change := range map[string]func(*policy.Input){
		"input.git":                        func(in *policy.Input) { in.Git = nil },
		"input.now":                        func(in *policy.Input) { in.Now = time.Time{} },
		"input.kind":                       func(in *policy.Input) { in.Kind = "" },
		"input.git.ref":                    func(in *policy.Input) { in.Git.Ref = "v1.2.3" },
		"input.git.checksum":               func(in *policy.Input) { in.Git.Checksum = "abc" },
		"input.git.commitChecksum":         func(in *policy.Input) { in.Git.CommitChecksum = strings.ToUpper(strings.Repeat("a", 40)) },
		"input.git.tag":                    func(in *policy.Input) { in.Git.Tag = nil },
		"input.git.tag.object":             func(in *policy.Input) { in.Git.Tag.Object = "" },
		"input.git.tag.tag":                func(in *policy.Input) { in.Git.Tag.Tag = "" },
		"input.git.tag.signer.fingerprint": func(in *policy.Input) { in.Git.Tag.Signer.Fingerprint = "" },
		"input.git.commit":                 func(in *policy.Input) { in.Git.Commit = nil },
	} {
		in := release()
		change(&in)
		d, err := s.Evaluate(t.Context(), in)
		if err != nil || d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" || d.Reasons[0].Subject != name {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
	for name, change := range map[string]func(*policy.Input){
		"input.image":                func(in *policy.Input) { in.Image = nil },
		"input.image.digest":         func(in *policy.Input) { in.Image.Digest = "sha256:0" },
		"input.signatures[0].signer": func(in *policy.Input) { in.Signatures[0].Signer.Issuer = "" },
		"input.signatures[0].format": func(in *policy.Input) { in.Signatures[0].Format = "" },
	} {
		in := image()
		change(&in)
		d, err := s.Evaluate(t.Context(), in)
		if err != nil || d.Allowed || d.Reasons[0].Subject != name {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
}

// TestMutatedRelease: the strict policy denies every near-miss of a release.
func TestMutatedRelease(t *testing.T) {
	t.Parallel()
	s := compile(t, strict)
	for name, change := range map[string]func(*policy.Git){
		"unsigned":         func(g *policy.Git) { g.Tag.Signer = nil },
		"stranger":         func(g *policy.Git) { g.Tag.Signer.Principals = []string{"mallory@example.org"} },
		"nobody":           func(g *policy.Git) { g.Tag.Signer.Principals = nil },
		"another name":     func(g *policy.Git) { g.Tag.NameMatchesRef = false },
		"another ref":      func(g *policy.Git) { g.Ref = "refs/tags/v9.9.9" },
		"branch":           func(g *policy.Git) { g.Ref = "refs/heads/v1.2.3" },
		"tag of a tag":     func(g *policy.Git) { g.Tag.Type = "tag" },
		"tag of a tree":    func(g *policy.Git) { g.Tag.Type = "tree" },
		"no version":       func(g *policy.Git) { g.Tag.Tag = "latest"; g.Ref = "refs/tags/latest" },
		"no v":             func(g *policy.Git) { g.Tag.Tag = "1.2.3"; g.Ref = "refs/tags/1.2.3" },
		"half a version":   func(g *policy.Git) { g.Tag.Tag = "v1.2"; g.Ref = "refs/tags/v1.2" },
		"lightweight":      func(g *policy.Git) { g.Tag = nil; g.IsAnnotatedTag = false },
		"principal prefix": func(g *policy.Git) { g.Tag.Signer.Principals = []string{"alice@example.or"} },
	} {
		in := release()
		change(in.Git)
		d, err := s.Evaluate(t.Context(), in)
		if err != nil || d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" || !strings.HasSuffix(d.Reasons[0].Message, "not satisfied") {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	const p = "package hallmark.signing\n"
	for name, tc := range map[string]struct{ text, want string }{
		"typo":               {p + "allow if input.tag.signer", "p.rego:2: rego_type_error: undefined ref: input.tag.signer"},
		"deep typo":          {p + "\nallow if input.git.tag.signer.principles", "p.rego:3: rego_type_error: undefined ref"},
		"field of list":      {p + "allow if input.signatures[_].signr.identity == \"a\"", "undefined ref"},
		"not there today":    {p + "allow if count(input.approvals) > 1", "undefined ref: input.approvals"},
		"wrong type":         {p + "allow if input.git.isAnnotatedTag == \"yes\"", "match error"},
		"http":               {p + "allow if http.send({\"url\": \"http://x\", \"method\": \"get\"}).status_code == 200", "undefined function http.send"},
		"runtime":            {p + "allow if opa.runtime().env.HOME", "undefined function opa.runtime"},
		"clock":              {p + "allow if time.now_ns() > 0", "undefined function time.now_ns"},
		"random":             {p + "allow if rand.intn(\"a\", 2) == 0", "undefined function rand.intn"},
		"uuid":               {p + "allow if uuid.rfc4122(\"a\")", "undefined function uuid.rfc4122"},
		"dns":                {p + "allow if net.lookup_ip_addr(\"a\")", "undefined function net.lookup_ip_addr"},
		"range":              {p + "allow if count(numbers.range(1, 200000000)) > 0", "undefined function numbers.range"},
		"jwt":                {p + "allow if io.jwt.decode(\"a\")", "undefined function io.jwt.decode"},
		"template":           {p + "allow if strings.render_template(\"a\", {})", "undefined function"},
		"syntax":             {p + "allow if = {", "p.rego:2: rego_parse_error"},
		"old rego":           {p + "allow { true }", "rego_parse_error"},
		"package":            {"package docker\nallow := true", "rules must stand in package hallmark.signing"},
		"library":            {"package hallmark.lib\nrelease_tag := true", "rules must stand in package hallmark.signing"},
		"prefix":             {"package hallmark.signingx\nallow := true", "rules must stand in"},
		"only below":         {"package hallmark.signing.x\nallow := true", "no file has package hallmark.signing"},
		"data":               {p + "allow if data.freeze.off", "data.freeze.off is neither a rule of this policy nor in its data.json"},
		"data import":        {p + "import data.docker\nallow if docker.x", "neither"},
		"dynamic data":       {p + "allow if data[input.kind].x", "name the data"},
		"library name":       {p + "import data.hallmark.lib\nallow if lib.quorum({\"a\"}, 2)", "undefined"},
		"library rule":       {p + "import data.hallmark.lib\nallow if lib.hsm_signed_tag", "p.rego:3: data.hallmark.lib.hsm_signed_tag is neither"},
		"other hallmark":     {p + "allow if data.hallmark.secrets.x", "neither"},
		"unused import":      {p + "import data.hallmark.lib\nallow := true", "unused"},
		"recursion":          {p + "allow if deny\ndeny if allow", "rego_recursion_error"},
		"deny, misnamed":     {p + "allow := true\ndeny contains \"no\" if input.git", "p.rego:3: the rule deny decides nothing"},
		"deny, misspelt":     {p + "allow := true\ndeny_message contains \"no\"", "the rule deny_message decides nothing"},
		"uses itself":        {p + "allow := true\nx contains 1\nx contains 2 if count(deny_msg) == 0\ndeny_msg contains \"a\"", "the rule x decides nothing"},
		"beside decision":    {p + "deny_msg contains \"no\"\ndecision := {\"allow\": true}", "the rule deny_msg decides nothing"},
		"empty":              {"", "empty"},
		"annotation schemas": {p + "# METADATA\n# schemas:\n# - input: {}\nallow if input.nothing", "undefined ref: input.nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rego.Compile(files(tc.text), rego.Options{})
			var ce *rego.CompileError
			if !errors.As(err, &ce) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if ce.Reasons[0].Code != "POLICY_COMPILE" {
				t.Error(ce.Reasons[0].Code)
			}
		})
	}
}

// A deny_msg below the package that decides does not decide: it must be used.
func TestRulesBelow(t *testing.T) {
	t.Parallel()
	below := map[string][]byte{
		"a.rego": []byte("package hallmark.signing\nallow := true"),
		"b.rego": []byte("package hallmark.signing.extra\ndeny_msg contains \"no\""),
	}
	if _, err := rego.Compile(below, rego.Options{}); err == nil || !strings.Contains(err.Error(), "b.rego:2: the rule extra.deny_msg decides nothing") {
		t.Error(err)
	}
	below["a.rego"] = []byte("package hallmark.signing\nallow := true\ndeny_msg contains m if some m in data.hallmark.signing.extra.deny_msg")
	s, err := rego.Compile(below, rego.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Evaluate(t.Context(), release()); err != nil || d.Allowed {
		t.Error(d, err)
	}
}

func TestBundle(t *testing.T) {
	t.Parallel()
	good := map[string][]byte{
		"a.rego":    []byte("package hallmark.signing\nimport data.hallmark.signing.people\nallow if people.known"),
		"b.rego":    []byte("package hallmark.signing.people\nknown if data.limits.max >= 3"),
		"data.json": []byte(`{"limits": {"max": 3}}`),
	}
	s, err := rego.Compile(good, rego.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Evaluate(t.Context(), release()); err != nil || !d.Allowed {
		t.Error(d, err)
	}
	for name, bad := range map[string]map[string][]byte{
		"none":          {},
		"only data":     {"data.json": []byte(`{}`)},
		"other file":    {"a.rego": good["b.rego"], "README": nil},
		"data list":     {"a.rego": good["a.rego"], "b.rego": good["b.rego"], "data.json": []byte(`[]`)},
		"data null":     {"a.rego": good["a.rego"], "b.rego": good["b.rego"], "data.json": []byte(`null`)},
		"data twice":    {"a.rego": good["a.rego"], "b.rego": good["b.rego"], "data.json": good["data.json"], "x/data.json": []byte(`{}`)},
		"data trailing": {"a.rego": good["a.rego"], "b.rego": good["b.rego"], "data.json": []byte(`{"limits": {"max": 3}} {}`)},
		"data rules":    {"a.rego": good["a.rego"], "b.rego": good["b.rego"], "data.json": []byte(`{"hallmark": {"signing": {"allow": true}}, "limits": 1}`)},
		"too big":       {"a.rego": append([]byte("package hallmark.signing\nallow := true\n#"), make([]byte, rego.MaxBundle)...)},
	} {
		if _, err := rego.Compile(bad, rego.Options{}); !errors.As(err, new(*rego.CompileError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestObligations(t *testing.T) {
	t.Parallel()
	s, err := rego.Compile(files("package hallmark.signing\nallow := true\nobligations contains {\"type\": \"max-builds\", \"n\": 2}"), rego.Options{Obligations: []string{"max-builds"}})
	if err != nil {
		t.Fatal(err)
	}
	d, obligations, err := s.Decide(t.Context(), release())
	if err != nil || !d.Allowed || len(obligations) != 1 || obligations[0].Type != "max-builds" {
		t.Error(d, obligations, err)
	}
}

func TestRunawayPolicies(t *testing.T) {
	t.Parallel()
	loop := "package hallmark.signing\nxs := {x | some a in l; some b in l; some c in l; some d in l; x := (((a * 1000) + b) * 1000 + c) * 0 + d * 0}\nl := [" + strings.Repeat("1,", 999) + "1]\nallow if count(xs) > 0"
	s, err := rego.Compile(files(loop), rego.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	d, err := s.Evaluate(t.Context(), release())
	if err != nil || d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" || !strings.Contains(d.Reasons[0].Message, "longer than") {
		t.Error(d, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Error("took", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := s.Evaluate(ctx, release()); err == nil || d.Allowed {
		t.Error("a cancelled gate decided", d)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	s := compile(t, strict)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				in := release()
				if i%2 == 1 {
					in.Git.Tag.Signer = nil
				}
				if d, err := s.Evaluate(context.Background(), in); err != nil || d.Allowed != (i%2 == 0) {
					t.Error(d, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestPrint(t *testing.T) {
	t.Parallel()
	var lines []string
	s, err := rego.Compile(files("package hallmark.signing\nallow if print(\"saw\", input.kind)"), rego.Options{Print: func(l string) { lines = append(lines, l) }})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Evaluate(t.Context(), release()); err != nil || !d.Allowed || len(lines) != 1 || lines[0] != "saw build" {
		t.Error(d, err, lines)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	s, err := rego.Compile(files(strict), rego.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if d, err := s.Evaluate(b.Context(), release()); err != nil || !d.Allowed {
			b.Fatal(d, err)
		}
	}
}
