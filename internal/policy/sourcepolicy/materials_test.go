package sourcepolicy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

const (
	appID   = "docker-image://docker.io/org/app:1"
	baseID  = "docker-image://docker.io/library/base:2@" + string(digest1)
	rootID  = "docker-image://docker.io/library/root:3@" + string(digest2)
	gitID   = "git://example.org/app.git#0123456789012345678901234567890123456789"
	baseURI = "pkg:docker/base@2?platform=linux%2Famd64"
)

func built(materials ...string) *sourcepolicy.ProvenanceFact {
	return &sourcepolicy.ProvenanceFact{PredicateType: sourcepolicy.PredicateSLSA1, Predicate: []byte(
		`{"buildDefinition":{"buildType":"b","resolvedDependencies":[` + strings.Join(materials, ",") + `]},"runDetails":{"builder":{"id":"me"}}}`)}
}

func material(uri, hex string) string {
	return fmt.Sprintf(`{"uri":%q,"digest":{"sha256":%q}}`, uri, strings.TrimPrefix(hex, "sha256:"))
}

// tree is an image of a base image (of another one), a checkout and a download.
func tree(t testing.TB) *world {
	app, base, root := image(), image(), image()
	app.Provenance = built(
		material(baseURI, string(digest1)),
		`{"uri":"https://example.org/app.git#0123456789012345678901234567890123456789","digest":{"sha1":"0123456789012345678901234567890123456789"}}`,
		material("https://example.org/a.tar.gz", string(digest2)),
		material("oci-layout://here", string(digest2)),
	)
	base.Provenance = built(material("pkg:docker/root@3", string(digest2)))
	base.Config = &sourcepolicy.ImageConfiguration{Labels: map[string]string{"eol": "yes"}, User: "root"}
	root.Config = &sourcepolicy.ImageConfiguration{User: "deep"}
	root.Checksum = digest2
	root.Provenance = built(material(baseURI, string(digest1))) // made of what is made of it
	return &world{t: t, facts: map[string]sourcepolicy.Facts{
		appID: app, baseID: base, rootID: root,
		gitID:                          {Objects: &sourcepolicy.GitObjectsFact{}},
		"https://example.org/a.tar.gz": {Checksum: digest2},
	}}
}

