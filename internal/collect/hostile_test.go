package collect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// hostile is a registry that answers listings with what a test makes of them and
// serves manifests that nobody pushed.
type hostile struct {
	*place
	subject, good ocispec.Descriptor
	listed        []ocispec.Descriptor // in front of what is really attached
	change        func(*ocispec.Descriptor)
	served        map[digest.Digest][]byte
	stalls        map[string]bool // last path elements that are never answered
	stalled       atomic.Int32
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{place: newPlace(t), served: map[digest.Digest][]byte{}, stalls: map[string]bool{}}
	h.subject = h.image("v1")
	h.good = h.bundle(h.subject, cosignBundle)
	h.fault = h.answer
	return h
}

// list lists a manifest with any content, and serves it.
func (h *hostile) list(content string) digest.Digest {
	d := registry.Describe(ocispec.MediaTypeImageManifest, []byte(content))
	h.served[d.Digest] = []byte(content)
	h.listed = append(h.listed, d)
	return d.Digest
}

// manifestOf is a manifest about the subject with these layers.
func (h *hostile) manifestOf(about digest.Digest, layers ...ocispec.Descriptor) string {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: evidence.BundleMediaType, Layers: layers,
		Config: registry.Describe(ocispec.MediaTypeEmptyJSON, []byte("{}")), Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: about, Size: 1}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

func (h *hostile) answer(next http.Handler, w http.ResponseWriter, r *http.Request) {
	last := path.Base(r.URL.Path)
	if h.stalls[last] && !strings.Contains(r.URL.Path, "/referrers/") {
		h.stalled.Add(1)
		<-r.Context().Done()
		return
	}
	if data, ok := h.served[digest.Digest(last)]; ok && !strings.Contains(r.URL.Path, "/referrers/") {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		_, _ = w.Write(data)
		return
	}
	if !strings.Contains(r.URL.Path, "/referrers/") {
		next.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	var index ocispec.Index
	if err := json.Unmarshal(rec.Body.Bytes(), &index); err != nil {
		h.t.Error(err)
	}
	for i := range index.Manifests {
		if h.change != nil {
			h.change(&index.Manifests[i])
		}
	}
	index.Manifests = append(slices.Clone(h.listed), index.Manifests...)
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(index)
}

// TestHostileRegistry: whatever else is listed, the good signature is found, and
// every other entry says what is wrong with it.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	layer := func(size int64) ocispec.Descriptor {
		d := registry.Describe(evidence.BundleMediaType, []byte(fmt.Sprint("never pushed", size)))
		d.Size = size
		return d
	}
	for name, c := range map[string]struct {
		prepare func(h *hostile)
		opts    collect.Options
		want    string // in the error of every other item
		lost    bool   // the good one is not readable either: the registry lies about it
	}{
		"two layers":      {func(h *hostile) { h.list(h.manifestOf(h.subject.Digest, layer(1), layer(2))) }, collect.Options{}, "2 bundles", false},
		"another subject": {func(h *hostile) { h.list(h.manifestOf(h.good.Digest, layer(1))) }, collect.Options{}, "names another subject", false},
		"garbage":         {func(h *hostile) { h.list("{\"schemaVersion\":2,") }, collect.Options{}, "manifest:", false},
		"two meanings": {func(h *hostile) {
			h.list(`{"schemaVersion":2,"layers":[],` + h.manifestOf(h.subject.Digest, layer(1))[1:])
		}, collect.Options{}, "duplicate member", false},
		"5 MiB":          {func(h *hostile) { h.list(strings.Repeat(" ", 5<<20)) }, collect.Options{}, "at most 4194304 are read", false},
		"smaller limit":  {func(h *hostile) { h.list(strings.Repeat(" ", 3000)) }, collect.Options{MaxManifest: 2000}, "at most 2000 are read", false},
		"gone":           {func(h *hostile) { h.list("x"); clear(h.served) }, collect.Options{}, "no such tag or manifest", false},
		"blob gone":      {func(h *hostile) { h.list(h.manifestOf(h.subject.Digest, layer(7))) }, collect.Options{}, "no such tag or manifest", false},
		"blob too large": {func(h *hostile) { h.list(h.manifestOf(h.subject.Digest, layer(65<<20))) }, collect.Options{}, "at most 67108864 are read", false},
		"other bytes":    {func(h *hostile) { h.served[h.list("abc")] = []byte("abd") }, collect.Options{}, "other bytes", false},
		"more bytes":     {func(h *hostile) { h.served[h.list("abc")] = []byte("abcd") }, collect.Options{}, "", false},
		"stalls":         {func(h *hostile) { h.stalls[h.list("abc").String()] = true }, collect.Options{ItemTimeout: 300 * time.Millisecond}, "no answer within 300ms", false},
		"blob stalls": {func(h *hostile) {
			l := layer(9)
			h.stalls[l.Digest.String()] = true
			h.list(h.manifestOf(h.subject.Digest, l))
		}, collect.Options{ItemTimeout: 300 * time.Millisecond}, "no answer within 300ms", false},
		"lies about types": {func(h *hostile) {
			h.change = func(d *ocispec.Descriptor) { d.MediaType, d.ArtifactType = "text/html", "text/css" }
		}, collect.Options{}, "", false},
		"lies, known type": {func(h *hostile) { h.change = func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageIndex } }, collect.Options{}, "", false},
		"lies about size":  {func(h *hostile) { h.change = func(d *ocispec.Descriptor) { d.Size++ } }, collect.Options{}, "", true},
		"1,001 referrers": {func(h *hostile) {
			for i := range 1001 {
				h.list(fmt.Sprint(i))
			}
			h.listed, h.served = h.listed[:999], nil
		}, collect.Options{}, "no such tag or manifest", false},
		"nonsense in a list": {func(h *hostile) { h.listed = []ocispec.Descriptor{{Digest: "sha256:zz", Size: -1}, {}} }, collect.Options{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			c.prepare(h)
			items, err := collect.Image(t.Context(), h.repo, h.subject, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, it := range items {
				if it.Where.Digest == evidence.Digest(h.good.Digest) && (it.Claim != nil) != c.lost {
					found = true
					continue
				}
				if it.Err == nil || it.Claim != nil || !strings.Contains(it.Err.Error(), c.want) {
					t.Errorf("%+v, want an error with %q", it, c.want)
				}
			}
			if !found {
				t.Errorf("the good signature is not as it should be: %d items", len(items))
			}
		})
	}
}

