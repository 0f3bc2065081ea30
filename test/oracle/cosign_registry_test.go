package oracle_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// credulousRegistry serves whatever an attacker put into it, byte for byte: no
// manifest is parsed, no digest compared, and a list of referrers has what was
// written into it. It answers reads of the OCI distribution API alone.
type credulousRegistry struct {
	host string

	mu        sync.Mutex
	manifests map[string]servedManifest       // by repository@reference
	blobs     map[string][]byte               // by repository@digest
	referrers map[string][]ocispec.Descriptor // by repository
}

type servedManifest struct {
	mediaType string
	data      []byte
}

func newCredulousRegistry(t testing.TB) *credulousRegistry {
	c := &credulousRegistry{manifests: map[string]servedManifest{}, blobs: map[string][]byte{}, referrers: map[string][]ocispec.Descriptor{}}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.host = strings.TrimPrefix(s.URL, "http://")
	return c
}

// put serves a manifest under its digest and under names, tags mostly.
func (c *credulousRegistry) put(repository string, m servedManifest, names ...string) digest.Digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := digest.FromBytes(m.data)
	for _, name := range append(names, d.String()) {
		c.manifests[repository+"@"+name] = m
	}
	return d
}

// blob serves data under a digest, which need not be its own.
func (c *credulousRegistry) blob(repository, d string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs[repository+"@"+d] = data
}

// list adds to what the repository says is attached, to whatever image.
func (c *credulousRegistry) list(repository string, d ...ocispec.Descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.referrers[repository] = append(c.referrers[repository], d...)
}

func (c *credulousRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	c.mu.Lock()
	defer c.mu.Unlock()
	serve := func(mediaType string, d digest.Digest, data []byte, found bool) {
		if !found {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		maps.Copy(w.Header(), http.Header{"Content-Type": {mediaType}, "Docker-Content-Digest": {d.String()}, "Content-Length": {strconv.Itoa(len(data))}})
		_, _ = w.Write(data)
	}
	if repository, name, ok := strings.Cut(path, "/manifests/"); ok {
		m, found := c.manifests[repository+"@"+name]
		serve(m.mediaType, digest.FromBytes(m.data), m.data, found)
		return
	}
	if repository, name, ok := strings.Cut(path, "/blobs/"); ok {
		data, found := c.blobs[repository+"@"+name]
		serve("application/octet-stream", digest.Digest(name), data, found)
		return
	}
	if repository, _, ok := strings.Cut(path, "/referrers/"); ok {
		index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: c.referrers[repository]}
		index.SchemaVersion = 2
		if index.Manifests == nil {
			index.Manifests = []ocispec.Descriptor{}
		}
		data, err := json.Marshal(index)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		serve(ocispec.MediaTypeImageIndex, digest.FromBytes(data), data, true)
		return
	}
	if path != "" {
		http.NotFound(w, r)
	}
}
