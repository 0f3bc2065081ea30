package collect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// index pushes what BuildKit pushes: an index of two images and an attestation
// manifest about the first.
func (p *place) index(tag string) (index, first, attestation ocispec.Descriptor) {
	first = p.manifest(ocispec.Manifest{Annotations: map[string]string{"n": "1"}}, "")
	second := p.manifest(ocispec.Manifest{Annotations: map[string]string{"n": "2"}}, "")
	attestation = p.manifest(ocispec.Manifest{
		ArtifactType: "application/vnd.docker.attestation.manifest.v1+json", Subject: &first,
		Layers: []ocispec.Descriptor{{MediaType: "application/vnd.in-toto+json", Annotations: map[string]string{"in-toto.io/predicate-type": evidence.PredicateSLSA1}}},
	}, "", "{}")
	entry := func(d ocispec.Descriptor, os, arch string, annotations map[string]string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Annotations: annotations, Platform: &ocispec.Platform{OS: os, Architecture: arch}}
	}
	var x ocispec.Index
	x.SchemaVersion, x.MediaType = 2, ocispec.MediaTypeImageIndex
	x.Manifests = []ocispec.Descriptor{
		entry(first, "linux", "amd64", nil), entry(second, "linux", "arm64", nil),
		entry(attestation, "unknown", "unknown", map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": first.Digest.String()}),
	}
	return p.push(x, x.MediaType, nil, tag), first, attestation
}

func TestTree(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"registry", "layout"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if where == "layout" {
				p.open("oci:" + filepath.Join(t.TempDir(), "layout") + ":v1")
			}
			index, first, attestation := p.index("v1")
			signature := p.bundle(index, cosignBundle)
			above := p.bundle(signature, cosignBundle)
			p.bundle(attestation, cosignBundle)
			p.bundle(first, cosignBundle)
			root, err := collect.Tree(t.Context(), p.repo, index, "", collect.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if root.Format != collect.FormatIndex || len(root.Attached) != 1 || len(root.Manifests) != 3 {
				t.Fatalf("root: %s, %d attached, %d manifests", root.Format, len(root.Attached), len(root.Manifests))
			}
			if deeper := root.Attached[0].Attached; len(deeper) != 1 || deeper[0].Manifest.Digest != above.Digest {
				t.Errorf("attached to the signature: %+v", deeper)
			}
			image, attest := root.Manifests[0], root.Manifests[2]
			if image.Platform != "linux/amd64" || len(image.Attached) != 1 || image.Attached[0].Claim == nil {
				t.Errorf("image: %+v", image)
			}
			if attest.Format != collect.FormatBuildKit || attest.About != first.Digest.String() || len(attest.Attached) != 1 ||
				len(attest.Statements) != 1 || attest.Statements[0].PredicateType != evidence.PredicateSLSA1 {
				t.Errorf("attestation: %+v", attest)
			}
			t.Run("platform", func(t *testing.T) {
				root, err := collect.Tree(t.Context(), p.repo, index, "linux/amd64", collect.Options{})
				if err != nil || len(root.Manifests) != 2 || root.Manifests[0].Manifest.Digest != first.Digest {
					t.Errorf("%+v, %v", root, err)
				}
				if _, err := collect.Tree(t.Context(), p.repo, index, "linux/s390x", collect.Options{}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A chain of referrers, each attached to the one before, ends somewhere.
func TestTreeIsBounded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	root := p.image("v1")
	for d, i := root, 0; i < 12; i++ {
		d = p.bundle(d, cosignBundle)
	}
	tree, err := collect.Tree(t.Context(), p.repo, root, "", collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	depth, last := 0, tree
	for len(last.Attached) > 0 {
		last = last.Attached[0]
		depth++
	}
	if depth != 8 || last.Err == nil || !strings.Contains(last.Err.Error(), "not looked further") {
		t.Errorf("depth %d, %v", depth, last.Err)
	}
}

// A registry that makes up referrers for everything that it is asked about.
func TestTreeOfMadeUpReferrersEnds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	root := p.image("v1")
	var mu sync.Mutex
	made := map[string][]byte{}
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		mu.Lock()
		defer mu.Unlock()
		if data, ok := made[name]; ok && !strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data)
			return
		}
		if !strings.Contains(r.URL.Path, "/referrers/") {
			h.ServeHTTP(w, r)
			return
		}
		var index ocispec.Index
		index.SchemaVersion, index.MediaType = 2, ocispec.MediaTypeImageIndex
		for i := range 50 {
			config := ociartifact.EmptyConfigDescriptor()
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{},
				Subject:     &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(name), Size: 2},
				Annotations: map[string]string{"i": strconv.Itoa(i)}}
			m.SchemaVersion = 2
			data, err := json.Marshal(m)
			if err != nil {
				t.Error(err)
			}
			d := registry.Describe(m.MediaType, data)
			made[d.Digest.String()] = data
			index.Manifests = append(index.Manifests, d)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(index)
	}
	if _, err := collect.Tree(t.Context(), p.repo, root, "", collect.WithMaxNodes(collect.Options{}, 100)); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range p.requests {
		total += n
	}
	if total > 1500 { // 100 lists of 50 would be 5,000
		t.Errorf("%d requests for a tree of 100 nodes", total)
	}
}