// TestMaterials: every way to come to a material's facts fetches them, which buildx
// does for literal indexes alone.
func TestMaterials(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule  string
		asked []string // nil: whole materials are collected, which reads all of them
	}{
		"index":         {`deny_msg contains "x" if input.image.provenance.materials[0].image.labels.eol == "yes"`, []string{"image.provenance", "material 0: image.config"}},
		"some":          {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.image.labels.eol == \"yes\" }", []string{"image.provenance", "material 0: image.config"}},
		"variable":      {"deny_msg contains \"x\" if {\n some i\n input.image.provenance.materials[i].image.user == \"root\" }", []string{"image.provenance", "material 0: image.config"}},
		"not every":     {"deny_msg contains \"x\" if not all_fine\nall_fine if every m in input.image.provenance.materials { not m.image.labels.eol }", []string{"image.provenance", "material 0: image.config"}},
		"comprehension": {`deny_msg contains "x" if count({m.image.user | some m in input.image.provenance.materials}) == 1`, []string{"image.provenance", "material 0: image.config"}},
		"whole ones":    {`deny_msg contains "x" if count([m | some m in input.image.provenance.materials; m.image.user == "root"]) == 1`, nil},
		"slice":         {"deny_msg contains \"x\" if {\n some m in array.slice(input.image.provenance.materials, 0, 1)\n m.image.user == \"root\" }", []string{"image.provenance", "material 0: image.config"}},
		"reverse":       {"deny_msg contains \"x\" if {\n some m in array.reverse(input.image.provenance.materials)\n m.image.user == \"root\" }", nil},
		"function":      {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n bad(m) }\nbad(m) if m.image.user == \"root\"", []string{"image.provenance", "material 0: image.config"}},
		"two levels":    {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n some n in m.image.provenance.materials\n n.image.user == \"deep\" }", []string{"image.provenance", "material 0 of material 0: image.config", "material 0: image.provenance"}},
		"names alone":   {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.image.repo == \"base\" }", []string{"image.provenance"}},
		"checksum":      {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.http.checksum == \"" + string(digest2) + "\" }", []string{"image.provenance", "material 2: http.checksum"}},
		"unsupported":   {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n not m.image\n not m.git\n not m.http\n startswith(m.material.uri, \"oci-layout:\") }", []string{"image.provenance"}},
		"depth":         {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.env.depth == 1 }", []string{"image.provenance"}},
		"platform":      {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.image.platform == \"linux/amd64\" }", []string{"image.provenance"}},
		"number":        {`deny_msg contains "x" if count(input.image.provenance.materials) == 4`, []string{"image.provenance"}},
		"git":           {"deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.git.isCommitRef\n m.git.host == \"example.org\" }", []string{"image.provenance"}},
		"set of them":   {`deny_msg contains "x" if count({m | some m in input.image.provenance.materials; m.image}) == 1`, nil},
		"as argument":   {"deny_msg contains \"x\" if f(input.image)\nf(i) if i.provenance.builderID == \"me\"", []string{"image.provenance"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := compile(t, denyHead+tc.rule)
			if tc.asked != nil {
				d := evaluate(t, s, "org/app:1", tree(t))
				slices.Sort(d.Asked)
				if d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" || !slices.Equal(d.Asked, tc.asked) {
					t.Errorf("asked for %v, want %v; %+v", d.Asked, tc.asked, d.Decision)
				}
			}
			w := tree(t)
			w.fail = map[sourcepolicy.Fact]error{sourcepolicy.ImageProvenance: errors.New("gone")}
			if d := evaluate(t, s, "org/app:1", w); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
				t.Errorf("without provenance: %+v", d.Decision)
			}
		})
	}
}

// TestMaterialUnknown: a material whose facts cannot be had denies when a rule comes
// to them, and does no harm when none does.
func TestMaterialUnknown(t *testing.T) {
	t.Parallel()
	w := tree(t)
	delete(w.facts, baseID)
	rule := "deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.image.labels.eol == \"yes\" }"
	if d := evaluate(t, compile(t, denyHead+rule), "org/app:1", w); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" || !strings.Contains(d.Reasons[0].Message, "material 0: image.config") {
		t.Errorf("%+v", d.Decision)
	}
	w = tree(t)
	delete(w.facts, baseID)
	rule = "deny_msg contains \"x\" if {\n some m in input.image.provenance.materials\n m.image.repo == \"evil\" }"
	if d := evaluate(t, compile(t, denyHead+rule), "org/app:1", w); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
}

// TestCycle: what is made of itself ends, and denies when a rule goes that far.
func TestCycle(t *testing.T) {
	t.Parallel()
	path := "input.image"
	for range 3 {
		path += ".provenance.materials[0].image"
	}
	d := evaluate(t, compile(t, denyHead+`deny_msg contains "x" if `+path+`.user == "root"`), "org/app:1", tree(t))
	if d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" || !strings.Contains(d.Reasons[0].Message, "material of itself") {
		t.Errorf("%+v", d.Decision)
	}
}

func TestProvenanceThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := compile(t, denyHead+`deny_msg contains "x" if input.image.provenance.builderID == "evil"`)
	for name, p := range map[string]*sourcepolicy.ProvenanceFact{
		"no JSON":     {PredicateType: sourcepolicy.PredicateSLSA1, Predicate: []byte("{")},
		"twice":       {PredicateType: sourcepolicy.PredicateSLSA1, Predicate: []byte(`{"runDetails":{"builder":{"id":"me"}},"runDetails":{"builder":{"id":"evil"}}}`)},
		"other types": {PredicateType: sourcepolicy.PredicateSLSA1, Predicate: []byte(`{"runDetails":{"builder":{"id":3}}}`)},
		"other kind":  {PredicateType: "https://example.org/x", Predicate: []byte(`{}`)},
		"too many":    built(strings.Repeat(`{},`, sourcepolicy.MaxMaterials) + "{}"),
	} {
		w := tree(t)
		f := w.facts[appID]
		f.Provenance = p
		w.facts[appID] = f
		if d := evaluate(t, s, "org/app:1", w); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
}

