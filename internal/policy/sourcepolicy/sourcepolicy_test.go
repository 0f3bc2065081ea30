package sourcepolicy_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// head is what every policy of these tests begins with.
const head = "package docker\ndefault allow := false\ndecision := {\"allow\": allow, \"deny_msg\": deny_msg}\ndeny_msg contains \"denied\" if not allow\n"

// denyHead is that of policies that allow what they do not deny.
const denyHead = "package docker\ndecision := {\"allow\": count(deny_msg) == 0, \"deny_msg\": deny_msg}\n"

func compile(t testing.TB, text string, files ...string) *sourcepolicy.Set {
	t.Helper()
	folder := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		folder[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	p, err := compileFiles(t, text, sourcepolicy.Options{FS: folder})
	if err != nil {
		t.Fatal(err)
	}
	return sourcepolicy.NewSet(p)
}

// compileFiles compiles here, or in a process when all tests run once more for that.
func compileFiles(t testing.TB, text string, o sourcepolicy.Options) (*sourcepolicy.Policy, error) {
	files := []sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(text)}}
	if os.Getenv(sandboxedTests) == "" {
		return sourcepolicy.Compile(files, o)
	}
	return sourcepolicy.CompileSandboxed(t.Context(), worker(t), files, o)
}

func source(t testing.TB, s string) sourcepolicy.Source {
	t.Helper()
	src, err := sourcepolicy.ParseSource(s)
	if err != nil {
		t.Fatal(err)
	}
	src.Platform = "linux/amd64"
	return src
}

// world is a resolver over facts that are written down. It counts what it is asked,
// and fails for the test when it is asked the same twice.
type world struct {
	facts map[string]sourcepolicy.Facts // by source identifier
	fail  map[sourcepolicy.Fact]error   // facts that cannot be had

	mu    sync.Mutex
	asked map[string]int
	t     testing.TB
}

func (w *world) Resolve(_ context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked == nil {
		w.asked = map[string]int{}
	}
	f, ok := w.facts[src.Identifier]
	var err error
	for _, a := range asks {
		key := src.Identifier + " " + a.Key()
		if w.asked[key]++; w.asked[key] > 1 {
			w.t.Errorf("%s was asked for twice", key)
		}
		if e := w.fail[a.Fact]; e != nil {
			err = e
		}
	}
	if err != nil {
		return sourcepolicy.Facts{}, err
	}
	if !ok {
		return sourcepolicy.Facts{}, errors.New("there is no " + src.Identifier)
	}
	return only(f, asks), nil
}

// only is what of the facts was asked for.
func only(f sourcepolicy.Facts, asks []sourcepolicy.Ask) sourcepolicy.Facts {
	out := sourcepolicy.Facts{Digests: f.Digests, Found: f.Found, Notes: f.Notes}
	for _, a := range asks {
		switch a.Fact {
		case sourcepolicy.ImageChecksum, sourcepolicy.HTTPChecksum:
			out.Checksum = f.Checksum
		case sourcepolicy.ImageConfig:
			out.Config = f.Config
		case sourcepolicy.ImageAttested:
			out.Attested = f.Attested
		case sourcepolicy.ImageProvenance:
			out.Provenance = f.Provenance
		case sourcepolicy.ImageSignatures:
			out.Signatures = f.Signatures
		case sourcepolicy.ImageAttestations:
			out.Attestations = f.Attestations
		case sourcepolicy.GitRef:
			out.Git = f.Git
		case sourcepolicy.GitObjects:
			out.Objects = f.Objects
		}
	}
	return out
}

