package cache_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/build/cache"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

const (
	commit   = "1111111111111111111111111111111111111111"
	workflow = "2222222222222222222222222222222222222222"
	forge    = "https://forge.example.com"
	identity = forge + "/hall/builder/.github/workflows/build.yml@refs/tags/v1"
)

// claims are those of a job's token, in GitHub's words.
type claims map[string]string

func (c claims) with(more claims) claims {
	c = maps.Clone(c)
	maps.Copy(c, more)
	return c
}

var job = claims{"repository": "acme/app", "repository_id": "1", "ref": "refs/heads/main", "sha": commit, "event_name": "push",
	"job_workflow_ref": "hall/builder/.github/workflows/build.yml@refs/tags/v1", "job_workflow_sha": workflow}

// entry is what a build of that job says.
var entry = cache.Entry{Repository: forge + "/acme/app", RepositoryID: "1", Ref: "refs/heads/main", Commit: commit, Event: "push",
	Builder: cache.Builder{Hallmark: "v1", File: evidence.SHA256([]byte("builder")), BuildKit: "b", Runc: "r", Workflow: workflow},
	Scope:   "buildkit", Platforms: []string{}, Network: "host"}

// world is an authority that takes the tokens of a forge's jobs, with a repository of caches.
type world struct {
	*hmtest.Running
	t      *testing.T
	key    *ecdsa.PrivateKey
	issuer string
	repo   *registry.Repository
	made   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tokens := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(tokens.Close)
	w.issuer = tokens.URL
	config := filepath.Join(t.TempDir(), "ca.yaml")
	if err := os.WriteFile(config, []byte(strings.NewReplacer("ISSUER", w.issuer, "FORGE", forge).Replace(caConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Running = hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), CAConfig: config})
	w.repo = w.open(w.Registry)
	return w
}

const caConfig = `oidc-issuers:
  ISSUER: {issuer-url: ISSUER, client-id: sigstore, type: ci-provider, ci-provider: github}
ci-issuer-metadata:
  github:
    default-template-values: {url: "FORGE"}
    extension-templates:
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
      build-signer-digest: job_workflow_sha
      source-repository-uri: "{{ .url }}/{{ .repository }}"
      source-repository-identifier: repository_id
      source-repository-digest: sha
      source-repository-ref: ref
      build-trigger: event_name
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
`

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/keys") {
		_ = json.NewEncoder(rw).Encode(map[string]any{"issuer": w.issuer, "jwks_uri": w.issuer + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
		return
	}
	point, err := w.key.PublicKey.Bytes()
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	text := base64.RawURLEncoding.EncodeToString
	_ = json.NewEncoder(rw).Encode(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
		"x": text(point[1:33]), "y": text(point[33:])}}})
}

func (w *world) token(c claims) string {
	w.t.Helper()
	all := map[string]any{"iss": w.issuer, "aud": "sigstore", "sub": "job", "iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix()}
	for k, v := range c {
		all[k] = v
	}
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	input := part(map[string]string{"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + part(all)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, w.key, sum[:])
	if err != nil {
		w.t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// signer signs as a job.
func (w *world) signer(c claims) *sign.Signer {
	w.t.Helper()
	data, err := os.ReadFile(w.SigningConfig)
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := trust.ParseSigningConfig(data)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := idtoken.Parse(w.token(c))
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := sign.New(sign.Config{Services: sign.ServicesFrom(config, time.Now(), true), Token: token})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) open(host string) *registry.Repository {
	w.t.Helper()
	ref, err := registry.ParseRef(host + "/caches/app")
	if err != nil {
		w.t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return repo
}

// build is a build of the job that looks for an entry.
func (w *world) build(this cache.Entry) *cache.Build {
	w.t.Helper()
	return &cache.Build{Repo: w.repo, Verifier: signing.Verifier(w.t, w.Running), Job: true, Who: identity, This: &this, Default: "refs/heads/main",
		Signer: gate.Requirements{Identities: []policy.Identity{{Subject: identity, Issuer: w.issuer, Source: forge + "/acme/app"}}}}
}

// store is a content store with a new cache, as BuildKit leaves it.
func (w *world) store() (dir string, made *cache.Made) {
	w.t.Helper()
	w.made++
	dir = w.t.TempDir()
	put := func(mediaType string, data []byte) string {
		d := registry.Describe(mediaType, data)
		path := filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, d.MediaType, d.Digest, d.Size)
	}
	layer := put(ocispec.MediaTypeImageLayerGzip, fmt.Appendf(nil, "layer %d", w.made))
	table := put("application/vnd.buildkit.cacheconfig.v0", fmt.Appendf(nil, `{"layers":[],"n":%d}`, w.made))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s,%s]}`, ocispec.MediaTypeImageManifest, table, layer, layer)
	put(ocispec.MediaTypeImageManifest, manifest)
	made, err := cache.Open(dir, evidence.SHA256(manifest))
	if err != nil {
		w.t.Fatal(err)
	}
	return dir, made
}

// push pushes a new cache that nobody signed.
func (w *world) push() *cache.Made {
	w.t.Helper()
	_, made := w.store()
	if err := made.Push(w.t.Context(), w.repo, nil); err != nil {
		w.t.Fatal(err)
	}
	return made
}

// sign says of a cache what an entry says, as a signer.
func (w *world) sign(s *sign.Signer, made *cache.Made, predicateType string, predicate []byte) {
	w.t.Helper()
	st, err := sign.AttestStatement("", evidence.Digest(made.Desc.Digest), predicateType, predicate)
	if err == nil {
		_, err = s.Attach(w.t.Context(), sign.Target{Repo: w.repo, Desc: made.Desc}, st)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// entry makes one, signed as the job, and lets the tag of at name it.
func (w *world) entry(c claims, e, at cache.Entry) *cache.Made {
	w.t.Helper()
	made := w.push()
	w.sign(w.signer(c), made, cache.PredicateType, predicate(w.t, e))
	if err := w.build(at).Name(w.t.Context(), made); err != nil {
		w.t.Fatal(err)
	}
	return made
}

func predicate(t *testing.T, e cache.Entry) []byte {
	t.Helper()
	data, err := e.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lying is a registry in front of the real one that answers for a digest with other bytes of
// the same length, or not at all.
func (w *world) lying(answer func(path string, body []byte) []byte) *registry.Repository {
	w.t.Helper()
	target, err := url.Parse("http://" + w.Registry)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }} // and its name with it
	var mu sync.Mutex
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != http.MethodGet || r.StatusCode != http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		body = answer(r.Request.URL.Path, body)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return nil
	}
	server := httptest.NewServer(proxy)
	w.t.Cleanup(server.Close)
	return w.open(strings.TrimPrefix(server.URL, "http://"))
}

func find(t *testing.T, b *cache.Build) (*cache.Found, string) {
	t.Helper()
	found, why, err := b.Find(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range why {
		all = append(all, r.String())
	}
	return found, strings.Join(all, "\n")
}

func matches(pattern, text string) bool {
	return regexp.MustCompile("(?s)" + pattern).MatchString(text)
}
