package buildx

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/docker/buildx/policy"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// difference is why the two engines answer a rule differently. Ours may allow what
// buildx does not only where more is known to it.
type difference struct {
	moreIsKnown bool
	why         string
}

const (
	created   = "DEFECT of buildx, fails open: createdTime is never fetched for itself, so a rule about it never holds"
	materials = "DEFECT of buildx, fails open: facts of materials that are iterated over are never fetched"
	falsehood = "what is known to be false is there and false; in buildx it is absent, and a rule == false never holds"
	broken    = "a builtin function that fails denies and says where; in buildx it is undefined, and a deny rule stays silent"
	missing   = "a file that is missing denies and says which; in buildx the function is undefined, and a deny rule stays silent"
)

// differences are the rules that the two engines answer differently.
var differences = map[string]difference{
	`input.image.createdTime`:                                {true, created},
	`input.image.createdTime == "2026-01-01T10:00:00+02:00"`: {true, created},
	`input.image.createdTime < "2027"`:                       {true, created},

	`some m in input.image.provenance.materials; m.image.labels.team == "a"`:              {true, materials},
	`count([1 | some m in input.image.provenance.materials; m.image.user == "app"]) == 1`: {true, materials},

	`input.image.isCanonical == false`:   {true, falsehood},
	`input.image.hasProvenance == false`: {true, falsehood},
	`input.http.hasAuth == false`:        {true, falsehood},
	`input.git.isSHA256 == false`:        {true, falsehood},
	`input.git.isAnnotatedTag == false`:  {true, falsehood},
	`input.env.capsRequest == false`:     {true, falsehood},

	`semver.compare(input.image.tag, "1.0.0") > 0`:    {false, broken},
	`artifact_attestation(input.http, "nope.json")`:   {false, missing},
	`verify_git_signature(input.git.tag, "nope.pub")`: {false, missing},
}

