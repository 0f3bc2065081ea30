package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	server "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// start serves our real registry through wrap and returns host:port.
func start(t *testing.T, cfg server.Config, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	s, err := server.Open(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = s
	if wrap != nil {
		h = wrap(s)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(func() { ts.Close(); s.Close() })
	return strings.TrimPrefix(ts.URL, "http://")
}

// noReferrersAPI is a registry from before distribution-spec 1.1.
func noReferrersAPI(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(&dropSubjectHeader{ResponseWriter: w}, r)
	})
}

// noSubjectHeader has the referrers API but does not say so at the push.
func noSubjectHeader(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&dropSubjectHeader{ResponseWriter: w}, r)
	})
}

type dropSubjectHeader struct{ http.ResponseWriter }

func (w *dropSubjectHeader) WriteHeader(code int) {
	w.Header().Del("OCI-Subject")
	w.ResponseWriter.WriteHeader(code)
}

// counting counts requests by "METHOD what".
type counting struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counting) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := "other"
		for _, s := range []string{"manifests", "blobs/uploads", "blobs", "referrers"} {
			if strings.Contains(r.URL.Path, "/"+s+"/") {
				what = s
				break
			}
		}
		c.mu.Lock()
		if c.n == nil {
			c.n = map[string]int{}
		}
		c.n[r.Method+" "+what]++
		c.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

func open(t *testing.T, ref string, opts registry.Options) (*registry.Repository, registry.Ref) {
	t.Helper()
	r, err := registry.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(opts).Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return repo, r
}

// pushImage pushes a minimal image and returns its descriptor.
func pushImage(t *testing.T, repo *registry.Repository, tag, salt string) ocispec.Descriptor {
	t.Helper()
	ctx := t.Context()
	if _, err := repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: ocispec.Index{}.Versioned, MediaType: ocispec.MediaTypeImageManifest,
		Config: ociartifact.EmptyConfigDescriptor(), Layers: []ocispec.Descriptor{},
		Annotations: map[string]string{"salt": salt},
	})
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	desc := registry.Describe(ocispec.MediaTypeImageManifest, data)
	if err := repo.PushManifest(ctx, desc, data, tag); err != nil {
		t.Fatal(err)
	}
	return desc
}

// attachBundle attaches a bundle-shaped artifact with the given content.
func attachBundle(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, content string) (ocispec.Descriptor, error) {
	if _, err := repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, err := repo.PushBlob(ctx, evidence.BundleMediaType, []byte(content))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, _, err := ociartifact.BundleManifest(subject, layer, evidence.PredicateSign, time.Unix(1795000000, 0))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return repo.Attach(ctx, subject, manifest)
}

func TestPushResolveFetch(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]string{
		"registry": start(t, server.Config{}, nil) + "/team/app:v1",
		"layout":   "oci:" + filepath.Join(t.TempDir(), "new", "dir") + ":v1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			repo, r := open(t, ref, registry.Options{})
			want := pushImage(t, repo, "v1", "a")
			got, err := repo.Resolve(ctx, r)
			if err != nil || got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType {
				t.Fatalf("resolve: %v, %v; want %v", got, err, want)
			}
			byDigest, err := repo.Resolve(ctx, r.WithDigest(evidence.Digest(want.Digest)))
			if err != nil || byDigest.Digest != want.Digest {
				t.Fatalf("resolve by digest: %v, %v", byDigest, err)
			}
			if _, err := repo.Manifest(ctx, ocispec.Descriptor{Digest: want.Digest, Size: want.Size}); err != nil {
				t.Fatalf("manifest without media type: %v", err)
			}
			blob := bytes.Repeat([]byte("x"), 100_000)
			desc := registry.Describe("application/octet-stream", blob)
			if err := repo.PushBlobFrom(ctx, desc, bytes.NewReader(blob)); err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Blob(ctx, desc, int64(len(blob))-1); err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("a blob above the limit: %v", err)
			}
			rc, err := repo.OpenBlob(ctx, desc)
			if err != nil {
				t.Fatal(err)
			}
			read, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(read, blob) {
				t.Errorf("open blob: %d bytes, %v", len(read), err)
			}
			_ = rc.Close()
			moved := pushImage(t, repo, "v1", "b")
			if got, err := repo.Resolve(ctx, r); err != nil || got.Digest != moved.Digest {
				t.Errorf("after the tag moved: %v, %v", got, err)
			}
			if tags, err := repo.Tags(ctx); err != nil || !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("tags %v, %v", tags, err)
			}
			missing := r
			missing.Tag = "v2"
			if _, err := repo.Resolve(ctx, missing); err == nil || !strings.HasSuffix(err.Error(), ":v2: no such tag or manifest") || fault.KindOf(err) != fault.Failure {
				t.Errorf("unknown tag: %v", err)
			}
			if err := repo.DeleteManifest(ctx, want); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := repo.Resolve(ctx, r.WithDigest(evidence.Digest(want.Digest))); err == nil {
				t.Error("the deleted manifest is still there")
			}
		})
	}
}

