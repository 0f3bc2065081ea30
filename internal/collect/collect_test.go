package collect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	server "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// A bundle as cosign v3.1.3 wrote it with a key and without a log.
const cosignBundle = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial":{"publicKey":{"hint":"xFgMfCP3pHhpt0cDFokoHIjZoGRapYbN3+t/8CEvAIk="}}, "dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCAic3ViamVjdCI6W3siZGlnZXN0Ijp7InNoYTI1NiI6IjFjY2IzOTllNDRmM2UwZWM4NmJiMWE5NTAzMWM2YjlmODFhYzc3ODYwNTU2YTgxYTkwYWNiNzliYWI4MDA1ZDkifSwgImFubm90YXRpb25zIjp7fX1dLCAicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwgInByZWRpY2F0ZSI6e319", "payloadType":"application/vnd.in-toto+json", "signatures":[{"sig":"MEYCIQDi5wEjXzRdWTpu1WH1NNsyywDC2pygLJkPt0JprFPFpgIhANi2kNIDKgdIyvhmUsZFpRZuHyrv74iWwHhg3nECROpE"}]}}`

const claimedKey = "sha256:c4580c7c23f7a47869b747031689281c88d9a0645aa586cddfeb7ff0212f0089"

// place is a registry and what tests do with it.
type place struct {
	t    *testing.T
	ref  registry.Ref
	repo *registry.Repository

	mu       sync.Mutex
	requests map[string]int // "GET manifests/<digest>"
	fault    func(http.Handler, http.ResponseWriter, *http.Request)
}

func newPlace(t *testing.T) *place {
	t.Helper()
	s, err := server.Open(t.TempDir(), server.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, requests: map[string]int{}}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v2/app/")]++
		fault := p.fault
		p.mu.Unlock()
		if fault != nil {
			fault(s, w, r)
			return
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { ts.Close(); s.Close() })
	p.open(strings.TrimPrefix(ts.URL, "http://") + "/app:v1")
	return p
}

func (p *place) open(ref string) {
	p.t.Helper()
	r, err := registry.ParseRef(ref)
	if err != nil {
		p.t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.ref, p.repo = r, repo
}

// manifest pushes a manifest given as Go values, with its layers' content.
func (p *place) manifest(m ocispec.Manifest, tag string, layers ...string) ocispec.Descriptor {
	p.t.Helper()
	ctx := p.t.Context()
	if _, err := p.repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		p.t.Fatal(err)
	}
	for i, content := range layers {
		d, err := p.repo.PushBlob(ctx, m.Layers[i].MediaType, []byte(content))
		if err != nil {
			p.t.Fatal(err)
		}
		d.Annotations = m.Layers[i].Annotations
		m.Layers[i] = d
	}
	m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
	if m.Config.Digest == "" {
		mediaType := m.Config.MediaType
		m.Config = ociartifact.EmptyConfigDescriptor()
		if mediaType != "" {
			m.Config.MediaType = mediaType
		}
	}
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	return p.push(m, m.MediaType, m.Subject, tag)
}

func (p *place) push(m any, mediaType string, subject *ocispec.Descriptor, tag string) ocispec.Descriptor {
	p.t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	desc := registry.Describe(mediaType, data)
	if subject != nil && tag == "" {
		desc, err = p.repo.Attach(p.t.Context(), *subject, data)
	} else {
		err = p.repo.PushManifest(p.t.Context(), desc, data, tag)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return desc
}

func (p *place) image(tag string) ocispec.Descriptor {
	return p.manifest(ocispec.Manifest{Annotations: map[string]string{"for": p.t.Name()}}, tag)
}

// bundle attaches a bundle with any content the way cosign does.
func (p *place) bundle(subject ocispec.Descriptor, content string) ocispec.Descriptor {
	p.t.Helper()
	layer, err := p.repo.PushBlob(p.t.Context(), evidence.BundleMediaType, []byte(content))
	if err != nil {
		p.t.Fatal(err)
	}
	manifest, _, err := ociartifact.BundleManifest(subject, layer, evidence.PredicateSign, time.Unix(1795000000, 0))
	if err != nil {
		p.t.Fatal(err)
	}
	desc, err := p.repo.Attach(p.t.Context(), subject, manifest)
	if err != nil {
		p.t.Fatal(err)
	}
	return desc
}

func (p *place) collect(subject ocispec.Descriptor, opts collect.Options) map[string]collect.Item {
	p.t.Helper()
	items, err := collect.Image(p.t.Context(), p.repo, subject, opts)
	if err != nil {
		p.t.Fatal(err)
	}
	byDigest := map[string]collect.Item{}
	for _, it := range items {
		byDigest[it.Manifest.Digest.String()] = it
	}
	return byDigest
}

func TestImageReadsABundleOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	signature := p.bundle(subject, cosignBundle)
	p.requests = map[string]int{}
	it := p.collect(subject, collect.Options{})[signature.Digest.String()]
	if it.Err != nil || it.Note != "" || it.Claim == nil {
		t.Fatalf("%+v", it)
	}
	if it.Format != string(evidence.FormatBundle03) || it.PredicateType != evidence.PredicateSign || it.Created.Unix() != 1795000000 ||
		it.Size != int64(len(cosignBundle)) || it.ArtifactType != evidence.BundleMediaType {
		t.Errorf("%+v", it)
	}
	if it.Where.How != registry.HowAPI || it.Where.Ref != p.ref.Name()+"@"+signature.Digest.String() || it.Where.Size != signature.Size {
		t.Errorf("where %+v", it.Where)
	}
	total := 0
	for what, n := range p.requests {
		total += n
		if n > 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if total != 3 {
		t.Errorf("%d requests, want a listing, a manifest and a blob: %v", total, p.requests)
	}
}

// Registries report cosign's bundles under the config's media type: what the
// manifest says counts, not the listing.
func TestImageIgnoresTheListedArtifactType(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	signature := p.bundle(subject, cosignBundle)
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := strings.ReplaceAll(rec.Body.String(), `"artifactType":"`+evidence.BundleMediaType+`"`, `"artifactType":"application/vnd.oci.empty.v1+json"`)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprint(w, body)
	}
	it := p.collect(subject, collect.Options{})[signature.Digest.String()]
	if it.Claim == nil || it.ArtifactType != evidence.BundleMediaType {
		t.Errorf("%+v", it)
	}
}

