package sourcepolicy_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

func TestLoadJSON(t *testing.T) {
	t.Parallel()
	rule := "allow if {\n some v in load_json(\"versions.json\").allowed\n v == input.image.tag }"
	if d := evaluate(t, compile(t, head+rule, "versions.json", `{"allowed": ["3", "4"]}`), "alpine:3", nil); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	for name, content := range map[string]string{"not listed": `{"allowed": ["4"]}`, "no list": `{}`} {
		if d := evaluate(t, compile(t, head+rule, "versions.json", content), "alpine:3", nil); d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
	for name, content := range map[string]string{"not JSON": `{`, "two": `{} {}`, "too big": strings.Repeat(" ", 4<<20) + "{}"} {
		if d := evaluate(t, compile(t, head+rule, "versions.json", content), "alpine:3", nil); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
	for name, path := range map[string]string{"missing": "nope.json", "outside": "../secret.json", "absolute": "/etc/passwd", "folder": "."} {
		text := strings.Replace(head+rule, "versions.json", path, 1)
		if d := evaluate(t, compile(t, text, "versions.json", "{}"), "alpine:3", nil); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" || !strings.Contains(d.Reasons[0].Message, "Dockerfile.rego:6") {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(head + rule)}}, sourcepolicy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := evaluate(t, sourcepolicy.NewSet(p), "alpine:3", nil); d.Allowed || !strings.Contains(d.Reasons[0].Message, "no folder") {
		t.Errorf("%+v", d.Decision)
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	pin := func(d evidence.Digest) string { return `allow if pin_image(input.image, "` + string(d) + `")` }
	d := evaluate(t, compile(t, head+pin(digest1)), "alpine:3", nil)
	if !d.Allowed || d.Pinned != digest1 || d.Source.Identifier != "docker-image://docker.io/library/alpine:3@"+string(digest1) || d.Source.Attrs["image.checksum"] != string(digest1) {
		t.Errorf("%+v", d)
	}
	if d := evaluate(t, compile(t, head+pin(digest1)), "alpine@"+string(digest1), nil); !d.Allowed || d.Pinned != "" {
		t.Errorf("what is pinned already: %+v", d)
	}
	if d := evaluate(t, compile(t, head+pin(digest1)), "alpine@"+string(digest2), nil); !d.Allowed || d.Pinned != digest1 {
		t.Errorf("another digest: %+v", d)
	}
	if d := evaluate(t, compile(t, head+pin(digest1)), "https://example.org/a", nil); d.Allowed {
		t.Errorf("no image: %+v", d)
	}
	first, second := compile(t, head+pin(digest1)).Policies()[0], compile(t, head+pin(digest2)).Policies()[0]
	for name, s := range map[string]*sourcepolicy.Set{
		"two policies":  sourcepolicy.NewSet(first, second),
		"one policy":    compile(t, head+"allow if {\n"+strings.TrimPrefix(pin(digest1), "allow if ")+"\n"+strings.TrimPrefix(pin(digest2), "allow if ")+"\n}"),
		"for ever":      compile(t, head+"allow if {\n not input.image.isCanonical\n pin_image(input.image, \""+string(digest1)+"\") }\nallow if {\n input.image.checksum == \""+string(digest1)+"\"\n pin_image(input.image, \""+string(digest2)+"\") }\nallow if {\n input.image.checksum == \""+string(digest2)+"\"\n pin_image(input.image, \""+string(digest1)+"\") }"),
		"then refused":  compile(t, head+"allow if {\n not input.image.isCanonical\n pin_image(input.image, \""+string(digest1)+"\") }"),
		"not an image":  compile(t, head+`allow if pin_image(input.env, "`+string(digest1)+`")`),
		"made up image": compile(t, head+`allow if pin_image({"ref": input.image.ref}, "`+string(digest1)+`")`),
		"bad digest":    compile(t, head+`allow if pin_image(input.image, "sha256:12")`),
	} {
		if d := evaluate(t, s, "alpine:3", nil); d.Allowed || d.Pinned != "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	d = evaluate(t, sourcepolicy.NewSet(first, second), "alpine:3", nil)
	if d.Reasons[0].Code != "POLICY_PIN" {
		t.Errorf("%+v", d.Reasons)
	}
	// A pin of a rule that the decision does not follow from is none.
	d = evaluate(t, compile(t, head+"allow if {\n pin_image(input.image, \""+string(digest1)+"\")\n false }\nallow if input.image.tag == \"3\""), "alpine:3", nil)
	if !d.Allowed {
		t.Errorf("%+v", d)
	}
}

// signedTag is a repository with a tag that a new SSH key signed.
func signedTag(t *testing.T) (facts sourcepolicy.Facts, public string) {
	repo := gitrepo.New(t, "sha1")
	commit := repo.Commit("first")
	key := gitrepo.NewKey(t, "ed25519", 0)
	tag := repo.SignTag(key, "v1", commit)
	return sourcepolicy.Facts{Objects: &sourcepolicy.GitObjectsFact{
		GitRefFact: sourcepolicy.GitRefFact{Ref: "refs/tags/v1", Checksum: tag, CommitChecksum: commit},
		Commit:     repo.Raw("commit", commit), Tag: repo.Raw("tag", tag),
	}}, key.Public
}

func TestVerifyGitSignature(t *testing.T) {
	t.Parallel()
	facts, public := signedTag(t)
	const src = "https://example.org/app.git#refs/tags/v1"
	id := "git://https://example.org/app.git#refs/tags/v1"
	s := compile(t, head+`allow if verify_git_signature(input.git.tag, "maintainer.pub")`, "maintainer.pub", public+" somebody\n")
	resolve := func(f sourcepolicy.Facts) *world {
		return &world{t: t, facts: map[string]sourcepolicy.Facts{id: f}}
	}
	if d := evaluate(t, s, src, resolve(facts)); !d.Allowed {
		t.Fatalf("%+v", d.Decision)
	}
	other := gitrepo.NewKey(t, "ed25519", 0)
	d := evaluate(t, compile(t, head+`allow if verify_git_signature(input.git.tag, "maintainer.pub")`, "maintainer.pub", other.Public), src, resolve(facts))
	if d.Allowed || !strings.Contains(d.Reasons[0].Hint, "a key that is not listed") {
		t.Errorf("a stranger's key: %+v", d.Decision)
	}
	if d := evaluate(t, compile(t, head+`allow if verify_git_signature(input.git.commit, "maintainer.pub")`, "maintainer.pub", public), src, resolve(facts)); d.Allowed || !strings.Contains(d.Reasons[0].Hint, "not signed") {
		t.Errorf("an unsigned commit: %+v", d.Decision)
	}
	either := "allow if verify_git_signature(input.git.tag, \"a.pub\")\nallow if verify_git_signature(input.git.tag, \"b.pub\")"
	if d := evaluate(t, compile(t, head+either, "a.pub", other.Public, "b.pub", public), src, resolve(facts)); !d.Allowed {
		t.Errorf("one of two keys: %+v", d.Decision)
	}
	for name, set := range map[string]*sourcepolicy.Set{
		"no key file":    compile(t, head+`allow if verify_git_signature(input.git.tag, "nope.pub")`),
		"no key":         compile(t, head+`allow if verify_git_signature(input.git.tag, "a.pub")`, "a.pub", "hello"),
		"another object": compile(t, head+`allow if verify_git_signature({"tag": "v1"}, "a.pub")`, "a.pub", public),
		"copied object":  compile(t, head+`allow if verify_git_signature(object.union(input.git.tag, {"tag": "v2"}), "a.pub")`, "a.pub", public),
	} {
		if d := evaluate(t, set, src, resolve(facts)); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
	for name, change := range map[string]func(*sourcepolicy.GitObjectsFact){
		"another commit": func(o *sourcepolicy.GitObjectsFact) {
			o.Commit = bytes.Replace(o.Commit, []byte("first"), []byte("other"), 1)
		},
		"another tag":        func(o *sourcepolicy.GitObjectsFact) { o.Tag = bytes.Replace(o.Tag, []byte("v1"), []byte("v2"), 1) },
		"no tag":             func(o *sourcepolicy.GitObjectsFact) { o.Tag = nil },
		"another ref":        func(o *sourcepolicy.GitObjectsFact) { o.Ref = "refs/tags/v2" },
		"tag as commit":      func(o *sourcepolicy.GitObjectsFact) { o.CommitChecksum = o.Checksum },
		"short id":           func(o *sourcepolicy.GitObjectsFact) { o.Checksum = o.Checksum[:8] },
		"commit of the name": func(o *sourcepolicy.GitObjectsFact) { o.Ref = "v1" },
	} {
		objects := *facts.Objects
		change(&objects)
		if d := evaluate(t, s, src, resolve(sourcepolicy.Facts{Objects: &objects})); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s: %+v", name, d.Decision)
		}
	}
	if d := evaluate(t, s, "alpine:3", nil); d.Allowed {
		t.Errorf("an image: %+v", d.Decision)
	}
}

// TestGitFields: what policies see of real objects.
func TestGitFields(t *testing.T) {
	t.Parallel()
	facts, _ := signedTag(t)
	id := "git://https://example.org/app.git#v1"
	for rule, want := range map[string]bool{
		`allow if input.git.tagName == "v1"`:                                   true,
		`allow if input.git.ref == "refs/tags/v1"`:                             true,
		`allow if not input.git.branch`:                                        true,
		`allow if input.git.isAnnotatedTag`:                                    true,
		`allow if input.git.isSHA256 == false`:                                 true,
		`allow if input.git.checksum != input.git.commitChecksum`:              true,
		`allow if input.git.tag.object == input.git.commitChecksum`:            true,
		`allow if input.git.commit.author.name == "Ann Author"`:                true,
		`allow if input.git.commit.author.when == "2023-11-14T23:13:20+01:00"`: true,
		`allow if input.git.commit.message == "first"`:                         true,
		`allow if startswith(input.git.tag.sshSignature.pubKey, "SHA256:")`:    true,
		`allow if not input.git.commit.sshSignature`:                           true,
		`allow if input.git.isCommitRef`:                                       false,
		`allow if input.git.tag.type == "tree"`:                                false,
		`allow if input.git.commit.parents[0]`:                                 false,
		"allow if {\n input.git.host == \"example.org\"\n input.git.schema == \"https\"\n input.git.remote == \"https://example.org/app.git\" }": true,
	} {
		w := &world{t: t, facts: map[string]sourcepolicy.Facts{id: facts}}
		if f := facts.Objects.GitRefFact; true {
			all := facts
			all.Git = &f
			w.facts[id] = all
		}
		if d := evaluate(t, compile(t, head+rule), "https://example.org/app.git#v1", w); d.Allowed != want || !want && d.Reasons[0].Code != "POLICY_DENIED" {
			t.Errorf("%s: %+v", rule, d.Decision)
		}
	}
}

func pgpKey(t *testing.T) (*openpgp.Entity, string) {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return noon.Add(-24 * time.Hour) }}
	e, err := openpgp.NewEntity("Ann", "", "ann@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, openpgp.PublicKeyType, nil)
	if err == nil {
		err = e.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return e, buf.String() + "\n"
}

func TestVerifyHTTPSignature(t *testing.T) {
	t.Parallel()
	const body = "the file\n"
	e, public := pgpKey(t)
	_, stranger := pgpKey(t)
	for name, algorithm := range map[string]struct {
		hash crypto.Hash
		make func() hash.Hash
	}{"sha256": {crypto.SHA256, sha256.New}, "sha384": {crypto.SHA384, sha512.New384}, "sha512": {crypto.SHA512, sha512.New}} {
		var buf bytes.Buffer
		config := &packet.Config{DefaultHash: algorithm.hash, Time: func() time.Time { return noon.Add(-time.Hour) }}
		if err := openpgp.ArmoredDetachSign(&buf, e, strings.NewReader(body), config); err != nil {
			t.Fatal(err)
		}
		sig := buf.String() + "\n"
		parsed, err := git.ParseDetached([]byte(sig))
		if err != nil || parsed.Algorithm() != name {
			t.Fatal(parsed, err)
		}
		sum := func(body string) evidence.Digest {
			h := algorithm.make()
			h.Write([]byte(body))
			h.Write(parsed.Suffix())
			return evidence.Digest(name + ":" + hexOf(h.Sum(nil)))
		}
		ask := sourcepolicy.Ask{Fact: sourcepolicy.HTTPDigest, Algorithm: name, Suffix: parsed.Suffix()}
		resolve := func(body string) *world {
			return &world{t: t, facts: map[string]sourcepolicy.Facts{"https://example.org/f": {Digests: map[string]evidence.Digest{ask.Key(): sum(body)}}}}
		}
		rule := head + `allow if verify_http_pgp_signature(input.http, "f.asc", "keys.asc")`
		if d := evaluate(t, compile(t, rule, "f.asc", sig, "keys.asc", public), "https://example.org/f", resolve(body)); !d.Allowed {
			t.Errorf("%s: %+v", name, d.Reasons[0].Hint)
		}
		if d := evaluate(t, compile(t, rule, "f.asc", sig, "keys.asc", public), "https://example.org/f", resolve(body+" ")); d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" || d.Reasons[0].Hint == "" {
			t.Errorf("%s, another body: %+v", name, d.Decision)
		}
		if d := evaluate(t, compile(t, rule, "f.asc", sig, "keys.asc", stranger), "https://example.org/f", resolve(body)); d.Allowed || d.Reasons[0].Code != "POLICY_DENIED" {
			t.Errorf("%s, a stranger's key: %+v", name, d.Decision)
		}
		if d := evaluate(t, compile(t, rule, "f.asc", sig, "keys.asc", public), "https://example.org/f", nil); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s, no answer: %+v", name, d.Decision)
		}
		for what, files := range map[string][]string{
			"no signature": {"keys.asc", public}, "no keys": {"f.asc", sig}, "broken": {"f.asc", sig[:len(sig)/2], "keys.asc", public}, "key as signature": {"f.asc", public, "keys.asc", public},
		} {
			if d := evaluate(t, compile(t, rule, files...), "https://example.org/f", resolve(body)); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" {
				t.Errorf("%s, %s: %+v", name, what, d.Decision)
			}
		}
	}
}

func hexOf(b []byte) string { return evidence.Digest("x:" + strings.ToLower(hexString(b))).Hex() }

func hexString(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func builderSignature(repo, ref string) *sourcepolicy.Signature {
	return &sourcepolicy.Signature{
		Kind: "docker-github-builder", Type: "bundle-v0.3", Timestamps: []sourcepolicy.Timestamp{{Type: "Tlog", Timestamp: noon}},
		Signer: &sourcepolicy.Signer{
			CertificateIssuer: "CN=sigstore-intermediate,O=sigstore.dev", Issuer: "https://token.actions.githubusercontent.com",
			RunnerEnvironment: "github-hosted", SourceRepositoryURI: "https://github.com/" + repo, SourceRepositoryRef: ref,
		},
	}
}

func TestAttestationsOfDownloads(t *testing.T) {
	t.Parallel()
	const url = "https://github.com/org/app/releases/download/v1/app.tar.gz"
	bundle := sourcepolicy.Ask{Fact: sourcepolicy.BundleSignature, Digest: digest1, Bundle: []byte("{}")}
	github := sourcepolicy.Ask{Fact: sourcepolicy.GitHubAttestation, Digest: digest1, Repo: "org/app"}
	good := builderSignature("org/app", "refs/tags/v1")
	world := func(sig *sourcepolicy.Signature) *world {
		return &world{t: t, facts: map[string]sourcepolicy.Facts{url: {Checksum: digest1, Found: map[string]*sourcepolicy.Signature{bundle.Key(): sig, github.Key(): sig}}}}
	}
	for rule, want := range map[string]bool{
		`allow if docker_github_builder_bundle(input.http, "app.sigstore.json", "org/app")`:                           true,
		`allow if docker_github_builder_bundle(input.http, "app.sigstore.json", "org/other")`:                         false,
		`allow if artifact_attestation(input.http, "app.sigstore.json").signer.sourceRepositoryRef == "refs/tags/v1"`: true,
		`allow if github_release_attestation(input.http).signer.sourceRepositoryRef == "refs/tags/v1"`:                true,
		`allow if docker_github_builder_signature(github_release_attestation(input.http), "org/app")`:                 true,
		`allow if docker_github_builder_signature(github_attestation(input.http, "org/app"), "org/app")`:              true,
		`allow if github_attestation(input.http, "org/app").signer.sourceRepositoryRef == "refs/tags/v2"`:             false,
	} {
		s := compile(t, head+rule, "app.sigstore.json", "{}")
		if d := evaluate(t, s, url, world(good)); d.Allowed != want {
			t.Errorf("%s: %+v", rule, d.Decision)
		}
		if d := evaluate(t, s, url, world(nil)); d.Allowed {
			t.Errorf("%s, without a signature: %+v", rule, d.Decision)
		}
		if d := evaluate(t, s, url, nil); d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
			t.Errorf("%s, without an answer: %+v", rule, d.Decision)
		}
	}
	for _, repo := range []string{"org", "org/app/more", "../app", "org/..", "org/.", "org/a?b", "", "org/app#"} {
		if d := evaluate(t, compile(t, head+`allow if github_attestation(input.http, "`+repo+`")`), url, world(good)); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" {
			t.Errorf("%q: %+v", repo, d.Decision)
		}
	}
	for _, near := range []string{
		"http://github.com/org/app/releases/download/v1/app.tar.gz", "https://github.com.example.org/org/app/releases/download/v1/a",
		"https://github.com/org/app/releases/v1/app.tar.gz", "https://github.com/org/app/archive/refs/tags/v1.tar.gz", "https://github.com/org/app/releases/download/v1/",
	} {
		w := world(good)
		w.facts[near] = w.facts[url]
		if d := evaluate(t, compile(t, head+`allow if github_release_attestation(input.http)`), near, w); d.Allowed {
			t.Errorf("%s is no release: %+v", near, d.Decision)
		}
	}
}