func TestAttachAndList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		how  string
	}{
		"api":            {nil, registry.HowAPI},
		"api, no header": {noSubjectHeader, registry.HowAPI},
		"no api":         {noReferrersAPI, registry.HowTag},
		"layout":         {nil, registry.HowLayout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ref := "oci:" + t.TempDir() + ":v1"
			if c.how != registry.HowLayout {
				ref = start(t, server.Config{}, c.wrap) + "/app:v1"
			}
			repo, _ := open(t, ref, registry.Options{})
			subject := pushImage(t, repo, "v1", "a")
			if list, err := repo.Referrers(ctx, subject); err != nil || len(list) != 0 {
				t.Fatalf("before: %v, %v", list, err)
			}
			var want []string
			for i := range 3 {
				d, err := attachBundle(ctx, repo, subject, fmt.Sprintf(`{"n":%d}`, i))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, d.Digest.String())
			}
			fresh, _ := open(t, ref, registry.Options{})
			list, err := fresh.Referrers(ctx, subject)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range list {
				got = append(got, r.Digest.String())
				if r.How != c.how || r.ArtifactType != evidence.BundleMediaType {
					t.Errorf("%s: found by %q as %q", r.Digest, r.How, r.ArtifactType)
				}
				if r.Annotations[ociartifact.AnnotationPredicateType] != evidence.PredicateSign {
					t.Errorf("%s: annotations %v", r.Digest, r.Annotations)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("listed %v, want %v", got, want)
			}
		})
	}
}

// Eight signers, each a process of its own as far as the registry can tell.
func TestConcurrentAttachLosesNothing(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(http.Handler) http.Handler{"api": nil, "no api": noReferrersAPI} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := start(t, server.Config{}, wrap) + "/app:v1"
			repo, _ := open(t, ref, registry.Options{})
			subject := pushImage(t, repo, "v1", "a")
			var g sync.WaitGroup
			for i := range 8 {
				g.Go(func() {
					own, _ := open(t, ref, registry.Options{})
					if _, err := attachBundle(t.Context(), own, subject, fmt.Sprintf(`{"n":%d}`, i)); err != nil {
						t.Error(err)
					}
				})
			}
			g.Wait()
			list, err := repo.Referrers(t.Context(), subject)
			if err != nil || len(list) != 8 {
				t.Errorf("%d of 8 listed, %v", len(list), err)
			}
		})
	}
}

// A stranger's tool overwrites the fallback tag with a list that lacks ours.
func TestFallbackTagSurvivesLostUpdate(t *testing.T) {
	t.Parallel()
	var puts atomic.Int32
	lostOnce := func(h http.Handler) http.Handler {
		return noReferrersAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-") && puts.Add(1) == 1 {
				body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
				again := httptest.NewRequest(http.MethodPut, r.URL.Path, strings.NewReader(body))
				again.Header.Set("Content-Type", ocispec.MediaTypeImageIndex)
				h.ServeHTTP(httptest.NewRecorder(), again)
			}
		}))
	}
	ref := start(t, server.Config{}, lostOnce) + "/app:v1"
	repo, _ := open(t, ref, registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	if _, err := attachBundle(t.Context(), repo, subject, `{}`); err != nil {
		t.Fatal(err)
	}
	if list, err := repo.Referrers(t.Context(), subject); err != nil || len(list) != 1 || puts.Load() != 2 {
		t.Errorf("%v, %v, written %d times", list, err, puts.Load())
	}
}

