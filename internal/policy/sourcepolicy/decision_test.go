package sourcepolicy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

func TestDecisions(t *testing.T) {
	t.Parallel()
	const p = "package docker\n"
	for name, tc := range map[string]struct {
		text    string
		allowed bool
		code    string // of the first reason or warning
		message string
	}{
		"allow":             {p + `decision := {"allow": true}`, true, "", ""},
		"allow with caps":   {p + `decision := {"allow": true, "caps": {"exec.proxy": true}}`, true, "", ""},
		"messages warn":     {p + `decision := {"allow": true, "deny_msg": ["soon not"]}`, true, "POLICY_WARNING", "soon not"},
		"other members":     {p + `decision := {"allow": true, "note": input.local}`, true, "", ""},
		"false":             {p + `decision := {"allow": false}`, false, "POLICY_DENIED", "gives no deny_msg"},
		"array":             {p + `decision := {"allow": false, "deny_msg": ["a", "b"]}`, false, "POLICY_DENIED", "a"},
		"set":               {p + `decision := {"allow": false, "deny_msg": {"a"}}`, false, "POLICY_DENIED", "a"},
		"one string":        {p + `decision := {"allow": false, "deny_msg": "a"}`, false, "POLICY_DENIED", "a"},
		"no allow":          {p + `decision := {"deny_msg": ["a"]}`, false, "POLICY_DENIED", "a"},
		"empty":             {p + `decision := {}`, false, "POLICY_DENIED", "gives no deny_msg"},
		"undefined":         {p + `decision := {"allow": true} if input.image`, false, "POLICY_EVAL", "the rule decision is undefined"},
		"allow text":        {p + `decision := {"allow": "true"}`, false, "POLICY_EVAL", `decision.allow is the string "true"`},
		"allow number":      {p + `decision := {"allow": 1}`, false, "POLICY_EVAL", "the number 1"},
		"allow null":        {p + `decision := {"allow": null}`, false, "POLICY_EVAL", "null"},
		"true":              {p + `decision := true`, false, "POLICY_EVAL", "it must be an object"},
		"list":              {p + `decision := [true]`, false, "POLICY_EVAL", "it must be an object"},
		"messages number":   {p + `decision := {"allow": false, "deny_msg": [3]}`, false, "POLICY_EVAL", "list of strings"},
		"messages object":   {p + `decision := {"allow": true, "deny_msg": {"a": "b"}}`, false, "POLICY_EVAL", "list of strings"},
		"unknown cap":       {p + `decision := {"allow": true, "caps": {"exec.all": true}}`, false, "POLICY_EVAL", `"exec.all", which is not known`},
		"cap text":          {p + `decision := {"allow": true, "caps": {"exec.proxy": "yes"}}`, false, "POLICY_EVAL", "must be a boolean"},
		"caps list":         {p + `decision := {"allow": true, "caps": ["exec.proxy"]}`, false, "POLICY_EVAL", "must be an object"},
		"conflict":          {p + "decision := {\"allow\": true}\ndecision := {\"allow\": false} if input.local", false, "POLICY_EVAL", "eval_conflict_error"},
		"builtin error":     {p + `decision := {"allow": to_number("x") > 3}`, false, "POLICY_EVAL", "Dockerfile.rego:2"},
		"error beside":      {p + "decision := {\"allow\": allow}\nallow if true\nallow if semver.compare(\"latest\", \"1.2.3\") > 0", true, "", ""},
		"error before":      {p + "decision := {\"allow\": true, \"x\": x}\nx if semver.compare(\"latest\", \"1.2.3\") > 0\nx if true", false, "POLICY_EVAL", "Dockerfile.rego:3"},
		"control in text":   {p + `decision := {"allow": false, "deny_msg": ["a\u001b[31mb\nc"]}`, false, "POLICY_DENIED", "a?[31mb c"},
		"two files of one":  {p + `decision := {"allow": data.docker.extra}` + "\nextra := true", true, "", ""},
		"time":              {p + `decision := {"allow": time.now_ns() == 1772366400000000000}`, true, "", ""},
		"no patterns":       {p + "decision := {\"allow\": o.a}\no := x if {\n x = {\"a\": true}\n y := {\"n\": input.local.name}\n y == {\"n\": \"context\"}\n}", true, "", ""},
		"imports and input": {"package docker\nimport rego.v1\nimport input.local as l\ndecision := {\"allow\": l.name == \"context\"}", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := evaluate(t, compile(t, tc.text), ".", nil)
			said := append(d.Reasons, d.Warnings...)
			if d.Allowed != tc.allowed || tc.code != "" && (len(said) == 0 || said[0].Code != tc.code || !strings.Contains(said[0].Message, tc.message)) {
				t.Errorf("%+v, want %v %s %q", d.Decision, tc.allowed, tc.code, tc.message)
			}
		})
	}
}