func TestDockerGitHubBuilder(t *testing.T) {
	t.Parallel()
	whole := "package docker\ndecision := {\"allow\": allow}\ndefault allow := false\nallow if input.local\nallow if docker_github_builder_tag(input.image, \"org/app\", input.image.tag)"
	resolve := func(change func(*sourcepolicy.Facts, *sourcepolicy.Signature)) *world {
		f, sig := image(), builderSignature("org/app", "refs/tags/v1")
		change(&f, sig)
		f.Signatures = &[]sourcepolicy.Signature{*sig}
		return &world{t: t, facts: map[string]sourcepolicy.Facts{"docker-image://docker.io/org/app:v1": f}}
	}
	s := compile(t, whole)
	if d := evaluate(t, s, "org/app:v1", resolve(func(*sourcepolicy.Facts, *sourcepolicy.Signature) {})); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	no := false
	for name, change := range map[string]func(*sourcepolicy.Facts, *sourcepolicy.Signature){
		"no provenance":      func(f *sourcepolicy.Facts, _ *sourcepolicy.Signature) { f.Attested = &no },
		"another tag":        func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.SourceRepositoryRef = "refs/tags/v2" },
		"a branch":           func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.SourceRepositoryRef = "refs/heads/v1" },
		"another repository": func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.SourceRepositoryURI += "x" },
		"another kind":       func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Kind = "self-signed" },
		"another format":     func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Type = "simplesigning-v1" },
		"another issuer":     func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.Issuer = "https://example.org" },
		"another CA":         func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.CertificateIssuer = "CN=x" },
		"own runner":         func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer.RunnerEnvironment = "self-hosted" },
		"no time":            func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Timestamps = nil },
		"no signer":          func(_ *sourcepolicy.Facts, s *sourcepolicy.Signature) { s.Signer = nil },
	} {
		if d := evaluate(t, s, "org/app:v1", resolve(change)); d.Allowed {
			t.Errorf("%s: allowed", name)
		}
	}
	// The tag and the builder must be one signature's.
	w := resolve(func(*sourcepolicy.Facts, *sourcepolicy.Signature) {})
	f := w.facts["docker-image://docker.io/org/app:v1"]
	right, wrong := builderSignature("org/app", "refs/tags/v2"), builderSignature("org/app", "refs/tags/v1")
	wrong.Kind = "untrusted"
	f.Signatures = &[]sourcepolicy.Signature{*right, *wrong}
	w.facts["docker-image://docker.io/org/app:v1"] = f
	if d := evaluate(t, s, "org/app:v1", w); d.Allowed {
		t.Error("two halves of two signatures made one")
	}
}

