package sign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	aregistry "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// lab is the authority's real log, TSA and registry on one server, with a hook
// that may falsify answers.
type lab struct {
	url string
	// falsify changes the answer to a POST on a path; nil leaves all as they are.
	falsify func(path string, status int, body []byte) (int, []byte)
	mux     *http.ServeMux
	mu      sync.Mutex
	counts  map[string]int // POSTs by path
}

func newLab(t testing.TB) *lab {
	t.Helper()
	_, logKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log, err := tlog.Open(t.TempDir(), tlog.Config{Origin: "127.0.0.1", Key: logKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	tsaKey, chain, err := tsa.NewChain(testNow())
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := tsa.New(tsa.Config{Key: tsaKey, Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	images, err := aregistry.Open(t.TempDir(), aregistry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = images.Close() })
	mux := http.NewServeMux()
	mux.Handle("/api/v2/log/", log.Handler())
	mux.Handle("/api/v1/timestamp", stamps)
	mux.Handle("/v2/", images)
	l := &lab{mux: mux, counts: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.count(r)
		if l.falsify == nil || r.Method != http.MethodPost || strings.HasPrefix(r.URL.Path, "/v2/") {
			mux.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		status, body := l.falsify(r.URL.Path, rec.Code, rec.Body.Bytes())
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func (l *lab) count(r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Method == http.MethodPost {
		l.counts[r.URL.Path]++
	}
}

func (l *lab) posts(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[path]
}

func (l *lab) services() sign.Services {
	return sign.Services{Logs: sign.One(l.url), TSAs: sign.One(l.url + "/api/v1/timestamp"), Patience: time.Nanosecond}
}

// image pushes a tiny image of its own and opens it.
func (l *lab) image(t testing.TB, name string) sign.Target {
	t.Helper()
	ctx := context.Background()
	ref, err := registry.ParseRef(strings.TrimPrefix(l.url, "http://") + "/" + name + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return sign.Target{Repo: repo, Desc: pushImage(t, repo, name, "v1")}
}

func pushImage(t testing.TB, repo *registry.Repository, content, tag string) ocispec.Descriptor {
	t.Helper()
	ctx := context.Background()
	layer, err := repo.PushBlob(ctx, ocispec.MediaTypeImageLayer, []byte("layer of "+content))
	if err != nil {
		t.Fatal(err)
	}
	config, err := repo.PushBlob(ctx, ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	return pushManifest(t, repo, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}, tag)
}

func pushManifest(t testing.TB, repo *registry.Repository, m any, tag string) ocispec.Descriptor {
	t.Helper()
	var mediaType string
	switch v := m.(type) {
	case ocispec.Manifest:
		v.SchemaVersion = 2
		m, mediaType = v, v.MediaType
	case ocispec.Index:
		v.SchemaVersion = 2
		m, mediaType = v, v.MediaType
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := repo.PushManifest(context.Background(), desc, data, tag); err != nil {
		t.Fatal(err)
	}
	return desc
}

func newKey(t testing.TB, alg string) key.Signer {
	t.Helper()
	private, err := key.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := key.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keySigner(t testing.TB, s sign.Services, alg string) *sign.Signer {
	t.Helper()
	signer, err := sign.New(sign.Config{Services: s, Key: newKey(t, alg)})
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// bundleOf fetches the bundle that a referrer carries.
func bundleOf(t testing.TB, at sign.Target, r registry.Referrer) []byte {
	t.Helper()
	data, err := at.Repo.Manifest(context.Background(), r.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	bundle, err := at.Repo.Blob(context.Background(), m.Layers[0], 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// replace swaps old for new in a JSON answer, and fails the test when nothing changed.
func replace(t testing.TB, body []byte, old, new string) []byte {
	t.Helper()
	changed := bytes.Replace(body, []byte(old), []byte(new), 1)
	if bytes.Equal(changed, body) {
		t.Errorf("%q is not in the answer", old)
	}
	return changed
}