func TestPoliciesThatDoNotCompile(t *testing.T) {
	t.Parallel()
	const p = "package docker\ndecision := {\"allow\": allow}\n"
	folder := fstest.MapFS{
		"lib/good.rego":   {Data: []byte("package whatever\nok := true")},
		"lib/broken.rego": {Data: []byte("package lib.broken\nok := ")},
		"lib/big.rego":    {Data: []byte("package lib.big\n#" + strings.Repeat("x", rego.MaxBundle))},
		"lib/typo.rego":   {Data: []byte("package lib.typo\nok if input.image.rpo == \"a\"")},
		"lib/dir.rego/x":  {Data: []byte("package x")},
	}
	for name, tc := range map[string]struct{ text, want, hint string }{
		"typo":               {p + `allow if input.image.labls.a`, "Dockerfile.rego:3: rego_type_error: undefined ref: input.image.labls", "input.image.labels"},
		"case":               {p + `allow if input.image.fullrepo == "a"`, "undefined ref", "input.image.fullRepo"},
		"top":                {p + `allow if input.imge.ref == "a"`, "undefined ref", "input.image"},
		"alias":              {p + "allow if {\n\tx := input.git\n\tx.tagname == \"a\"\n}", "Dockerfile.rego:5", ""},
		"in a list":          {p + `allow if input.image.signatures[_].signer.isuer == "a"`, "undefined ref", "issuer"},
		"material":           {p + "allow if {\n\tsome m in input.image.provenance.materials\n\tm.image.rpo == \"a\"\n}", "Dockerfile.rego:5", ""},
		"wrong type":         {p + `allow if input.image.isCanonical == "yes"`, "match error", ""},
		"no decision":        {"package docker\nallow := true", "no rule docker.decision", ""},
		"other package":      {"package dokcer\ndecision := {\"allow\": true}", "no rule docker.decision", ""},
		"http":               {p + `allow if http.send({"url": "http://x", "method": "get"}).status_code == 200`, "undefined function http.send", ""},
		"runtime":            {p + `allow if opa.runtime().env.HOME`, "undefined function opa.runtime", ""},
		"dns":                {p + `allow if net.lookup_ip_addr("a")`, "undefined function", ""},
		"jwt":                {p + `allow if io.jwt.decode("a")`, "undefined function", ""},
		"walk":               {p + `allow if walk(input, [_, "root"])`, "undefined function", ""},
		"syntax":             {p + `allow if = {`, "Dockerfile.rego:3: rego_parse_error", ""},
		"old rego":           {p + `allow { true }`, "rego_parse_error", ""},
		"unknown data":       {p + `allow if data.settings.open`, "data.settings.open is neither a rule", ""},
		"import missing":     {"package docker\nimport data.lib.missing\ndecision := {\"allow\": missing.ok}", "Dockerfile.rego:2: import data.lib.missing", ""},
		"import broken":      {"package docker\nimport data.lib.broken\ndecision := {\"allow\": broken.ok}", "lib/broken.rego:2", ""},
		"import too big":     {"package docker\nimport data.lib.big\ndecision := {\"allow\": big.ok}", "at most", ""},
		"import typo":        {"package docker\nimport data.lib.typo\ndecision := {\"allow\": typo.ok}", "lib/typo.rego:2", "input.image.repo"},
		"import folder":      {"package docker\nimport data.lib.dir\ndecision := {\"allow\": dir.ok}", "not a regular file", ""},
		"import wrong rule":  {"package docker\nimport data.lib.good\ndecision := {\"allow\": good.bad}", "data.lib.good.bad", ""},
		"function arguments": {p + `allow if pin_image(input.image)`, "pin_image", ""},
		"argument type":      {p + `allow if pin_image(input.image, 3)`, "pin_image", ""},
		"recursion":          {p + "allow if other\nother if allow", "rego_recursion_error", ""},
		"empty":              {"", "empty", ""},
		"object pattern":     {p + "allow if {\n\t{\"name\": n} = input.local\n\tn == \"context\"\n}", "Dockerfile.rego:4: an object is taken apart", "name the members"},
		"assigned pattern":   {p + "allow if {\n\t{\"name\": n} := input.local\n\tn == \"context\"\n}", "taken apart", ""},
		"pattern in a list":  {p + "allow if {\n\t[{\"name\": n}] := [input.local]\n\tn == \"context\"\n}", "taken apart", ""},
		"constant pattern":   {p + "allow if input.local = {\"name\": \"context\"}", "taken apart", ""},
		"pattern of some":    {p + "allow if {\n\tsome {\"name\": n} in [input.local]\n\tn == \"context\"\n}", "taken apart", ""},
		"pattern argument":   {p + "allow if f(input.local)\nf({\"name\": n}) if n == \"context\"", "taken apart", ""},
		"unified":            {p + "allow if {\n\tsome x in load_json(\"a.json\")\n\tx = input.image\n}", "unified (=) as a whole", "assign it"},
		"unified input":      {p + "allow if {\n\tx = input\n\tx.local\n}", "unified (=) as a whole", ""},
		"nested pattern":     {p + "allow if count([n | {\"name\": n} = input.local]) == 1", "taken apart", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := compileFiles(t, tc.text, sourcepolicy.Options{FS: folder})
			var ce *rego.CompileError
			if !errors.As(err, &ce) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if !strings.Contains(ce.Reasons[0].Hint, tc.hint) {
				t.Errorf("the hint is %q, want %q", ce.Reasons[0].Hint, tc.hint)
			}
		})
	}
	for name, files := range map[string][]sourcepolicy.File{
		"no file":   nil,
		"twice":     {{Name: "a.rego", Data: []byte(p + "allow := true")}, {Name: "a.rego", Data: []byte(p)}},
		"no rego":   {{Name: "a.txt", Data: []byte(p + "allow := true")}},
		"our names": {{Name: "a.rego", Data: []byte(p + "allow := true")}, {Name: "hallmark:docker.rego", Data: []byte("package docker\nx := 1")}},
	} {
		if _, err := sourcepolicy.Compile(files, sourcepolicy.Options{}); err == nil {
			t.Errorf("%s compiles", name)
		}
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	text := "package docker\nimport data.lib.registry\ndecision := {\"allow\": registry.known(input.image.host)}"
	s := compile(t, text,
		"lib/registry.rego", "package anything\nimport data.lib.names\nknown(host) if host in names.hosts",
		"lib/names.rego", "package lib.names\nhosts := {\"docker.io\"}")
	if d := evaluate(t, s, "alpine:3", nil); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	if d := evaluate(t, s, "example.org/alpine:3", nil); d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	if n := len(s.Policies()[0].Files()); n != 3 {
		t.Errorf("the policy has %d files", n)
	}
	other := compile(t, text,
		"lib/registry.rego", "package anything\nimport data.lib.names\nknown(host) if host in names.hosts",
		"lib/names.rego", "package lib.names\nhosts := {\"example.org\"}")
	if s.Policies()[0].Digest() == other.Policies()[0].Digest() {
		t.Error("an import changed and the digest did not")
	}
}

