package registry_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// flippedBits answers GETs of manifests and blobs with one bit changed.
func flippedBits(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	})
}

// answering answers everything with one status and a body of the registry's kind.
func answering(status int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"errors":[{"code":"TOOMANY","message":"bad\u001b[31m day"}]}`)
		})
	}
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

func TestErrors(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	_ = closed.Close()
	tlsServer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsServer.Close)
	for name, c := range map[string]struct {
		host string
		opts registry.Options
		kind fault.Kind
		text []string
		hint string
	}{
		"refused":      {host: refused, kind: fault.Unreachable, text: []string{"resolve", refused, "connection refused"}},
		"no such name": {host: "no-such-host.invalid", kind: fault.Unreachable, text: []string{"no-such-host.invalid", "DNS"}},
		"401":          {host: start(t, server.Config{}, answering(401)), text: []string{"login"}, hint: "docker login"},
		"403":          {host: start(t, server.Config{}, answering(403)), text: []string{"forbids"}, hint: "access"},
		"404":          {host: start(t, server.Config{}, answering(404)), text: []string{"no such tag or manifest"}},
		"429":          {host: start(t, server.Config{}, answering(429)), kind: fault.Unreachable, text: []string{"429 Too Many Requests"}},
		"503":          {host: start(t, server.Config{}, answering(503)), kind: fault.Unreachable, text: []string{"503 Service Unavailable"}},
		"untrusted TLS": {host: strings.TrimPrefix(tlsServer.URL, "https://"), kind: fault.Unreachable, text: []string{"TLS"},
			opts: registry.Options{HTTPClient: &http.Client{Transport: httpsOnly{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo, r := open(t, c.host+"/app:v1", c.opts)
			_, err := repo.Resolve(t.Context(), r)
			if err == nil {
				t.Fatal("no error")
			}
			if fault.KindOf(err) != c.kind {
				t.Errorf("kind %d, want %d: %v", fault.KindOf(err), c.kind, err)
			}
			for _, s := range c.text {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if !strings.Contains(fault.HintOf(err), c.hint) {
				t.Errorf("hint %q", fault.HintOf(err))
			}
			if strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("%q carries an escape sequence", err)
			}
		})
	}
}

// httpsOnly speaks TLS where loopback would be spoken to in plain HTTP.
type httpsOnly struct{}

func (httpsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	return (&http.Transport{}).RoundTrip(r)
}

func TestOtherBytes(t *testing.T) {
	t.Parallel()
	s, err := server.Open(t.TempDir(), server.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	honest, liar := httptest.NewServer(s), httptest.NewServer(flippedBits(s))
	t.Cleanup(honest.Close)
	t.Cleanup(liar.Close)
	good, _ := open(t, strings.TrimPrefix(honest.URL, "http://")+"/app:v1", registry.Options{})
	desc := pushImage(t, good, "v1", "a")
	blob, err := good.PushBlob(t.Context(), "x/y", []byte("some content"))
	if err != nil {
		t.Fatal(err)
	}
	bad, _ := open(t, strings.TrimPrefix(liar.URL, "http://")+"/app:v1", registry.Options{})
	_, manifestErr := bad.Manifest(t.Context(), desc)
	_, blobErr := bad.Blob(t.Context(), blob, 1000)
	for what, err := range map[string]error{"manifest": manifestErr, "blob": blobErr} {
		if err == nil || !strings.Contains(err.Error(), "the registry sent other bytes than asked for") || fault.KindOf(err) != fault.Failure {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	host := start(t, server.Config{Login: func(user, password string) bool { return user == "ann" && password == "s3cret" }}, nil)
	if strings.Contains(os.Getenv("DOCKER_CONFIG"), "hallmark") {
		t.Fatal("the environment already names a test configuration")
	}
	repo, r := open(t, host+"/app:v1", registry.Options{})
	_, err := repo.Resolve(t.Context(), r)
	if err == nil || !strings.Contains(fault.HintOf(err), "docker login "+host) || fault.KindOf(err) != fault.Failure {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// The login comes from the docker configuration and is sent to that host only.
func TestLoginFromDockerConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hallmark")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	host := start(t, server.Config{Login: func(user, password string) bool { return user == "ann" && password == "s3cret" }}, nil)
	config := fmt.Sprintf(`{"auths":{%q:{"auth":"YW5uOnMzY3JldA=="}}}`, host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	repo, r := open(t, host+"/app:v1", registry.Options{})
	want := pushImage(t, repo, "v1", "a")
	if got, err := repo.Resolve(t.Context(), r); err != nil || got.Digest != want.Digest {
		t.Errorf("%v, %v", got, err)
	}
	other, r2 := open(t, start(t, server.Config{Login: func(string, string) bool { return true }}, nil)+"/app:v1", registry.Options{})
	if _, err := other.Resolve(t.Context(), r2); err == nil || !strings.Contains(err.Error(), "login") {
		t.Errorf("another host: %v", err)
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

func TestPlainHTTPOnlyOnThisMachine(t *testing.T) {
	t.Parallel()
	var schemes sync.Map
	note := roundTripper(func(r *http.Request) (*http.Response, error) {
		schemes.Store(r.URL.Host, r.URL.Scheme)
		return nil, x509.UnknownAuthorityError{}
	})
	for _, c := range []struct {
		ref, host, want string
		plain           bool
	}{
		{"127.0.0.9:1/a", "127.0.0.9:1", "http", false},
		{"localhost:2/a", "localhost:2", "http", false},
		{"[::1]:3/a", "[::1]:3", "http", false},
		{"r.example:4/a", "r.example:4", "https", false},
		{"r.example:5/a", "r.example:5", "http", true},
		{"localhost.example:6/a", "localhost.example:6", "https", false},
		{"127.0.0.1.example:7/a", "127.0.0.1.example:7", "https", false},
		{"busybox", "registry-1.docker.io", "https", false},
	} {
		repo, r := open(t, c.ref, registry.Options{PlainHTTP: c.plain, HTTPClient: &http.Client{Transport: note}})
		_, _ = repo.Resolve(t.Context(), r)
		if got, _ := schemes.Load(c.host); got != c.want {
			t.Errorf("%s: scheme %v, want %s", c.ref, got, c.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