// Beyond the limit something says that not all was read.
func TestTooManyReferrers(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	for i := range 1001 {
		h.list(fmt.Sprint(i))
	}
	items := h.find(h.subject, collect.Options{})
	var many *registry.TooManyReferrersError
	if last := items[len(items)-1]; len(items) != 1001 || !errors.As(last.Err, &many) || many.Listed != 1000 {
		t.Errorf("%d items, last %+v", len(items), items[len(items)-1])
	}
}

// A registry that answers nothing is not waited for a thousand times.
func TestManyStallsEnd(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	for i := range 200 {
		h.stalls[h.list(fmt.Sprint(i)).String()] = true
	}
	items := h.find(h.subject, collect.Options{ItemTimeout: 50 * time.Millisecond, Concurrency: 4})
	refused := 0
	for _, it := range items {
		if it.Err != nil && fault.KindOf(it.Err) != fault.Unreachable {
			t.Errorf("%v", it.Err)
		}
		if it.Err != nil && strings.Contains(it.Err.Error(), "not asked for") {
			refused++
		}
	}
	if n := h.stalled.Load(); n > 40 || refused < 150 {
		t.Errorf("%d requests stalled, %d items not asked for", n, refused)
	}
}

// Notary's two manifest forms, and near-misses of them.
func TestNotaryManifests(t *testing.T) {
	t.Parallel()
	const notary = "application/vnd.cncf.notary.signature"
	one := func(mediaType string) ocispec.Descriptor { return ocispec.Descriptor{MediaType: mediaType} }
	config := func(m ocispec.Manifest) ocispec.Manifest { m.Config.MediaType = notary; return m }
	artifact := func(m ocispec.Manifest) ocispec.Manifest { m.ArtifactType = notary; return m }
	for name, c := range map[string]struct {
		m       ocispec.Manifest
		content []string
		format  string
		err     string
	}{
		"config, COSE":     {config(layers(one("application/cose"))), []string{"x"}, collect.FormatNotary, ""},
		"config, JWS":      {config(layers(one("application/jose+json"))), []string{"x"}, collect.FormatNotary, ""},
		"artifact, COSE":   {artifact(layers(one("application/cose"))), []string{"x"}, collect.FormatNotary, ""},
		"no layer":         {artifact(layers()), nil, collect.FormatNotary, "0 layers"},
		"two layers":       {artifact(layers(one("application/cose"), one("application/cose"))), []string{"x", "y"}, collect.FormatNotary, "2 layers"},
		"another type":     {artifact(layers(one("application/pkcs7-mime"))), []string{"x"}, collect.FormatNotary, "application/pkcs7-mime"},
		"COSE, no Notary":  {layers(one("application/cose")), []string{"x"}, collect.FormatOther, ""},
		"bundle inside it": {artifact(layers(one(evidence.BundleMediaType))), []string{cosignBundle}, collect.FormatNotary, "bundle"},
	} {
		p := newPlace(t)
		subject := p.image("v1")
		c.m.Subject = &subject
		p.manifest(c.m, "", c.content...)
		items := p.find(subject, collect.Options{})
		if len(items) != 1 || items[0].Format != c.format && !strings.HasPrefix(items[0].Format, "notary-") {
			t.Errorf("%s: %+v", name, items)
			continue
		}
		if it := items[0]; c.err != "" && (it.Err == nil || !strings.Contains(it.Err.Error(), c.err)) {
			t.Errorf("%s: %+v, want an error with %q", name, it, c.err)
		}
	}
}