// TestDifferential: the same policy about the same source gets the same answer, but
// for the differences that are written down, each of which must show.
func TestDifferential(t *testing.T) {
	all := worlds(t)
	folder := fstest.MapFS{
		"tags.json": {Data: []byte(`["3.19", "1"]`)}, "app.sigstore.json": {Data: []byte(`{}`)},
		"key.pub": {Data: []byte(keys[t.Name()] + "\n")}, "other.pub": {Data: []byte(gitrepo.NewKey(t, "ed25519", 0).Public + "\n")},
	}
	one, x := "1", "x"
	args := map[string]*string{"VERSION": &one, "NULL": nil}
	labels := map[string]string{"l": x}
	var mu sync.Mutex
	count, shown := 0, map[string]bool{}
	compare := func(name string, w World, rule, form, text string) {
		theirs := Theirs(t.Context(), w, text, policy.Env{Args: args, Labels: labels, Filename: "Dockerfile", Target: "release"}, folder)
		ours := Ours(t.Context(), w, text, sourcepolicy.Env{Args: args, Labels: labels, Filename: "Dockerfile", Target: "release"}, folder)
		mu.Lock()
		defer mu.Unlock()
		count++
		if theirs.Allowed == ours.Allowed && theirs.Pinned == ours.Pinned {
			return
		}
		d, known := differences[rule]
		shown[rule] = true
		if !known || ours.Allowed && !theirs.Allowed && !d.moreIsKnown {
			t.Errorf("%s, %s if %s: buildx says %v, and we %v", name, form, rule, theirs, ours)
		}
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for name, w := range all {
		asked := rules[kindOf(w)]
		if name == "local" || name == "alpine" {
			asked = slices.Concat(asked, rules["env"], rules["local"])
		}
		for _, rule := range asked {
			body := strings.ReplaceAll(rule, "; ", "\n\t")
			if strings.Contains(rule, "[1 | ") {
				body = rule
			}
			for form, text := range map[string]string{
				"allow": "package docker\ndefault allow := false\nallow if {\n\t" + body + "\n}\ndecision := {\"allow\": allow}\n",
				"deny":  "package docker\ndeny if {\n\t" + body + "\n}\ndefault allow := true\nallow := false if deny\ndecision := {\"allow\": allow}\n",
			} {
				group.Go(func() error { compare(name, w, rule, form, text); return nil })
			}
		}
	}
	_ = group.Wait()
	for rule := range differences {
		if !shown[rule] {
			t.Errorf("the difference is gone: %s", rule)
		}
	}
	if count < 300 {
		t.Errorf("only %d comparisons", count)
	}
	t.Logf("%d comparisons, %d rules with a difference", count, len(shown))
}

// TestShapes: whole policies, with what a decision may look like.
func TestShapes(t *testing.T) {
	w := World{ID: "local://context"}
	const p = "package docker\n"
	different := map[string]string{
		"deny_msg number":  "a decision of another shape denies; buildx leaves the message out",
		"deny_msg object":  "a decision of another shape denies; buildx leaves the messages out",
		"typo":             "a reference that the schema does not have does not compile",
		"typo in deny":     "DEFECT of buildx, fails open: a typo in a deny rule never denies",
		"data that is not": "a reference to data that nobody defines does not compile",
		"error in deny":    "a builtin function that fails denies",
	}
	for name, text := range map[string]string{
		"allow": p + `decision := {"allow": true}`, "deny": p + `decision := {"allow": false}`, "empty": p + `decision := {}`, "undefined": p + `decision := {"allow": true} if input.image`,
		"no decision": p + `allow := true`, "other package": "package other\ndecision := {\"allow\": true}", "allow text": p + `decision := {"allow": "yes"}`, "allow null": p + `decision := {"allow": null}`,
		"true": p + `decision := true`, "list": p + `decision := [true]`, "deny_msg": p + `decision := {"allow": true, "deny_msg": ["x"]}`, "deny_msg text": p + `decision := {"allow": true, "deny_msg": "x"}`,
		"deny_msg number": p + `decision := {"allow": true, "deny_msg": [3]}`, "deny_msg object": p + `decision := {"allow": true, "deny_msg": {"a": 1}}`, "set": p + `decision := {"allow": true, "deny_msg": {"a"}}`,
		"caps": p + `decision := {"allow": true, "caps": {"exec.proxy": true}}`, "unknown cap": p + `decision := {"allow": true, "caps": {"x": true}}`, "cap text": p + `decision := {"allow": true, "caps": {"exec.proxy": "x"}}`,
		"conflict": p + "decision := {\"allow\": true}\ndecision := {\"allow\": false} if input.local", "syntax": p + "decision := {", "old rego": p + "decision = x { x := 1 }", "http": p + `decision := {"allow": http.send({}).x}`,
		"typo": p + "decision := {\"allow\": allow}\nallow if input.local\nallow if input.lokal", "typo in deny": p + "decision := {\"allow\": count(deny) == 0}\ndeny contains 1 if input.local.nam == \"context\"",
		"data that is not": p + "decision := {\"allow\": allow}\nallow if not data.settings.closed", "error in deny": p + "decision := {\"allow\": count(deny) == 0}\ndeny contains 1 if to_number(input.local.name) > 3",
		"extra": p + `decision := {"allow": true, "note": 1}`, "helper": p + "decision := {\"allow\": allow}\nallow if docker_github_builder_signature({}, \"a\")\nallow if true",
		"import": p + "import data.lib.a\ndecision := {\"allow\": a.ok}", "import missing": p + "import data.lib.b\ndecision := {\"allow\": b.ok}", "rand": p + `decision := {"allow": rand.intn("a", 1) == 0}`,
		"time": p + `decision := {"allow": time.now_ns() > 0}`, "uuid": p + `decision := {"allow": uuid.rfc4122("a") != ""}`, "range": p + `decision := {"allow": count(numbers.range(1, 10)) == 10}`,
		"with": p + "decision := {\"allow\": x with input as {\"local\": {\"name\": \"z\"}}}\nx if input.local.name == \"z\"", "print": p + "decision := {\"allow\": x}\nx if print(input)",
		"template": p + `decision := {"allow": $"{input.local.name}" == "context"}`, "json": p + `decision := {"allow": load_json("a.json").ok}`, "json missing": p + `decision := {"allow": load_json("b.json").ok}`,
		"json broken": p + `decision := {"allow": load_json("c.json").ok}`, "outside": p + `decision := {"allow": load_json("../a.json").ok}`, "deprecated": p + `decision := {"allow": any([true])}`,
	} {
		folder := fstest.MapFS{"a.json": {Data: []byte(`{"ok": true}`)}, "c.json": {Data: []byte(`{`)}, "lib/a.rego": {Data: []byte("package other\nok := true")}}
		theirs := Theirs(t.Context(), w, text, policy.Env{}, folder)
		ours := Ours(t.Context(), w, text, sourcepolicy.Env{}, folder)
		if why := different[name]; theirs.Allowed == ours.Allowed && why != "" {
			t.Errorf("%s: the difference is gone", name)
		} else if theirs.Allowed != ours.Allowed && (why == "" || ours.Allowed) {
			t.Errorf("%s: buildx says %v, and we %v", name, theirs, ours)
		}
	}
}