func TestImpure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`allow := true`:                         true,
		`allow if time.now_ns() > 0`:            false,
		`allow if rand.intn("a", 3) >= 0`:       false,
		`allow if uuid.rfc4122("a") != ""`:      false,
		`allow if count(uuid.parse("bad")) > 0`: true,
	} {
		s := compile(t, "package docker\ndecision := {\"allow\": allow}\n"+text)
		if got := s.Policies()[0].Cacheable(); got != want {
			t.Errorf("%s: cacheable %v", text, got)
		}
		if d := evaluate(t, s, ".", nil); d.Cacheable != want {
			t.Errorf("%s: the decision is cacheable %v", text, d.Cacheable)
		}
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	policy := func(text string) *sourcepolicy.Policy { return compile(t, "package docker\n"+text).Policies()[0] }
	yes, no := policy(`decision := {"allow": true}`), policy(`decision := {"allow": false, "deny_msg": ["operator"]}`)
	for name, tc := range map[string]struct {
		policies []*sourcepolicy.Policy
		allowed  bool
	}{
		"none":           {nil, false},
		"one":            {[]*sourcepolicy.Policy{yes}, true},
		"both":           {[]*sourcepolicy.Policy{yes, yes}, true},
		"second denies":  {[]*sourcepolicy.Policy{yes, no}, false},
		"first denies":   {[]*sourcepolicy.Policy{no, yes}, false},
		"allows itself":  {[]*sourcepolicy.Policy{no, policy(`decision := {"allow": true, "deny_msg": []}`)}, false},
		"second unknown": {[]*sourcepolicy.Policy{yes, policy(`decision := {"allow": input.image.user == "app"}`)}, false},
	} {
		if d := evaluate(t, sourcepolicy.NewSet(tc.policies...), "alpine:3", nil); d.Allowed != tc.allowed || !d.Allowed && len(d.Reasons) == 0 {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
}

func TestCaps(t *testing.T) {
	t.Parallel()
	proxy := compile(t, "package docker\nimport rego.v1\ndecision := {\"allow\": true, \"caps\": caps}\ncaps[\"exec.proxy\"] := true if input.env.capsRequest").Policies()[0]
	plain := compile(t, "package docker\ndefault allow := false\ndecision := {\"allow\": allow}\nallow if not input.env.capsRequest").Policies()[0]
	env := sourcepolicy.Env{Target: "release"}
	if caps, d, err := sourcepolicy.NewSet(plain, proxy).Caps(t.Context(), env, &sourcepolicy.Build{Network: true}); err != nil || !d.Allowed || !caps["exec.proxy"] {
		t.Error(caps, d, err)
	}
	if caps, d, err := sourcepolicy.NewSet(plain).Caps(t.Context(), env, &sourcepolicy.Build{Network: true}); err != nil || !d.Allowed || len(caps) > 0 {
		t.Error(caps, d, err)
	}
	bad := compile(t, `package docker
decision := {"allow": true, "caps": {"exec.root": true}}`)
	if _, d, err := bad.Caps(t.Context(), env, &sourcepolicy.Build{Network: true}); err != nil || d.Allowed {
		t.Error(d, err)
	}
	undefined := compile(t, `package docker
decision := {"allow": true} if input.local`)
	if _, d, err := undefined.Caps(t.Context(), env, &sourcepolicy.Build{Network: true}); err != nil || d.Allowed {
		t.Error(d, err)
	}
}

// TestCapsOfTheBuild: a capability that hangs on the build is wanted when the build is
// so, and what nobody said about the build denies: it is not taken for "no capability".
func TestCapsOfTheBuild(t *testing.T) {
	t.Parallel()
	const start = "package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": proxy}}\ndefault proxy := false\n"
	first := compile(t, "package docker\ndecision := {\"allow\": true}").Policies()[0] // its text names nothing
	for name, rule := range map[string]string{
		"network":      `proxy if input.build.network`,
		"no cache":     `proxy if not input.build.cache`,
		"by a key":     "proxy if {\n k := concat(\"\", [\"bui\", \"ld\"])\n input[k].network\n}",
		"by get":       `proxy if object.get(input, ["build", "network"], false)`,
		"no build":     `proxy if not object.get(input, "build", null) == null`,
		"by a literal": `proxy if input["bu\u0069ld"].network`,
	} {
		p := compile(t, start+rule).Policies()[0]
		for _, set := range []*sourcepolicy.Set{sourcepolicy.NewSet(p), sourcepolicy.NewSet(first, p)} {
			if caps, d, err := set.Caps(t.Context(), sourcepolicy.Env{}, &sourcepolicy.Build{Network: true}); err != nil || !d.Allowed || !caps["exec.proxy"] {
				t.Errorf("%s: %v %v %v", name, caps, d, err)
			}
			caps, d, err := set.Caps(t.Context(), sourcepolicy.Env{}, nil)
			if err != nil || d.Allowed || caps != nil || d.Reasons[0].Code != "INPUT_INCOMPLETE" || d.Reasons[0].Subject == "" {
				t.Errorf("%s, not said: %v %+v %v", name, caps, d, err)
			}
		}
	}
}

