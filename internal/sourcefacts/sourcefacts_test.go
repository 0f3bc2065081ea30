package sourcefacts_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

const rita = "rita@example.org"

// world is an authority with a signer, and a trust in it.
type world struct {
	*hmtest.Running
	t        *testing.T
	client   *registry.Client
	verifier *verify.Verifier
	signer   *sign.Signer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Running: hmtest.Authority(t), t: t, client: registry.NewClient(registry.Options{})}
	w.verifier, w.signer = signing.Verifier(t, w.Running), signing.Signer(t, w.Running, rita)
	return w
}

func (w *world) resolver() *sourcefacts.Resolver {
	return sourcefacts.New(sourcefacts.Options{Registry: w.client, Verifier: func(context.Context) (*verify.Verifier, error) { return w.verifier, nil }})
}

func (w *world) ref(name string) registry.Ref {
	w.t.Helper()
	ref, err := registry.ParseRef(w.Info.Registry + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) image(name, user string) ocispec.Descriptor {
	w.t.Helper()
	d, err := testimage.Push(w.t.Context(), w.client, w.ref(name), testimage.Image{OS: "linux", Arch: "amd64", Labels: map[string]string{"who": user}, Env: []string{"A=b"},
		Layers: [][]testimage.File{{{Path: "a", Data: []byte(name)}}}})
	w.must(err)
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	return d
}

// provenance pushes an attestation manifest about an image; with a subject it says so itself.
func (w *world) provenance(name string, about ocispec.Descriptor, subject bool, in digest.Digest) ocispec.Descriptor {
	w.t.Helper()
	return w.provenanceOf(name, about, subject, in, `{"uri":"https://example.org/x","digest":{"sha256":"`+strings.Repeat("1", 64)+`"}}`)
}

// provenanceOf is provenance with these materials.
func (w *world) provenanceOf(name string, about ocispec.Descriptor, subject bool, in digest.Digest, materials ...string) ocispec.Descriptor {
	w.t.Helper()
	ref := w.ref(name)
	repo, err := w.client.Open(w.t.Context(), ref)
	w.must(err)
	st := evidence.Statement{Type: evidence.StatementV1, PredicateType: evidence.PredicateSLSA1,
		Predicate: []byte(`{"buildDefinition":{"buildType":"t","resolvedDependencies":[` + strings.Join(materials, ",") + `]},"runDetails":{"builder":{"id":"https://b.example"}}}`),
		Subject:   []evidence.StatementSubject{{Name: "pkg:docker/app", Digest: map[string]string{"sha256": in.Encoded()}}}}
	data, err := json.Marshal(st)
	w.must(err)
	layer, err := repo.PushBlob(w.t.Context(), attestation.StatementMediaType, data)
	w.must(err)
	layer.Annotations = map[string]string{attestation.AnnotationPredicate: st.PredicateType}
	config, err := repo.PushBlob(w.t.Context(), ocispec.MediaTypeImageConfig, []byte(ociartifact.EmptyConfig))
	w.must(err)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
	m.SchemaVersion = 2
	if subject {
		m.ArtifactType = attestation.ArtifactType
		m.Subject = &ocispec.Descriptor{MediaType: about.MediaType, Digest: about.Digest, Size: about.Size}
	}
	d, err := testimage.PushManifest(w.t.Context(), repo, ref.Tag, m.MediaType, m)
	w.must(err)
	return listed(d, about.Digest)
}

// listed is an attestation manifest as an index lists it.
func listed(d ocispec.Descriptor, about digest.Digest) ocispec.Descriptor {
	d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", attestation.AnnotationAbout: about.String()}
	return d
}

func (w *world) index(name string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	w.t.Helper()
	d, err := testimage.PushIndex(w.t.Context(), w.client, w.ref(name), manifests...)
	w.must(err)
	return d
}

func (w *world) sign(name string, d ocispec.Descriptor) {
	w.t.Helper()
	repo, err := w.client.Open(w.t.Context(), w.ref(name))
	w.must(err)
	d.Annotations, d.Platform = nil, nil
	target := sign.Target{Repo: repo, Desc: d}
	st, err := sign.ImageStatement(target.Digest(), nil)
	w.must(err)
	s, err := w.signer.Sign(w.t.Context(), st)
	w.must(err)
	data, err := io.ReadAll(s.Reader())
	w.must(err)
	layer, err := repo.PushBlob(w.t.Context(), evidence.BundleMediaType, data)
	w.must(err)
	_, err = repo.PushBlob(w.t.Context(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig))
	w.must(err)
	manifest, _, err := ociartifact.BundleManifest(d, layer, evidence.PredicateSign, time.Unix(0, 0))
	w.must(err)
	_, err = repo.Attach(w.t.Context(), d, manifest)
	w.must(err)
}

// evaluate asks a policy about an image in the authority's registry.
func (w *world) evaluate(rule, image string) sourcepolicy.Decision {
	w.t.Helper()
	return evaluate(w.t, rule, w.Info.Registry+"/"+image, w.resolver())
}

func evaluate(t *testing.T, rule, source string, r sourcepolicy.Resolver, files ...string) sourcepolicy.Decision {
	t.Helper()
	folder := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		folder[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte("package docker\ndefault allow := false\ndecision := {\"allow\": allow}\n" + rule)}}, sourcepolicy.Options{FS: folder})
	if err != nil {
		t.Fatal(err)
	}
	src, err := sourcepolicy.ParseSource(source)
	if err != nil {
		t.Fatal(err)
	}
	src.Platform = "linux/amd64"
	d, err := sourcepolicy.NewSet(p).Evaluate(t.Context(), sourcepolicy.Request{Source: src, Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTheImageThatIsUsed: whoever writes an index lists an image of their own in front of the
// signed one, so that BuildKit, and containerd below it, uses theirs. What is looked at is
// what is used.
func TestTheImageThatIsUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, evil := w.image("used:good", "alice"), w.image("used:evil", "mallory")
	w.sign("used:good", good)
	as := func(d ocispec.Descriptor, p *ocispec.Platform) ocispec.Descriptor { d.Platform = p; return d }
	posing := listed(evil, good.Digest)
	posing.Platform = good.Platform
	for name, c := range map[string]struct {
		list []ocispec.Descriptor
		used bool // the signed one is
	}{
		"alone":            {[]ocispec.Descriptor{good}, true},
		"first":            {[]ocispec.Descriptor{good, evil}, true},
		"other platform":   {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "linux", Architecture: "arm64"}), as(evil, &ocispec.Platform{OS: "linux", Architecture: "386"}), good}, true},
		"newer processor":  {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}), good}, true},
		"no platform":      {[]ocispec.Descriptor{as(evil, nil), good}, true},
		"second":           {[]ocispec.Descriptor{evil, good}, false},
		"x86_64":           {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "linux", Architecture: "x86_64"}), good}, false},
		"AMD64":            {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "linux", Architecture: "AMD64"}), good}, false},
		"Linux":            {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "Linux", Architecture: "amd64"}), good}, false},
		"no system":        {[]ocispec.Descriptor{as(evil, &ocispec.Platform{Architecture: "amd64"}), good}, false},
		"v1":               {[]ocispec.Descriptor{as(evil, &ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v1"}), good}, false},
		"an attestation":   {[]ocispec.Descriptor{posing, good}, false},
		"features":         {[]ocispec.Descriptor{as(good, &ocispec.Platform{OS: "linux", Architecture: "amd64", OSFeatures: []string{"x"}}), evil}, false},
		"too new":          {[]ocispec.Descriptor{as(good, &ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}), as(evil, &ocispec.Platform{OS: "linux", Architecture: "386"})}, false},
		"another one's":    {[]ocispec.Descriptor{as(good, &ocispec.Platform{OS: "linux", Architecture: "386"}), as(evil, nil)}, false},
		"only no platform": {[]ocispec.Descriptor{as(good, nil)}, false},
	} {
		w.index("used:v1", c.list...)
		if d := w.evaluate(`allow if some s in input.image.signatures`, "used:v1"); d.Allowed != c.used {
			t.Errorf("%s: %v", name, d)
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.image("app:one", "alice")
	att := w.provenance("app:att", one, true, one.Digest)
	root := w.index("app:v1", one, att)
	alone := w.image("alone:v1", "bob")

	signedOne := w.image("signed:one", "carol")
	signedAtt := w.provenance("signed:att", signedOne, true, signedOne.Digest)
	w.index("signed:v1", signedOne, signedAtt)
	w.sign("signed:att", signedAtt)

	oldOne := w.image("old:one", "dave")
	oldAtt := w.provenance("old:att", oldOne, false, oldOne.Digest)
	oldRoot := w.index("old:v1", oldOne, oldAtt)
	w.sign("old:v1", oldRoot)

	// Somebody puts a signed attestation manifest of another image into an index.
	evil := w.image("signed:evil", "mallory")
	w.index("signed:stolen", evil, listed(signedAtt, evil.Digest))

	builder := "allow if input.image.provenance.builderID == \"https://b.example\""
	rited := `allow if {
	some s in input.image.signatures
	s.signer.subjectAlternativeName == "rita@example.org"
	s.type == "bundle-v0.3"
	s.kind == "untrusted"
	count(s.timestamps) > 0
	s.covers == "`
	for name, tc := range map[string]struct {
		rule, image string
		want        bool
	}{
		"label of an index":    {`allow if input.image.labels.who == "alice"`, "app:v1", true},
		"label of an image":    {`allow if input.image.labels.who == "bob"`, "alone:v1", true},
		"another label":        {`allow if input.image.labels.who == "eve"`, "app:v1", false},
		"env":                  {`allow if "A=b" in input.image.env`, "app:v1", true},
		"no user":              {`allow if not input.image.user`, "app:v1", true},
		"checksum":             {`allow if input.image.checksum == "` + root.Digest.String() + `"`, "app:v1", true},
		"checksum of an image": {`allow if input.image.checksum == "` + alone.Digest.String() + `"`, "alone:v1", true},
		"provenance":           {builder, "app:v1", true},
		"provenance, unsigned": {builder + "\nallow if input.image.provenance.verified", "alone:v1", false},
		"not verified":         {"allow if {\n not input.image.provenance.verified\n input.image.provenance.buildType == \"t\" }", "app:v1", true},
		"verified":             {`allow if input.image.provenance.verified`, "signed:v1", true},
		"by the index":         {`allow if input.image.provenance.verified`, "old:v1", true},
		"signer":               {`allow if input.image.provenance.signer.subjectAlternativeName == "rita@example.org"`, "signed:v1", true},
		"signer of the index":  {"allow if {\n input.image.provenance.signer.subjectAlternativeName == \"rita@example.org\"\n input.image.attestations[0].signer.issuer == \"" + w.Info.Issuer + "\" }", "old:v1", true},
		"another signer":       {`allow if input.image.provenance.signer.subjectAlternativeName == "eve@example.org"`, "signed:v1", false},
		"no signer, unsigned":  {"allow if {\n input.image.provenance.buildType == \"t\"\n not input.image.provenance.signer }", "app:v1", true},
		"attested":             {`allow if input.image.hasProvenance`, "app:v1", true},
		"not attested":         {`allow if input.image.hasProvenance == false`, "alone:v1", true},
		"no signature":         {`allow if not input.image.signatures`, "app:v1", true},
		"signed statement":     {rited + `attestation" }`, "signed:v1", true},
		"signed index":         {rited + `index" }`, "old:v1", true},
		"no signed image":      {rited + `image" }`, "signed:v1", false},
		"stolen signature":     {rited + `attestation" }`, "signed:stolen", false},
		"material":             {`allow if input.image.provenance.materials[0].http.url == "https://example.org/x"`, "app:v1", true},
		"attestations":         {"allow if {\n some a in input.image.attestations\n a.verified\n a.signer.issuer == \"" + w.Info.Issuer + "\"\n a.predicate.buildDefinition.buildType == \"t\" }", "signed:v1", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			d := w.evaluate(tc.rule, tc.image)
			if d.Allowed != tc.want || !tc.want && d.Reasons[0].Code != "POLICY_DENIED" {
				t.Errorf("%+v, asked for %v", d.Decision, d.Asked)
			}
		})
	}
	// A stolen statement is about something else: it is no provenance of this image.
	for _, rule := range []string{builder, `allow if not input.image.provenance.verified`} {
		if d := w.evaluate(rule, "signed:stolen"); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", rule, d.Decision)
		}
	}
	if d := w.evaluate(`allow if input.image.labels.who == "alice"`, "app:nope"); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
		t.Errorf("%+v", d.Decision)
	}
	// What was resolved once stays: the tag moves between two questions.
	r := w.resolver()
	first := evaluate(t, `allow if input.image.checksum`, w.Info.Registry+"/moving:v1", r)
	if first.Allowed {
		t.Error("an image that is not there was found")
	}
	before := w.index("moving:v1", w.image("moving:one", "x"))
	same := `allow if input.image.checksum == "` + before.Digest.String() + `"`
	if d := evaluate(t, same, w.Info.Registry+"/moving:v1", r); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	w.index("moving:v1", w.image("moving:two", "y"))
	if d := evaluate(t, same, w.Info.Registry+"/moving:v1", r); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
}