// Whoever may push can attach anything; none of it hides the good signature.
func TestImageWithHostileReferrers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	other := p.manifest(ocispec.Manifest{Annotations: map[string]string{"another": "image"}}, "other")
	bundleLayers := func(n int) []ocispec.Descriptor {
		return slices.Repeat([]ocispec.Descriptor{{MediaType: evidence.BundleMediaType}}, n)
	}
	want := map[string]string{ // digest -> part of the error
		p.bundle(subject, "null").Digest.String():                                           "",
		p.bundle(subject, "{").Digest.String():                                              "",
		p.bundle(subject, cosignBundle[:len(cosignBundle)/2]).Digest.String():               "",
		p.bundle(subject, strings.Replace(cosignBundle, "v0.3", "v9.9", 1)).Digest.String(): "",
		p.bundle(subject, strings.Repeat("[", 100000)).Digest.String():                      "",
		p.bundle(subject, cosignBundle+strings.Repeat(" ", 5000)).Digest.String():           "at most",
		p.manifest(ocispec.Manifest{Subject: &subject, Layers: bundleLayers(2), ArtifactType: evidence.BundleMediaType}, "", cosignBundle, cosignBundle).Digest.String(): "2 bundles",
		p.manifest(ocispec.Manifest{Subject: &subject, ArtifactType: evidence.BundleMediaType}, "").Digest.String():                                                      "0 bundles",
	}
	good := p.bundle(subject, cosignBundle)
	stray := p.bundle(other, cosignBundle)
	gone := registry.Describe(ocispec.MediaTypeImageManifest, []byte("never pushed"))
	want[stray.Digest.String()] = "names another subject"
	want[gone.Digest.String()] = "no such tag or manifest"
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var index ocispec.Index
		if err := json.Unmarshal(rec.Body.Bytes(), &index); err != nil {
			t.Error(err)
		}
		index.Manifests = append([]ocispec.Descriptor{gone, stray, {Digest: "sha256:zz", Size: -1}}, index.Manifests...)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(index)
	}
	items := p.collect(subject, collect.Options{MaxBundle: int64(len(cosignBundle)) + 4000})
	if it := items[good.Digest.String()]; it.Claim == nil || it.Err != nil {
		t.Errorf("the good signature: %+v", it)
	}
	for digest, text := range want {
		it, ok := items[digest]
		if !ok || it.Err == nil || it.Claim != nil || !strings.Contains(it.Err.Error(), text) {
			t.Errorf("%s: %+v, want an error with %q", digest, it, text)
		}
	}
	if len(items) != len(want)+1 {
		t.Errorf("%d items, want %d", len(items), len(want)+1)
	}
}

// Large junk cannot use up the room that small signatures need.
func TestImageReadsSmallBundlesFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	for i := range 3 {
		p.bundle(subject, cosignBundle+strings.Repeat(" ", 50_000+i))
	}
	good := p.bundle(subject, cosignBundle)
	items := p.collect(subject, collect.Options{MaxTotal: 100_000})
	over := 0
	for _, it := range items {
		if it.Err != nil && strings.Contains(it.Err.Error(), "all bundles of one image together") {
			over++
		}
	}
	if items[good.Digest.String()].Claim == nil || over != 2 {
		t.Errorf("the small one %+v, %d left out", items[good.Digest.String()], over)
	}
}

// A listing of large manifests is not fetched as a whole, and small ones first.
func TestImageReadsSmallManifestsFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	good := p.bundle(subject, cosignBundle)
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			h.ServeHTTP(w, r)
			return
		}
		var index ocispec.Index
		index.SchemaVersion, index.MediaType = 2, ocispec.MediaTypeImageIndex
		for i := range 20 {
			large := registry.Describe(ocispec.MediaTypeImageManifest, fmt.Append(nil, i))
			large.Size = 4 << 20
			index.Manifests = append(index.Manifests, large)
		}
		index.Manifests = append(index.Manifests, good)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(index)
	}
	items := p.collect(subject, collect.Options{})
	over := 0
	for _, it := range items {
		if it.Err != nil && strings.Contains(it.Err.Error(), "more than is read") {
			over++
		}
	}
	if items[good.Digest.String()].Claim == nil || over != 5 {
		t.Errorf("the good signature %+v, %d left out", items[good.Digest.String()], over)
	}
}