func TestRunaway(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"loop":     "xs := {x | some a in l; some b in l; some c in l; x := a + b + c}\nl := numbers.range(1, 1000)\nallow if count(xs) > 0",
		"range":    `allow if count(numbers.range(1, 200000000)) > 0`,
		"step":     `allow if count(numbers.range_step(0, 200000000, 2)) > 0`,
		"replace":  "a := concat(\"\", [\"a\" | some _ in numbers.range(1, 50000)])\nallow if count(replace(a, \"a\", a)) > 0",
		"width":    `allow if sprintf("%999999999d", [1]) != ""`,
		"star":     `allow if sprintf("%*d", [999999999, 1]) != ""`,
		"shift":    `allow if bits.lsh(1, 4000000000) > 0`,
		"whole":    `allow if ceil(to_number("1e999999999")) > 0`,
		"template": `allow if strings.render_template("{{range .a}}{{range $.a}}x{{end}}{{end}}", {"a": [1]}) != ""`,
		"negative": `allow if count(numbers.range(100000000, 1)) > 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "p.rego", Data: []byte("package docker\ndecision := {\"allow\": allow}\n" + text)}}, sourcepolicy.Options{Timeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			d := evaluate(t, sourcepolicy.NewSet(p), ".", nil)
			if d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" {
				t.Errorf("%+v", d.Decision)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Error("took", took)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := compile(t, head+"allow := true").Evaluate(ctx, sourcepolicy.Request{Source: source(t, ".")}); err == nil || d.Allowed {
		t.Error("a cancelled evaluation decided", d)
	}
}
