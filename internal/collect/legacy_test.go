package collect_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
)

const (
	simplePayload = `{"critical":{"identity":{"docker-reference":"r.test/app"},"image":{"docker-manifest-digest":"sha256:1ccb399e44f3e0ec86bb1a95031c6b9f81acc77860556a81a90acb79bab8005d"},"type":"cosign container image signature"},"optional":null}`
	dsseEnvelope  = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"MEUC"}]}`
)

func signatureLayer(sig string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: simplesigning.PayloadMediaType, Annotations: map[string]string{simplesigning.AnnotationSignature: sig}}
}

func attestationLayer() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: simplesigning.EnvelopeMediaType, Annotations: map[string]string{
		simplesigning.AnnotationSignature: "", "predicateType": evidence.PredicateSPDX}}
}

func layers(l ...ocispec.Descriptor) ocispec.Manifest { return ocispec.Manifest{Layers: l} }

func legacyTag(subject ocispec.Descriptor, suffix string) string {
	return "sha256-" + subject.Digest.Encoded() + suffix
}

// claimsOf are the formats of the claims, sorted, and the items without one.
func claimsOf(items []collect.Item) (formats []string, others []collect.Item) {
	for _, it := range items {
		if it.Claim == nil {
			others = append(others, it)
			continue
		}
		formats = append(formats, it.Format)
	}
	slices.Sort(formats)
	return formats, others
}

func (p *place) find(subject ocispec.Descriptor, opts collect.Options) []collect.Item {
	p.t.Helper()
	items, err := collect.Image(p.t.Context(), p.repo, subject, opts)
	if err != nil {
		p.t.Fatal(err)
	}
	return items
}

func (p *place) count() (total int) {
	for what, n := range p.requests {
		total += n
		if n > 1 {
			p.t.Errorf("%s: %d times", what, n)
		}
	}
	return total
}

// Cosign's older tags are found without a flag, each layer is a claim, and equal
// payloads of several signers are fetched once.
func TestLegacyTags(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	sig := p.manifest(layers(signatureLayer("AAAA"), signatureLayer("BBBB"), signatureLayer("not base64")), legacyTag(subject, ".sig"), simplePayload, simplePayload, simplePayload)
	p.manifest(layers(attestationLayer()), legacyTag(subject, ".att"), dsseEnvelope)
	clear(p.requests)
	items := p.find(subject, collect.Options{})
	formats, others := claimsOf(items)
	if !slices.Equal(formats, []string{"cosign-attestation", "cosign-signature", "cosign-signature"}) {
		t.Errorf("%v", formats)
	}
	if len(others) != 1 || !strings.Contains(others[0].Err.Error(), "not base64") {
		t.Errorf("%+v", others)
	}
	signatures := map[string]bool{}
	for _, it := range items {
		if it.Where.How != collect.HowLegacyTag || it.Subject != evidence.Digest(subject.Digest) {
			t.Errorf("%+v", it)
		}
		if it.Format == collect.FormatCosignSignature && it.Claim != nil {
			signatures[base64.StdEncoding.EncodeToString(it.Claim.Signature())] = true
			if it.Where.Digest != evidence.Digest(sig.Digest) || it.Layer.Size != int64(len(simplePayload)) {
				t.Errorf("%+v", it)
			}
		}
		if it.Format == collect.FormatCosignAttestation && it.PredicateType != evidence.PredicateSPDX {
			t.Errorf("%+v", it)
		}
	}
	if len(signatures) != 2 {
		t.Errorf("signatures %v", slices.Collect(maps.Keys(signatures)))
	}
	// Referrers (API and fallback tag), three tags of which two exist, two
	// manifests, two blobs; HEAD and GET of a manifest are not the same request.
	if n := p.count(); n != 9 {
		t.Errorf("%d requests: %v", n, p.requests)
	}
}

// A bundle costs no look for older tags; a gate that is not satisfied asks for them.
func TestExtend(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	p.bundle(subject, cosignBundle)
	p.manifest(layers(signatureLayer("AAAA")), legacyTag(subject, ".sig"), simplePayload)
	clear(p.requests)
	c, err := collect.Collect(t.Context(), p.repo, subject, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.count(); n != 3 || len(c.Items) != 1 {
		t.Errorf("%d items with %d requests: %v", len(c.Items), n, p.requests)
	}
	if more := c.Extend(t.Context()); len(more) != 1 || more[0].Claim == nil || len(c.Items) != 2 {
		t.Errorf("%+v", more)
	}
	before := p.count()
	if more := c.Extend(t.Context()); more != nil || p.count() != before {
		t.Errorf("asked twice: %+v", more)
	}
	if formats, _ := claimsOf(p.find(subject, collect.Options{LegacyTags: true})); len(formats) != 2 {
		t.Errorf("with LegacyTags: %v", formats)
	}
}

func TestSignatureRepositoryAndTagPrefix(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	image := p.repo
	p.open(strings.TrimSuffix(p.ref.Name(), "/app") + "/signatures")
	signatures := p.repo
	p.manifest(layers(signatureLayer("AAAA")), "release-"+legacyTag(subject, ".sig"), simplePayload)
	p.manifest(layers(signatureLayer("BBBB")), legacyTag(subject, ".sig"), simplePayload)
	p.repo = image
	for name, c := range map[string]struct {
		opts collect.Options
		want string // base64 of the signature
	}{
		"neither":    {collect.Options{}, ""},
		"repository": {collect.Options{SignatureRepository: signatures}, "BBBB"},
		"both":       {collect.Options{SignatureRepository: signatures, TagPrefix: "release-"}, "AAAA"},
		"prefix":     {collect.Options{TagPrefix: "release-"}, ""},
		"other":      {collect.Options{SignatureRepository: signatures, TagPrefix: "other-"}, ""},
	} {
		items := p.find(subject, c.opts)
		if c.want == "" {
			if len(items) != 0 {
				t.Errorf("%s: %+v", name, items)
			}
			continue
		}
		if len(items) != 1 || items[0].Claim == nil || base64.StdEncoding.EncodeToString(items[0].Claim.Signature()) != c.want ||
			!strings.HasPrefix(items[0].Where.Ref, signatures.Ref().Name()+"@") {
			t.Errorf("%s: %+v", name, items)
		}
	}
	// Bundles lie there, too (cosign 3 pushes them to COSIGN_REPOSITORY).
	p.repo = signatures
	p.bundle(subject, cosignBundle)
	p.repo = image
	if formats, _ := claimsOf(p.find(subject, collect.Options{SignatureRepository: signatures})); !slices.Equal(formats, []string{"sigstore-bundle-v0.3"}) {
		t.Errorf("%v", formats)
	}
}

// Cosign's experimental mode attaches its older format as a referrer.
func TestCosignOCI11(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	for _, c := range []struct{ kind, content string }{{"sig", simplePayload}, {"att", dsseEnvelope}} {
		m := layers(signatureLayer("AAAA"))
		if c.kind == "att" {
			m = layers(attestationLayer())
		}
		m.Subject, m.Config.MediaType = &subject, "application/vnd.dev.cosign.artifact."+c.kind+".v1+json"
		m.ArtifactType = m.Config.MediaType
		p.manifest(m, "", c.content)
	}
	empty := ocispec.Manifest{Subject: &subject, ArtifactType: "application/vnd.dev.cosign.artifact.sig.v1+json"}
	p.manifest(empty, "")
	formats, others := claimsOf(p.find(subject, collect.Options{}))
	if !slices.Equal(formats, []string{"cosign-attestation", "cosign-signature"}) || len(others) != 1 || others[0].Err == nil {
		t.Errorf("%v %+v", formats, others)
	}
}

func TestLegacyLimits(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	many := make([]ocispec.Descriptor, 7)
	contents := make([]string, len(many))
	for i := range many {
		many[i], contents[i] = signatureLayer("AAAA"), simplePayload
	}
	p.manifest(layers(many...), legacyTag(subject, ".sig"), contents...)
	p.manifest(layers(attestationLayer()), legacyTag(subject, ".att"), dsseEnvelope+strings.Repeat(" ", 2000))
	formats, others := claimsOf(p.find(subject, collect.Options{MaxLayers: 5, MaxBundle: 1000}))
	if len(formats) != 5 || len(others) != 2 {
		t.Fatalf("%v %+v", formats, others)
	}
	text := fmt.Sprint(others[0].Err, others[1].Err)
	if !strings.Contains(text, "2 of its 7 signatures and attestations were not read") || !strings.Contains(text, "at most 1000 are read") {
		t.Error(text)
	}
}

// What is wrong with a tag is said, and does not hide the other tags.
func TestBrokenLegacyTag(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := p.image("v1")
	p.manifest(layers(signatureLayer("AAAA")), legacyTag(subject, ".sig"), simplePayload)
	p.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".att") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}
	formats, others := claimsOf(p.find(subject, collect.Options{}))
	if !slices.Equal(formats, []string{"cosign-signature"}) || len(others) != 1 || others[0].Err == nil || others[0].Format != collect.FormatCosignAttestation {
		t.Errorf("%v %+v", formats, others)
	}
}
