package build

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	distribution "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const testCommit = "1111111111111111111111111111111111111111"

// pushed is a registry to which a test pushes as a daemon would that it invents.
type pushed struct {
	t *testing.T
	r Request
}

func newPushed(t *testing.T) *pushed {
	t.Helper()
	server, err := distribution.Open(t.TempDir(), distribution.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	ref, err := registry.ParseRef(strings.TrimPrefix(srv.URL, "http://") + "/app/x:1")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return &pushed{t, Request{Image: ref, Repo: repo, Context: Context{Commit: testCommit, When: time.Unix(0, 0)}}}
}

func (p *pushed) blob(mediaType, text string) ocispec.Descriptor {
	p.t.Helper()
	d, err := p.r.Repo.PushBlob(p.t.Context(), mediaType, []byte(text))
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (p *pushed) manifest(mediaType string, v any) ocispec.Descriptor {
	p.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	d := registry.Describe(mediaType, data)
	if err := p.r.Repo.PushManifest(p.t.Context(), d, data, ""); err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (p *pushed) image(name string) ocispec.Descriptor {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: p.blob(ocispec.MediaTypeImageConfig, "{}"), Annotations: map[string]string{"n": name}}
	m.SchemaVersion = 2
	d := p.manifest(ocispec.MediaTypeImageManifest, m)
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: name}
	return d
}

// statement is a provenance of an image, with one thing replaced.
func statement(about ocispec.Descriptor, old, new string) string {
	return strings.Replace(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"digest":{"sha256":"`+about.Digest.Encoded()+`"}}],"predicateType":"`+evidence.PredicateSLSA1+
		`","predicate":{"runDetails":{"builder":{"id":"`+DefaultBuilderID+`"},"metadata":{"buildkit_metadata":{"vcs":{"revision":"`+testCommit+`"}}}}}}`, old, new, 1)
}

func (p *pushed) attestation(about ocispec.Descriptor, predicateType string, statements ...string) ocispec.Descriptor {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: p.blob(ocispec.MediaTypeImageConfig, "{}")}
	m.SchemaVersion = 2
	for _, s := range statements {
		l := p.blob("application/vnd.in-toto+json", s)
		l.Annotations = map[string]string{annotationPredicate: predicateType}
		m.Layers = append(m.Layers, l)
	}
	d := p.manifest(ocispec.MediaTypeImageManifest, m)
	d.Annotations = map[string]string{annotationRefType: attestationType, annotationRefDigest: about.Digest.String()}
	return d
}

func (p *pushed) readBack(manifests ...ocispec.Descriptor) error {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	index.SchemaVersion = 2
	_, err := readBack(p.t.Context(), p.r, p.manifest(ocispec.MediaTypeImageIndex, index).Digest.String())
	return err
}

// TestReadBack: what is signed is exactly what was asked for: each image with one
// provenance, which names it, our builder and the commit.
func TestReadBack(t *testing.T) {
	t.Parallel()
	p := newPushed(t)
	a, b := p.image("amd64"), p.image("arm64")
	slsa := evidence.PredicateSLSA1
	of := func(d ocispec.Descriptor) ocispec.Descriptor { return p.attestation(d, slsa, statement(d, "", "")) }
	if err := p.readBack(a, b, of(a), of(b)); err != nil {
		t.Fatal(err)
	}
	nowhere := a
	nowhere.Platform = nil
	for name, tc := range map[string]struct {
		manifests []ocispec.Descriptor
		want      string
	}{
		"no provenance":       {[]ocispec.Descriptor{a}, "1 images with 0"},
		"of one image only":   {[]ocispec.Descriptor{a, b, of(a), p.attestation(a, slsa, statement(a, "", "")+" ")}, "has one already"},
		"of another image":    {[]ocispec.Descriptor{a, of(b)}, "not in the index"},
		"about another image": {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(b, "", ""))}, "it is not about"},
		"other builder":       {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(a, DefaultBuilderID, "https://github.com/other"))}, "it names builder"},
		"other commit":        {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(a, testCommit, strings.Repeat("2", 40)))}, "it names commit"},
		"no commit":           {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(a, "revision", "other"))}, "it names commit"},
		"two provenances":     {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(a, "", ""), statement(a, "", "")+" ")}, "holds 2 statements"},
		"second is forged":    {[]ocispec.Descriptor{a, p.attestation(a, slsa, statement(a, "", ""), statement(a, testCommit, strings.Repeat("2", 40)))}, "it names commit"},
		"hidden provenance":   {[]ocispec.Descriptor{a, p.attestation(a, "https://x.example/y", statement(a, "", ""))}, "is annotated as"},
		"none in it":          {[]ocispec.Descriptor{a, p.attestation(a, slsa)}, "holds 0 statements"},
		"no JSON":             {[]ocispec.Descriptor{a, p.attestation(a, slsa, "provenance")}, "invalid character"},
		"no platform":         {[]ocispec.Descriptor{nowhere, of(a)}, "for which platform"},
	} {
		if err := p.readBack(tc.manifests...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	p.r.Context.GitURL = "https://git.example/app.git"
	if err := p.readBack(a, of(a)); err == nil || !strings.Contains(err.Error(), "its configSource") {
		t.Errorf("built from something else than the git source: %v", err)
	}
	p.r.Context.GitURL, p.r.Sources = "", &SourcePolicies{}
	if err := p.readBack(a, of(a)); err == nil || !strings.Contains(err.Error(), "it names the source policies") {
		t.Errorf("other policies were asked: %v", err)
	}
}

// TestFetchesGit: what BuildKit would not fetch with git it would fetch as a file,
// whose content no commit pins.
func TestFetchesGit(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"https://github.com/org/app.git": true, "http://127.0.0.1:80/x/.git": true,
		"https://github.com/org/app": false, "https://github.com/org/app.git/": false, "https://github.com/org/app?x=.git": false,
		"https://github.com/org/app#.git": false, "https://h/app%2egit": false, "https://h/a%2Fb.git": false,
		"ssh://git@github.com/org/app.git": false, "": false, "app.git": false,
	} {
		if FetchesGit(url) != want {
			t.Errorf("FetchesGit(%q) = %v", url, !want)
		}
		if r := (Request{Context: Context{GitURL: url}}); url != "" && !want {
			if _, err := r.solveOpt(r.push()); err == nil || !strings.Contains(err.Error(), "git repository") {
				t.Errorf("%q would be asked for: %v", url, err)
			}
		}
	}
}