// TestMaterialsThatLie: a provenance is whatever its author likes. What it says of a
// material is not what the material is, and what it has us ask for is asked for as for a
// stranger: a rule that reads more of it denies.
func TestMaterialsThatLie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base, other := w.image("lied/base:v1", "root"), w.image("lied/base:v2", "app")
	nobody := digest.FromString("nobody has it")
	uri := func(name string) string {
		return "pkg:docker/" + strings.Replace(w.Info.Registry, ":", "%3A", 1) + "/" + name + "?platform=linux%2Famd64"
	}
	for name, c := range map[string]struct {
		material, rule string
		code           string // "" is allowed
		say            string
	}{
		"the truth": {`{"uri":"` + uri("lied/base@v1") + `","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			"allow if {\n m.image.labels.who == \"root\"\n m.image.checksum == \"" + base.Digest.String() + "\"\n}", "", ""},
		"another image's digest": {`{"uri":"` + uri("lied/base@v1") + `","digest":{"sha256":"` + other.Digest.Encoded() + `"}}`,
			`allow if m.image.labels.who == "root"`, "POLICY_DENIED", ""},
		"a digest that nothing has": {`{"uri":"` + uri("lied/base@v1") + `","digest":{"sha256":"` + nobody.Encoded() + `"}}`,
			`allow if not m.image.labels.bad`, "INPUT_INCOMPLETE", "material 0: image.config"},
		"two digests": {`{"uri":"` + uri("lied/base@v1") + `&digest=` + other.Digest.String() + `","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			`allow if m.image`, "POLICY_DENIED", ""},
		"a file of this machine": {`{"uri":"https://127.0.0.1:1/a","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			`allow if m.http.checksum == "` + base.Digest.String() + `"`, "INPUT_INCOMPLETE", "inner addresses"},
		"a file of a cloud": {`{"uri":"https://169.254.169.254/latest/meta-data/","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			`allow if not m.http.checksum`, "INPUT_INCOMPLETE", "inner addresses"},
		"a host as a number": {`{"uri":"https://2130706433:1/a","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			`allow if not m.http.checksum`, "INPUT_INCOMPLETE", "is a number"},
		"a file without TLS": {`{"uri":"http://127.0.0.1:1/a","digest":{"sha256":"` + base.Digest.Encoded() + `"}}`,
			`allow if m.http.checksum == "` + base.Digest.String() + `"`, "INPUT_INCOMPLETE", "only https is used"},
		"a repository of this machine": {`{"uri":"https://127.0.0.1:1/a.git#refs/heads/main","digest":{"sha1":"` + strings.Repeat("1", 40) + `"}}`,
			`allow if not m.git.tag`, "INPUT_INCOMPLETE", "inner addresses"},
		"a repository at a number": {`{"uri":"https://0x7f000001:1/a.git#refs/heads/main","digest":{"sha1":"` + strings.Repeat("1", 40) + `"}}`,
			`allow if not m.git.tag`, "INPUT_INCOMPLETE", "is a number"},
		"a repository over ssh": {`{"uri":"ssh://git@127.0.0.1:1/a.git#refs/heads/main","digest":{"sha1":"` + strings.Repeat("1", 40) + `"}}`,
			`allow if not m.git.tag`, "INPUT_INCOMPLETE", "only https is used"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			repo := "lied/" + strings.NewReplacer(" ", "-", "'", "").Replace(strings.ToLower(name))
			one := w.image(repo+":one", "x")
			w.index(repo+":v1", one, w.provenanceOf(repo+":att", one, true, one.Digest, c.material))
			d := w.evaluate("m := input.image.provenance.materials[0]\n"+c.rule, repo+":v1")
			if d.Allowed != (c.code == "") || !d.Allowed && (d.Reasons[0].Code != c.code || !strings.Contains(d.Reasons[0].Message, c.say)) {
				t.Errorf("%+v, asked for %v", d.Decision, d.Asked)
			}
		})
	}
}

// gone is a registry that has gone away: its fault is that it does not answer.
type gone struct{}

func (gone) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

func TestOutage(t *testing.T) {
	t.Parallel()
	r := sourcefacts.New(sourcefacts.Options{Registry: registry.NewClient(registry.Options{HTTPClient: &http.Client{Transport: gone{}}}), HTTP: &http.Client{Transport: gone{}}})
	for source, rule := range map[string]string{
		"127.0.0.1:1/app:v1":         `allow if not input.image.signatures`,
		"http://127.0.0.1:1/file":    `allow if input.http.checksum != "x"`,
		"http://127.0.0.1:1/app.git": `allow if not input.git.tag`,
	} {
		if d := evaluate(t, rule, source, r); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", source, d.Decision)
		}
	}
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	looks := 0
	changing := false
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(rw http.ResponseWriter, _ *http.Request) {
		if looks++; changing && looks > 1 {
			_, _ = io.WriteString(rw, "another body")
			return
		}
		_, _ = io.WriteString(rw, "the body")
	})
	mux.HandleFunc("/broken", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/long", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, strings.Repeat("x", 2000)) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r := func() *sourcefacts.Resolver { return sourcefacts.New(sourcefacts.Options{MaxBody: 1000}) }
	sum := `allow if input.http.checksum == "` + string(evidence.SHA256([]byte("the body"))) + `"`
	if d := evaluate(t, sum, server.URL+"/file?a=b", r()); !d.Allowed || looks != 1 {
		t.Errorf("%+v after %d looks", d.Decision, looks)
	}
	for _, path := range []string{"/nope", "/broken", "/long"} {
		d := evaluate(t, sum, server.URL+path+"?token=secret", r())
		if d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" || strings.Contains(d.Reasons[0].Message, "secret") {
			t.Errorf("%s: %+v", path, d.Decision)
		}
	}
	looks, changing = 0, true
	one := r()
	src := sourcepolicy.Source{Identifier: server.URL + "/file"}
	if _, err := one.Resolve(t.Context(), src, []sourcepolicy.Ask{{Fact: sourcepolicy.HTTPChecksum}}); err != nil {
		t.Fatal(err)
	}
	ask := sourcepolicy.Ask{Fact: sourcepolicy.HTTPDigest, Algorithm: "sha512", Suffix: []byte("x")}
	if f, err := one.Resolve(t.Context(), src, []sourcepolicy.Ask{ask}); err == nil || f.Digests[ask.Key()] != "" {
		t.Errorf("the body changed unseen: %+v", f)
	}
}

// gitServer serves a repository as git's own http-backend does.
func gitServer(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	h := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=uploadpack.allowReachableSHA1InWant", "GIT_CONFIG_VALUE_1=true"}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL + "/.git"
}

func TestGit(t *testing.T) {
	t.Parallel()
	repo := gitrepo.New(t, "sha1")
	commit := repo.Commit("first")
	key := gitrepo.NewKey(t, "ed25519", 0)
	repo.SignTag(key, "v1", commit)
	repo.Git("tag", "light")
	url := gitServer(t, repo.Dir)
	for source, rule := range map[string]string{
		url + "#v1":                 `allow if verify_git_signature(input.git.tag, "key.pub")`,
		url + "#refs/tags/v1":       "allow if {\n input.git.isAnnotatedTag\n input.git.tag.object == \"" + commit + "\" }",
		url + "#main":               `allow if input.git.branch == "main"`,
		url + "#refs/heads/main":    `allow if input.git.commitChecksum == "` + commit + `"`,
		url:                         `allow if input.git.ref == "refs/heads/main"`,
		url + "#" + commit:          `allow if input.git.commit.message == "first"`,
		url + "#light":              "allow if {\n not input.git.isAnnotatedTag\n input.git.checksum == \"" + commit + "\" }",
		url + "#light:sub/../dir":   `allow if input.git.subDir == "dir"`,
		url + "#" + commit + ":dir": `allow if input.git.isCommitRef`,
	} {
		if d := evaluate(t, rule, source, sourcefacts.New(sourcefacts.Options{}), "key.pub", key.Public); !d.Allowed {
			t.Errorf("%s: %+v", source, d.Decision)
		}
	}
	for source, rule := range map[string]string{
		url + "#nope":                       `allow if not input.git.tag`,
		url + "#" + strings.Repeat("0", 40): `allow if not input.git.commit.pgpSignature`,
	} {
		if d := evaluate(t, rule, source, sourcefacts.New(sourcefacts.Options{})); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", source, d.Decision)
		}
	}
}

// TestGitHub: attestations that GitHub's API gives, as it gives them, of which none is
// by anybody who is trusted.
func TestGitHub(t *testing.T) {
	t.Parallel()
	var paths []string
	mux := http.NewServeMux()
	mux.HandleFunc("/repos/", func(rw http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path+"?"+r.URL.RawQuery)
		_, _ = io.WriteString(rw, `{"attestations":[{"bundle":{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}},{"bundle":null,"bundle_url":"`+"http://"+r.Host+`/b.json.sn?sig=1"}]}`)
	})
	mux.HandleFunc("/b.json.sn", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte{2, 4, '{', '}'}) })
	mux.HandleFunc("/file", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "body") })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r := sourcefacts.New(sourcefacts.Options{GitHub: server.URL})
	d := evaluate(t, `allow if github_attestation(input.http, "org/app")`, server.URL+"/file", r)
	want := "/repos/org/app/attestations/" + string(evidence.SHA256([]byte("body"))) + "?predicate_type=https%3A%2F%2Fslsa.dev%2Fprovenance%2Fv1"
	if d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" || d.Reasons[0].Hint == "" || !slices.Equal(paths, []string{want}) {
		t.Errorf("%+v, asked for %v", d.Decision, paths)
	}
	r = sourcefacts.New(sourcefacts.Options{GitHub: server.URL + "/nowhere"})
	if d := evaluate(t, `allow if not github_attestation(input.http, "org/app")`, server.URL+"/file", r); !d.Allowed {
		t.Errorf("GitHub knows none: %+v", d.Decision)
	}
}