func TestClaimedSigner(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	utf8, err := asn1.MarshalWithParams("https://issuer.example", "utf8")
	if err != nil {
		t.Fatal(err)
	}
	issuer := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: utf8}
	issuerV1 := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte("https://old.example")}
	name, err := asn1.MarshalWithParams(struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8,explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}, "someone!example.com"}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	san, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse("https://github.com/org/repo/.github/workflows/x.yml@refs/tags/v1")
	for name, c := range map[string]struct {
		cert x509.Certificate
		want evidence.Signer
	}{
		"email":     {x509.Certificate{EmailAddresses: []string{"a@b.example"}, ExtraExtensions: []pkix.Extension{issuerV1, issuer}}, evidence.Signer{Identity: "a@b.example", Issuer: "https://issuer.example"}},
		"workflow":  {x509.Certificate{URIs: []*url.URL{uri}, ExtraExtensions: []pkix.Extension{issuerV1}}, evidence.Signer{Identity: uri.String(), Issuer: "https://old.example"}},
		"user name": {x509.Certificate{ExtraExtensions: []pkix.Extension{issuer, {Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}}, evidence.Signer{Identity: "someone!example.com", Issuer: "https://issuer.example"}},
		"nothing":   {x509.Certificate{}, evidence.Signer{}},
	} {
		c.cert.SerialNumber, c.cert.NotAfter = big.NewInt(1), time.Unix(1795000000, 0)
		der, err := x509.CreateCertificate(rand.Reader, &c.cert, &c.cert, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := collect.ClaimedSigner(&evidence.Claim{Certificates: [][]byte{der}})
		if err != nil || got.Identity != c.want.Identity || got.Issuer != c.want.Issuer {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := collect.ClaimedSigner(&evidence.Claim{KeyHint: "xFgMfCP3pHhpt0cDFokoHIjZoGRapYbN3+t/8CEvAIk="}); err != nil || got.Key != claimedKey {
		t.Errorf("key: %+v, %v", got, err)
	}
	if _, err := collect.ClaimedSigner(&evidence.Claim{Certificates: [][]byte{[]byte("no certificate")}}); err == nil {
		t.Error("a broken certificate: no error")
	}
}

func FuzzClaimedSigner(f *testing.F) {
	f.Add([]byte("x"), "hint")
	f.Add([]byte(nil), "xFgMfCP3pHhpt0cDFokoHIjZoGRapYbN3+t/8CEvAIk=")
	f.Fuzz(func(_ *testing.T, cert []byte, hint string) {
		c := &evidence.Claim{KeyHint: hint}
		if len(cert) > 0 {
			c.Certificates = [][]byte{cert}
		}
		_, _ = collect.ClaimedSigner(c)
	})
}