func TestImageReportsTooManyReferrers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	for i := range 4 {
		p.bundle(subject, cosignBundle+strings.Repeat(" ", i))
	}
	items, err := collect.Image(t.Context(), p.repo, subject, collect.Options{MaxReferrers: 3})
	var many *registry.TooManyReferrersError
	if err != nil || len(items) != 4 || !errors.As(items[3].Err, &many) {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func TestImageListsOtherFormats(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	one := func(mediaType string) []ocispec.Descriptor { return []ocispec.Descriptor{{MediaType: mediaType}} }
	inToto := []ocispec.Descriptor{{MediaType: "application/vnd.in-toto+json", Annotations: map[string]string{"in-toto.io/predicate-type": evidence.PredicateSLSA1}}}
	tag := "sha256-" + subject.Digest.Encoded()
	want := map[string]string{
		p.manifest(ocispec.Manifest{Subject: &subject, Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.notary.signature"}, Layers: one("application/cose")}, "", "c").Digest.String(): collect.FormatNotary,
		p.manifest(ocispec.Manifest{Subject: &subject, ArtifactType: "application/vnd.cncf.notary.signature", Layers: one("application/jose+json")}, "", "j").Digest.String():                     collect.FormatNotary,
		p.manifest(ocispec.Manifest{Subject: &subject, ArtifactType: "application/vnd.docker.attestation.manifest.v1+json", Layers: inToto}, "", "i").Digest.String():                             collect.FormatBuildKit,
		p.manifest(ocispec.Manifest{Subject: &subject, ArtifactType: "application/spdx+json", Layers: one("application/spdx+json")}, "", "s").Digest.String():                                     collect.FormatOther,
		p.manifest(ocispec.Manifest{Layers: one("text/plain")}, tag+".sig", "x").Digest.String():                                                                                                  collect.FormatCosignSignature,
		p.manifest(ocispec.Manifest{Layers: one("text/html")}, tag+".att", "y").Digest.String():                                                                                                   collect.FormatCosignAttestation,
		p.manifest(ocispec.Manifest{Layers: one("text/spdx+json")}, tag+".sbom", "z").Digest.String():                                                                                             collect.FormatCosignSBOM,
	}
	items := p.collect(subject, collect.Options{})
	for digest, format := range want {
		it := items[digest]
		broken := format == collect.FormatNotary // these envelopes hold one letter
		if it.Format != format || (it.Note == "") != broken || (it.Err != nil) != broken || it.Claim != nil {
			t.Errorf("%s: %+v, want format %s", digest, it, format)
		}
		switch format {
		case collect.FormatBuildKit:
			if len(it.Statements) != 1 || it.Statements[0].PredicateType != evidence.PredicateSLSA1 {
				t.Errorf("statements %+v", it.Statements)
			}
		case collect.FormatCosignAttestation:
			if it.Where.How != collect.HowLegacyTag || !strings.Contains(it.Note, "under a tag of cosign's") {
				t.Errorf("%+v", it)
			}
		}
	}
	if len(items) != len(want) {
		t.Errorf("%d items, want %d", len(items), len(want))
	}
}

// A registry that fails half-way is not the same as a broken signature.
func TestImageTellsUnreachableFromMalformed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	p.bundle(subject, "{")
	lost := p.bundle(subject, cosignBundle)
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, lost.Digest.String()) {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}
	var bad *collect.MalformedError
	for digest, it := range p.collect(subject, collect.Options{}) {
		isLost := digest == lost.Digest.String()
		if isLost == errors.As(it.Err, &bad) || isLost != (fault.KindOf(it.Err) == fault.Unreachable) {
			t.Errorf("lost %v: %v", isLost, it.Err)
		}
	}
}

func TestImageIsCancelled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	p.bundle(subject, cosignBundle)
	ctx, cancel := context.WithCancel(t.Context())
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			cancel()
		}
		h.ServeHTTP(w, r)
	}
	if _, err := collect.Image(ctx, p.repo, subject, collect.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	bad := filepath.Join(dir, "bad.json")
	for file, data := range map[string]string{good: cosignBundle, bad: cosignBundle + "{}"} {
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	it, err := collect.File(good)
	if err != nil || it.Claim == nil || it.Where.How != "file" || it.Where.Digest != evidence.SHA256([]byte(cosignBundle)) {
		t.Errorf("%+v, %v", it, err)
	}
	var malformed *collect.MalformedError
	if _, err := collect.File(bad); !errors.As(err, &malformed) || !strings.Contains(err.Error(), bad) {
		t.Errorf("%v", err)
	}
	if _, err := collect.File(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || errors.As(err, &malformed) {
		t.Errorf("%v", err)
	}
}