// TestMaterialsAreAskedForAsSuch: who finds facts out must know that a stranger named
// the place.
func TestMaterialsAreAskedForAsSuch(t *testing.T) {
	t.Parallel()
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "p.rego", Data: []byte("package docker\n" +
		"bad if {\n some m in input.image.provenance.materials\n m.http.checksum == \"x\" }\n" +
		"decision := {\"allow\": not_bad}\ndefault not_bad := false\nnot_bad if not bad")}}, sourcepolicy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := sourcepolicy.NewSet(p).Begin(sourcepolicy.Request{Source: sourcepolicy.Source{Identifier: appID}})
	w := tree(t)
	seen := map[bool]int{}
	for {
		d, wants, err := e.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(wants) == 0 {
			if !d.Allowed || seen[true] == 0 || seen[false] == 0 {
				t.Error(d, seen)
			}
			return
		}
		for _, want := range wants {
			for _, a := range want.Asks {
				if a.Material == want.Root {
					t.Errorf("%s: %+v", want.Source.Identifier, a)
				}
				seen[a.Material]++
			}
			e.Learn(want, w.facts[want.Source.Identifier], nil)
		}
	}
}

// TestMaterialsThatLie: what a provenance says of a material stands under material, and
// what the material is found to be elsewhere: one is never taken for the other.
func TestMaterialsThatLie(t *testing.T) {
	t.Parallel()
	const other = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
	w := tree(t)
	w.facts["https://example.org/a.tar.gz"] = sourcepolicy.Facts{Checksum: other}
	m := "m := input.image.provenance.materials[2]\n"
	for rule, want := range map[string]string{
		m + `deny_msg contains "x" if m.http.checksum != concat(":", ["sha256", m.material.digest.sha256])`: "POLICY_DENIED",
		m + `deny_msg contains "x" if m.http.checksum != "` + other + `"`:                                   "",
		m + `deny_msg contains "x" if m.material.digest.sha256 == "` + other[7:] + `"`:                      "",
	} {
		w.asked = nil
		d := evaluate(t, compile(t, denyHead+rule), "org/app:1", w)
		if d.Allowed != (want == "") || !d.Allowed && d.Reasons[0].Code != want {
			t.Errorf("%s: %+v", rule, d.Decision)
		}
	}
	// A checkout whose objects are not those of the commit, and an image under another digest.
	w = tree(t)
	w.facts[gitID] = sourcepolicy.Facts{Objects: &sourcepolicy.GitObjectsFact{
		GitRefFact: sourcepolicy.GitRefFact{Ref: gitID[len(gitID)-40:], Checksum: gitID[len(gitID)-40:], CommitChecksum: gitID[len(gitID)-40:]},
		Commit:     []byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\nx\n"),
	}}
	for _, rule := range []string{
		`deny_msg contains "x" if input.image.provenance.materials[1].git.commit.message == "y"`,
		`deny_msg contains "x" if input.image.provenance.materials[0].image.labels.no`,
	} {
		w.asked = nil
		if d := evaluate(t, compile(t, denyHead+rule), "org/app:1", underAnotherDigest{w}); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", rule, d.Decision)
		}
	}
}

// underAnotherDigest gives the base image's facts with the digest of another image.
type underAnotherDigest struct{ *world }

func (u underAnotherDigest) Resolve(ctx context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	f, err := u.world.Resolve(ctx, src, asks)
	if src.Identifier == baseID {
		f.Checksum = digest2
	}
	return f, err
}