// TestReadFiles: what a policy read while it decided is named, and stays what it was.
func TestReadFiles(t *testing.T) {
	t.Parallel()
	folder := fstest.MapFS{"a.json": {Data: []byte(`["docker.io"]`)}, "b.json": {Data: []byte(`1`)}, "big.json": {Data: []byte("\"" + strings.Repeat("x", 200<<10) + "\"")}}
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "p.rego", Data: []byte(`package docker
decision := {"allow": allow}
default allow := false
allow if { input.image; input.image.host in load_json("a.json") }
allow if { input.git; not load_json("gone.json") }
allow if { input.http.schema == "http"; load_json("big.json"); verify_http_pgp_signature(input.http, "a.json", "big.json") }`)}}, sourcepolicy.Options{FS: folder})
	if err != nil {
		t.Fatal(err)
	}
	s := sourcepolicy.NewSet(p)
	if d := evaluate(t, s, ".", nil); d.Allowed || len(p.Read()) != 0 {
		t.Errorf("%+v %v", d.Decision, p.Read())
	}
	if d := evaluate(t, s, "alpine:3", nil); !d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
	want := []sourcepolicy.ReadFile{{Name: "a.json", Digest: evidence.SHA256([]byte(`["docker.io"]`))}}
	if got := p.Read(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	folder["a.json"] = &fstest.MapFile{Data: []byte(`[]`)}
	if d := evaluate(t, s, "alpine:3", nil); !d.Allowed || !slices.Equal(p.Read(), want) {
		t.Errorf("another list is used than the one that is named: %+v %v", d.Decision, p.Read())
	}
	// What is not there denies, and is not named.
	if d := evaluate(t, s, "https://example.org/a.git", nil); d.Allowed || !slices.Equal(p.Read(), want) {
		t.Errorf("%+v %v", d.Decision, p.Read())
	}
	// A limit holds also for what was read under a larger one.
	if d := evaluate(t, s, "http://example.org/a", nil); d.Allowed {
		t.Errorf("%+v", d.Decision)
	}
}