// The fallback tag is read beside an API that lists nothing, and only then: a
// listing is one request (THREATS.md says what that costs).
func TestFallbackTagBesideTheAPI(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	count := &counting{}
	repo, _ := open(t, start(t, server.Config{}, count.wrap)+"/app:v1", registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	old := pushImage(t, repo, "", "attached before the registry had the API")
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
		ocispec.MediaTypeImageIndex, old.MediaType, old.Size, old.Digest)
	if err := repo.PushManifest(ctx, registry.Describe(ocispec.MediaTypeImageIndex, index), index, "sha256-"+subject.Digest.Encoded()); err != nil {
		t.Fatal(err)
	}
	list, err := repo.Referrers(ctx, subject)
	if err != nil || len(list) != 1 || list[0].Digest != old.Digest || list[0].How != registry.HowTag {
		t.Errorf("the API lists nothing: %v, %v", list, err)
	}
	own, err := attachBundle(ctx, repo, subject, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	count.mu.Lock()
	count.n = nil
	count.mu.Unlock()
	list, err = repo.Referrers(ctx, subject)
	if err != nil || len(list) != 1 || list[0].Digest != own.Digest || list[0].How != registry.HowAPI {
		t.Errorf("the API lists one: %v, %v", list, err)
	}
	if diff := cmp.Diff(map[string]int{"GET referrers": 1}, count.n); diff != "" {
		t.Errorf("requests: %s", diff)
	}
}

// What others wrote into the fallback tag stays byte for byte.
func TestFallbackTagKeepsForeignEntries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	ref := start(t, server.Config{}, noReferrersAPI) + "/app:v1"
	repo, _ := open(t, ref, registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	other := pushImage(t, repo, "", "other")
	entry := fmt.Sprintf(`{"size":%d,"mediaType":%q,"digest":%q,"artifactType":"x/y","extra":{"b":1,"a":2}}`, other.Size, other.MediaType, other.Digest)
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + entry + `]}`)
	tag := "sha256-" + subject.Digest.Encoded()
	if err := repo.PushManifest(ctx, registry.Describe(ocispec.MediaTypeImageIndex, index), index, tag); err != nil {
		t.Fatal(err)
	}
	if _, err := attachBundle(ctx, repo, subject, `{}`); err != nil {
		t.Fatal(err)
	}
	_, r := open(t, strings.TrimSuffix(ref, ":v1")+":"+tag, registry.Options{})
	desc, err := repo.Resolve(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := repo.Manifest(ctx, desc)
	if err != nil || !bytes.Contains(data, []byte(entry)) {
		t.Errorf("%s, %v", data, err)
	}
	t.Run("a tag that is no list is not overwritten", func(t *testing.T) {
		image := pushImage(t, repo, "sha256-"+other.Digest.Encoded(), "taken")
		if _, err := attachBundle(ctx, repo, other, `{}`); err == nil || !strings.Contains(err.Error(), "no list of referrers") {
			t.Errorf("%v (%s)", err, image.Digest)
		}
	})
}

func TestRequestsOfAttach(t *testing.T) {
	t.Parallel()
	var c counting
	repo, _ := open(t, start(t, server.Config{}, c.wrap)+"/app:v1", registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	c.mu.Lock()
	c.n = nil
	c.mu.Unlock()
	if _, err := attachBundle(t.Context(), repo, subject, `{"n":1}`); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"POST blobs/uploads": 1, "PUT blobs/uploads": 1, "PUT manifests": 1}
	if fmt.Sprint(c.n) != fmt.Sprint(want) {
		t.Errorf("requests %v, want %v", c.n, want)
	}
}

func TestTooManyReferrers(t *testing.T) {
	t.Parallel()
	flood := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				h.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			var list []ocispec.Descriptor
			for i := range registry.MaxReferrers + 5 {
				list = append(list, registry.Describe(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, "%d", i)))
			}
			_ = json.NewEncoder(w).Encode(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
		})
	}
	repo, _ := open(t, start(t, server.Config{}, flood)+"/app:v1", registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	list, err := repo.Referrers(t.Context(), subject)
	var many *registry.TooManyReferrersError
	if len(list) != registry.MaxReferrers || !errors.As(err, &many) {
		t.Errorf("%d listed, %v", len(list), err)
	}
}

// onePerPage answers the referrers API with one entry on each page, as large
// annotations make a registry do.
func onePerPage(n int) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				h.ServeHTTP(w, r)
				return
			}
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			if page+1 < n {
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, page+1))
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":2,"digest":%q}]}`,
				ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, evidence.SHA256([]byte(strconv.Itoa(page))))
		})
	}
}

// Pages that do not end hide nothing of what the first ones listed.
func TestTooManyPagesOfReferrers(t *testing.T) {
	t.Parallel()
	repo, _ := open(t, start(t, server.Config{}, onePerPage(1<<30))+"/app:v1", registry.Options{})
	list, err := repo.Referrers(t.Context(), registry.Describe(ocispec.MediaTypeImageManifest, []byte("{}")))
	var many *registry.TooManyReferrersError
	if !errors.As(err, &many) || len(list) != 100 || many.Listed != 100 {
		t.Errorf("%d listed, %v", len(list), err)
	}
}