func evaluate(t testing.TB, s *sourcepolicy.Set, src string, r sourcepolicy.Resolver) sourcepolicy.Decision {
	t.Helper()
	d, err := s.Evaluate(t.Context(), sourcepolicy.Request{Source: source(t, src), Now: noon, Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func yes() *bool { b := true; return &b }

const digest1 = evidence.Digest("sha256:1111111111111111111111111111111111111111111111111111111111111111")
const digest2 = evidence.Digest("sha256:2222222222222222222222222222222222222222222222222222222222222222")

// digestOf is digest1 or digest2, or none.
func digestOf(n string) evidence.Digest {
	return map[string]evidence.Digest{"1": digest1, "2": digest2}[n]
}

func image() sourcepolicy.Facts {
	return sourcepolicy.Facts{
		Checksum: digest1, Attested: yes(), Provenance: &sourcepolicy.ProvenanceFact{}, Signatures: &[]sourcepolicy.Signature{},
		Config: &sourcepolicy.ImageConfiguration{CreatedTime: "2026-01-01T00:00:00Z", Labels: map[string]string{"team": "a"}, User: "app"},
	}
}

func TestFactsAreFetchedWhenAsked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule  string
		asked []string
	}{
		"name alone":       {`allow if input.image.repo == "alpine"`, nil},
		"label":            {`allow if input.image.labels.team == "a"`, []string{"image.config"}},
		"created":          {`allow if input.image.createdTime < "2027"`, []string{"image.config"}},
		"after the name":   {"allow if {\n input.image.repo == \"alpine\"\n input.image.user == \"app\" }", []string{"image.config"}},
		"not reached":      {"allow if input.image.host == \"docker.io\"\nallow if {\n input.image.repo == \"other\"\n input.image.user == \"root\" }", nil},
		"alias":            {"allow if {\n i := input.image\n i.labels[\"team\"] == \"a\" }", []string{"image.config"}},
		"variable":         {"allow if {\n k := \"user\"\n input.image[k] == \"app\" }", []string{"image.config"}},
		"function":         {"allow if f(input.image)\nf(i) if i.user == \"app\"", []string{"image.config"}},
		"comprehension":    {`allow if count([l | some l in input.image.labels]) == 1`, []string{"image.config"}},
		"object.get":       {`allow if object.get(input.image, ["labels", "team"], "b") == "a"`, []string{"image.config"}},
		"default of get":   {`allow if object.get(input.image, "volumes", "none") == "none"`, []string{"image.config"}},
		"every":            {`allow if every l in input.image.labels { l == "a" }`, []string{"image.config"}},
		"negation":         {`allow if not input.image.labels.other`, []string{"image.config"}},
		"iterate members":  {`allow if count({k | some k, _ in input.image; k == "user"}) == 1`, []string{"image.attestations", "image.attested", "image.checksum", "image.config", "image.provenance", "image.signatures"}},
		"names of members": {`allow if "user" in object.keys(input.image)`, []string{"image.attestations", "image.attested", "image.checksum", "image.config", "image.provenance", "image.signatures"}},
		"number":           {`allow if count(input.image) > 5`, []string{"image.attestations", "image.attested", "image.checksum", "image.config", "image.provenance", "image.signatures"}},
		"with":             {"allow if g with input.image.user as \"x\"\ng if input.image.labels.team == \"a\"", []string{"image.attestations", "image.attested", "image.checksum", "image.config", "image.provenance", "image.signatures"}},
		"twice":            {"allow if {\n input.image.user == \"app\"\n input.image.checksum != \"\"\n input.image.labels.team == \"a\" }", []string{"image.checksum", "image.config"}},
		"unsigned":         {`allow if not input.image.signatures`, []string{"image.signatures"}},
		"no provenance":    {`allow if not input.image.provenance.builderID`, []string{"image.provenance"}},
		"attested":         {`allow if input.image.hasProvenance`, []string{"image.attested"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := image()
			facts.Attestations = &[]sourcepolicy.Attestation{}
			w := &world{t: t, facts: map[string]sourcepolicy.Facts{"docker-image://docker.io/library/alpine:3": facts}}
			d := evaluate(t, compile(t, head+tc.rule), "alpine:3", w)
			slices.Sort(d.Asked)
			if !d.Allowed || !slices.Equal(d.Asked, tc.asked) {
				t.Errorf("asked for %v in %d passes, want %v; %+v", d.Asked, d.Passes, tc.asked, d.Decision)
			}
		})
	}
}

// TestUnknownIsNeverMissed: a deny rule about a fact that cannot be found out denies,
// however it comes to the fact.
func TestUnknownIsNeverMissed(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{
		"plain":         `deny_msg contains "x" if input.image.labels.bad`,
		"equal":         `deny_msg contains "x" if input.image.user == "root"`,
		"not equal":     `deny_msg contains "x" if input.image.user != "app"`,
		"created":       `deny_msg contains "x" if input.image.createdTime < "2020"`,
		"negated":       `deny_msg contains "x" if not startswith(input.image.user, "a")`,
		"in":            `deny_msg contains "x" if "root" in {input.image.user}`,
		"membership":    `deny_msg contains "x" if "A=B" in input.image.env`,
		"some":          "deny_msg contains \"x\" if {\n some e in input.image.env\n startswith(e, \"SECRET=\") }",
		"every":         `deny_msg contains "x" if every v in input.image.volumes { v == "/" }`,
		"count":         `deny_msg contains "x" if count(input.image.volumes) > 3`,
		"comprehension": `deny_msg contains "x" if count({l | some l, _ in input.image.labels; l == "bad"}) > 0`,
		"alias":         "deny_msg contains \"x\" if {\n i := input\n j := i.image\n j.user == \"root\" }",
		"function":      "deny_msg contains \"x\" if f(input)\nf(x) if x.image.user == \"root\"",
		"helper":        "deny_msg contains \"x\" if bad\nbad if input.image.user == \"root\"",
		"set":           "deny_msg contains \"x\" if {\n some i in {input.image}\n i.user == \"root\" }",
		"array":         "deny_msg contains \"x\" if {\n some i in [input.image]\n i.user == \"root\" }",
		"object":        "deny_msg contains \"x\" if {\n o := {\"i\": input.image}\n o.i.user == \"root\" }",
		"union":         "deny_msg contains \"x\" if object.union(input.image, {\"a\": 1}).user == \"root\"",
		"filter":        "deny_msg contains \"x\" if json.filter(input, [\"image/user\"]).image.user == \"root\"",
		"remove":        "deny_msg contains \"x\" if object.remove(input.image, [\"ref\"]).user == \"root\"",
		"get":           `deny_msg contains "x" if object.get(input, ["image", "user"], "app") == "root"`,
		"subset":        `deny_msg contains "x" if object.subset(input.image, {"user": "root"})`,
		"superset":      `deny_msg contains "x" if object.subset({"a": 1}, input.image)`,
		"keys":          `deny_msg contains "x" if "labels" in object.keys(input.image)`,
		"marshal":       `deny_msg contains "x" if contains(json.marshal(input.image), "root")`,
		"print text":    `deny_msg contains "x" if contains(sprintf("%v", [input.image]), "root")`,
		"compare":       `deny_msg contains "x" if input.image == object.union(input.image, {"user": "root"})`,
		"compare less":  `deny_msg contains "x" if input.image < {}`,
		"type":          `deny_msg contains "x" if is_string(input.image.user)`,
		"variable key":  "deny_msg contains \"x\" if {\n some k\n input.image[k] == \"root\" }",
		"computed key":  `deny_msg contains "x" if input.image[concat("", ["us", "er"])] == "root"`,
		"with":          "deny_msg contains \"x\" if bad with input.env.target as \"t\"\nbad if input.image.user == \"root\"",
		"walk of some":  "deny_msg contains \"x\" if {\n some group in input\n some v in group\n v == \"root\" }",
		"else":          "deny_msg contains \"x\" if bad\nbad := false if input.image.user == \"app\"\nelse := true if input.image.user == \"root\"",
		"default":       "default user := \"app\"\nuser := input.image.user\ndeny_msg contains \"x\" if user == \"root\"",
		"template":      "deny_msg contains \"x\" if $\"{input.image.user}\" == \"root\"",
		"builtin error": `deny_msg contains "x" if to_number(input.image.labels.n) > 3`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := compile(t, denyHead+rule)
			for what, r := range map[string]sourcepolicy.Resolver{
				"no resolver":  nil,
				"fails":        &world{t: t, fail: map[sourcepolicy.Fact]error{sourcepolicy.ImageConfig: errors.New("the registry is away")}},
				"says nothing": &world{t: t, facts: map[string]sourcepolicy.Facts{"docker-image://docker.io/library/alpine:3": {Checksum: digest1}}},
			} {
				d := evaluate(t, s, "alpine:3", r)
				if d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
					t.Errorf("%s: %+v", what, d.Decision)
				}
				if what == "fails" && !strings.Contains(d.Reasons[0].Message, "the registry is away") && !strings.Contains(d.Reasons[len(d.Reasons)-1].Message, "away") {
					t.Errorf("the reason does not say why: %+v", d.Reasons)
				}
			}
		})
	}
}

