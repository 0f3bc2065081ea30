package collect_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
)

// Signatures on attestation manifests are found when they are asked for, and say
// what they are about.
func TestBelowAttestations(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	index, image, attestationManifest := p.index("v1")
	signature := p.bundle(attestationManifest, cosignBundle)
	if formats, _ := claimsOf(p.find(index, collect.Options{})); len(formats) != 0 {
		t.Errorf("unasked: %v", formats)
	}
	for name, subject := range map[string]ocispec.Descriptor{"index": index, "image": image} {
		clear(p.requests)
		items := p.find(subject, collect.Options{Attestations: true})
		var about, on []evidence.Digest
		for _, it := range items {
			switch {
			case it.Claim != nil:
				on = append(on, it.Subject)
				if it.Where.Digest != evidence.Digest(signature.Digest) {
					t.Errorf("%s: %+v", name, it)
				}
			case it.Format == collect.FormatBuildKit && it.Err == nil:
				about = append(about, evidence.Digest(it.About))
				if len(it.Statements) != 1 || it.Note == "" || it.Where.Digest != evidence.Digest(attestationManifest.Digest) {
					t.Errorf("%s: %+v", name, it)
				}
			default:
				t.Errorf("%s: %+v", name, it)
			}
		}
		if !slices.Equal(on, []evidence.Digest{evidence.Digest(attestationManifest.Digest)}) || !slices.Equal(about, []evidence.Digest{evidence.Digest(image.Digest)}) {
			t.Errorf("%s: signed %v, attested %v", name, on, about)
		}
		p.count()
	}
}

// An index that calls something an attestation manifest does not make it one.
func TestLyingIndex(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, first, real := p.index("v1")
	second := p.manifest(ocispec.Manifest{Annotations: map[string]string{"n": "2"}}, "")
	plain := p.manifest(ocispec.Manifest{Annotations: map[string]string{"n": "3"}}, "")
	entry := func(d ocispec.Descriptor, about string) ocispec.Descriptor {
		d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", attestation.AnnotationAbout: about}
		return d
	}
	var x ocispec.Index
	x.SchemaVersion, x.MediaType = 2, ocispec.MediaTypeImageIndex
	x.Manifests = []ocispec.Descriptor{first, second, entry(real, second.Digest.String()), entry(plain, first.Digest.String()), entry(real, "sha256:"+strings.Repeat("0", 64))}
	x.Manifests[0].Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	index := p.push(x, x.MediaType, nil, "lying")
	items := p.find(index, collect.Options{Attestations: true})
	var texts []string
	for _, it := range items {
		if it.Err == nil || len(it.Statements) > 0 {
			t.Errorf("%+v", it)
			continue
		}
		texts = append(texts, it.Err.Error())
	}
	if text := strings.Join(texts, "\n"); len(texts) != 2 || !strings.Contains(text, "the index says that it is about") || !strings.Contains(text, "it has no statements") {
		t.Errorf("%s", text)
	}
	read, err := p.listed(index)
	if err != nil || len(read.Images) != 1 || len(read.Others) != 1 || len(read.Attestations) != 2 || read.Attestations[0].About != evidence.Digest(second.Digest) {
		t.Errorf("%+v %v", read, err)
	}
	if read, err := p.listed(first); err != nil || len(read.Images)+len(read.Attestations)+len(read.Others) != 0 {
		t.Errorf("an image: %+v %v", read, err)
	}
}

// listed is what the manifest lists.
func (p *place) listed(desc ocispec.Descriptor) (*collect.Index, error) {
	c, err := collect.Collect(p.t.Context(), p.repo, desc, collect.Options{})
	if err != nil {
		return nil, err
	}
	return c.Index(p.t.Context())
}

func TestReadStatement(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	image := p.image("v1")
	text := func(predicateType string) string {
		data, err := json.Marshal(map[string]any{"_type": evidence.StatementV1, "predicateType": predicateType, "predicate": map[string]any{},
			"subject": []any{map[string]any{"name": "pkg:docker/app", "digest": map[string]string{"sha256": image.Digest.Encoded()}}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	layer := func(predicateType string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: attestation.StatementMediaType, Annotations: map[string]string{attestation.AnnotationPredicate: predicateType}}
	}
	p.manifest(ocispec.Manifest{ArtifactType: attestation.ArtifactType, Subject: &image, Layers: []ocispec.Descriptor{
		layer(evidence.PredicateSLSA02), layer(evidence.PredicateSPDX), layer(evidence.PredicateSLSA1), layer("")}}, "",
		text(evidence.PredicateSLSA02), text(evidence.PredicateSPDX), text(evidence.PredicateSPDX), text("https://example.com/other"))
	var items []collect.Item
	for _, it := range p.find(image, collect.Options{}) {
		if it.Format == collect.FormatBuildKit {
			items = append(items, it)
		}
	}
	if len(items) != 1 || items[0].About != image.Digest.String() || len(items[0].Statements) != 4 {
		t.Fatalf("%+v", items)
	}
	for i, want := range []string{attestation.KindProvenance, attestation.KindSBOM, "its layer says", ""} {
		st, err := collect.ReadStatement(t.Context(), p.repo, items[0].Statements[i])
		if strings.Contains(want, "layer") {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d: %v", i, err)
			}
			continue
		}
		if err != nil || st.Kind != want || !st.IsAbout(evidence.Digest(image.Digest)) || st.IsAbout(evidence.SHA256(nil)) || len(st.Raw) == 0 {
			t.Errorf("%d: %+v %v", i, st, err)
		}
	}
	large := items[0].Statements[0]
	large.Layer.Size = 64<<20 + 1
	if _, err := collect.ReadStatement(t.Context(), p.repo, large); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}