// TestOutage: that a registry is away can be told from what cannot be.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := compile(t, denyHead+`deny_msg contains "x" if input.image.user == "root"`)
	w := &world{t: t, fail: map[sourcepolicy.Fact]error{sourcepolicy.ImageConfig: fault.Unreachablef("docker.io does not answer")}}
	if d := evaluate(t, s, "alpine:3", w); d.Allowed || fault.KindOf(d.Unknown) != fault.Unreachable {
		t.Errorf("%+v %v", d.Decision, d.Unknown)
	}
	w = &world{t: t, fail: map[sourcepolicy.Fact]error{sourcepolicy.ImageConfig: errors.New("no such image")}}
	if d := evaluate(t, s, "alpine:3", w); d.Allowed || d.Unknown == nil || fault.KindOf(d.Unknown) != fault.Failure {
		t.Errorf("%+v %v", d.Decision, d.Unknown)
	}
	facts := image()
	facts.Config = &sourcepolicy.ImageConfiguration{User: "root"}
	if d := evaluate(t, s, "alpine:3", &world{t: t, facts: map[string]sourcepolicy.Facts{"docker-image://docker.io/library/alpine:3": facts}}); d.Allowed || d.Unknown != nil {
		t.Errorf("%+v %v", d.Decision, d.Unknown)
	}
}

// TestConcurrent: one set decides for many sources at once.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s := compile(t, head+"allow if {\n input.image.user == load_json(\"a.json\").user\n docker_github_builder_tag(input.image, \"org/app\", \"v1\") == false\n }\nallow if input.image.labels.team == \"a\"", "a.json", `{"user": "app"}`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				facts := image()
				if i%2 == 1 {
					facts.Config = &sourcepolicy.ImageConfiguration{Labels: map[string]string{"team": "b"}}
				}
				w := &world{t: t, facts: map[string]sourcepolicy.Facts{"docker-image://docker.io/library/alpine:3": facts}}
				if d := evaluate(t, s, "alpine:3", w); d.Allowed != (i%2 == 0) {
					t.Error(d.Decision)
					return
				}
			}
		})
	}
	wg.Wait()
}
