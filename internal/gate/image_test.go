package gate_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// tree is an index of two images as BuildKit makes one, with provenance for each.
type tree struct {
	w            *world
	name         string
	index        string // references by digest
	amd64, arm64 string
	att          string // the attestation manifest about amd64
}

func (w *world) tree(name string, change func(statement *evidence.Statement)) *tree {
	w.t.Helper()
	t := &tree{w: w, name: name}
	client := registry.NewClient(registry.Options{})
	at := func(tag string) registry.Ref {
		ref, err := registry.ParseRef(w.Info.Registry + "/" + name + ":" + tag)
		if err != nil {
			w.t.Fatal(err)
		}
		return ref
	}
	byDigest := func(d digest.Digest) string { return at("v1").WithDigest(evidence.Digest(d)).String() }
	var images, attestations []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		d, err := testimage.Push(w.t.Context(), client, at(arch), testimage.Image{OS: "linux", Arch: arch, Layers: [][]testimage.File{{{Path: "a", Data: []byte(name + arch)}}}})
		if err != nil {
			w.t.Fatal(err)
		}
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		images = append(images, d)
		a := w.provenance(at(arch+"-att"), d.Digest, change)
		a.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", attestation.AnnotationAbout: d.Digest.String()}
		attestations = append(attestations, a)
	}
	d, err := testimage.PushIndex(w.t.Context(), client, at("v1"), append(images, attestations...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	t.index, t.amd64, t.arm64, t.att = byDigest(d.Digest), byDigest(images[0].Digest), byDigest(images[1].Digest), byDigest(attestations[0].Digest)
	return t
}

// provenance pushes an attestation manifest of the older form, without a subject.
func (w *world) provenance(ref registry.Ref, about digest.Digest, change func(*evidence.Statement)) ocispec.Descriptor {
	w.t.Helper()
	repo, err := registry.NewClient(registry.Options{}).Open(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	st := evidence.Statement{Type: evidence.StatementV1, PredicateType: evidence.PredicateSLSA1, Predicate: []byte(`{"runDetails":{"builder":{"id":"https://github.com/hallmark-dev/hallmark/builder/local/v1"}}}`),
		Subject: []evidence.StatementSubject{{Name: "pkg:docker/app", Digest: map[string]string{"sha256": about.Encoded()}}}}
	if change != nil {
		change(&st)
	}
	data, err := json.Marshal(st)
	if err != nil {
		w.t.Fatal(err)
	}
	layer, err := repo.PushBlob(w.t.Context(), attestation.StatementMediaType, data)
	if err != nil {
		w.t.Fatal(err)
	}
	layer.Annotations = map[string]string{attestation.AnnotationPredicate: st.PredicateType}
	config, err := repo.PushBlob(w.t.Context(), ocispec.MediaTypeImageConfig, []byte(ociartifact.EmptyConfig))
	if err != nil {
		w.t.Fatal(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
	m.SchemaVersion = 2
	d, err := testimage.PushManifest(w.t.Context(), repo, ref.Tag, m.MediaType, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) sign(images ...string) {
	for _, image := range images {
		w.attach(image, w.signed(image))
	}
}

func (w *world) ask(image string, q gate.Requirements, change func(*gate.Request)) (gate.Result, error) {
	w.t.Helper()
	ref, at := w.open(image)
	r := gate.Request{Repo: at.Repo, Ref: ref, Verifier: w.verifier, Policy: q}
	if change != nil {
		change(&r)
	}
	return gate.Image(w.t.Context(), r)
}

// TestIndexes: a signature of an index covers what it lists, never the other way
// round, and the caller says whether any or all must be signed.
func TestIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole, parts, both, half, none := w.tree("whole", nil), w.tree("parts", nil), w.tree("both", nil), w.tree("half", nil), w.tree("none", nil)
	w.sign(whole.index, parts.amd64, parts.arm64, both.index, both.amd64, both.arm64, half.amd64)
	platform := func(p string) func(*gate.Request) { return func(r *gate.Request) { r.Platform = p } }
	cover := func(c gate.Coverage) func(*gate.Request) { return func(r *gate.Request) { r.Images = c } }
	for name, tc := range map[string]struct {
		image  string
		change func(*gate.Request)
		code   string // "" allows
	}{
		"index":                         {whole.index, nil, ""},
		"index of signed images":        {parts.index, nil, "NOT_SIGNED"},
		"image of a signed index, bare": {whole.amd64, nil, "NOT_SIGNED"},
		"platform of a signed index":    {whole.index, platform("linux/arm64"), ""},
		"signed platform":               {half.index, platform("linux/amd64"), ""},
		"unsigned platform":             {half.index, platform("linux/arm64"), "NOT_SIGNED"},
		"any: the index":                {whole.index, cover(gate.CoverAny), ""},
		"any: its images":               {parts.index, cover(gate.CoverAny), ""},
		"any: one of them":              {half.index, cover(gate.CoverAny), "NOT_SIGNED"},
		"any: nothing":                  {none.index, cover(gate.CoverAny), "NOT_SIGNED"},
		"all: everything":               {both.index, cover(gate.CoverAll), ""},
		"all: only the index":           {whole.index, cover(gate.CoverAll), "NOT_SIGNED"},
		"all: only the images":          {parts.index, cover(gate.CoverAll), "NOT_SIGNED"},
		"one image with any":            {parts.amd64, cover(gate.CoverAny), ""},
		"one image, unsigned, with any": {none.amd64, cover(gate.CoverAny), "NOT_SIGNED"},
		"stranger's demand of the index": {whole.index, func(r *gate.Request) {
			r.Platform = "linux/arm64"
			r.Policy = gate.Requirements{Identities: []policy.Identity{{Subject: "mallory@example.org", Issuer: w.Info.Issuer}}}
		}, "WRONG_IDENTITY"},
	} {
		r, err := w.ask(tc.image, w.byRita(), tc.change)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case r.Decision.Allowed != (tc.code == "") || tc.code != "" && r.Decision.Reasons[0].Code != tc.code:
			t.Errorf("%s: %+v", name, r.Decision)
		}
	}
	r, err := w.ask(parts.index, w.byRita(), cover(gate.CoverAny))
	if err != nil || len(r.Decision.Warnings) != 1 || r.Decision.Warnings[0].Code != gate.CodeIndexUnsigned || len(r.Images) != 2 || r.Images[0].Platform != "linux/amd64" {
		t.Errorf("%+v %v", r.Decision, err)
	}
	r, err = w.ask(whole.index, w.byRita(), platform("linux/arm64"))
	if err != nil || !strings.HasSuffix(whole.arm64, string(r.Subject.Digest)) || !strings.HasSuffix(whole.index, string(r.Index)) || r.Input.Signatures[0].About != r.Index {
		t.Errorf("%+v %v", r, err)
	}
	for _, bad := range []struct{ image, platform string }{{whole.index, "linux/s390x"}, {whole.amd64, "linux/amd64"}} {
		if _, err := w.ask(bad.image, w.byRita(), platform(bad.platform)); fault.KindOf(err) != fault.Usage {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestIndexInAnIndex: the signature of an index in the index does not stand for those
// of the images that it lists, whatever the outer one says that it is.
func TestIndexInAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inner := w.tree("nested", nil)
	ref, at := w.open(inner.index)
	_, signed := w.open(inner.amd64)
	signed.Desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	w.sign(inner.amd64, inner.index)
	for name, mediaType := range map[string]string{"said": ocispec.MediaTypeImageIndex, "called an image": ocispec.MediaTypeImageManifest} {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: at.Desc.Digest, Size: at.Desc.Size, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}}
		outer := ref
		outer.Tag, outer.Digest = strings.ReplaceAll(name, " ", "-"), ""
		d, err := testimage.PushIndex(t.Context(), registry.NewClient(registry.Options{}), outer, signed.Desc, desc)
		if err != nil {
			t.Fatal(err)
		}
		w.sign(outer.WithDigest(evidence.Digest(d.Digest)).String())
		r, err := w.ask(outer.String(), w.byRita(), func(r *gate.Request) { r.Images = gate.CoverAll })
		if err == nil && (r.Decision.Allowed || r.Decision.Reasons[0].Code != gate.CodeNestedIndex) {
			t.Errorf("%s: %+v", name, r.Decision)
		}
		r, err = w.ask(outer.String(), w.byRita(), func(r *gate.Request) { r.Images = gate.CoverAny })
		if name == "said" && (err != nil || !r.Decision.Allowed) {
			t.Errorf("any, %s: an index that contains it is signed: %+v %v", name, r.Decision, err)
		}
	}
}

// TestImageThatPosesAsAnAttestation: runtimes choose an index's entry by its platform
// alone, so calling an image an attestation manifest does not keep it from being judged.
func TestImageThatPosesAsAnAttestation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.tree("posing", nil)
	w.sign(good.arm64)
	client := registry.NewClient(registry.Options{})
	ref, arm64 := w.open(good.arm64)
	bad := ref
	bad.Tag, bad.Digest = "bad", ""
	d, err := testimage.Push(t.Context(), client, bad, testimage.Image{OS: "linux", Arch: "amd64", Layers: [][]testimage.File{{{Path: "a", Data: []byte("bad")}}}})
	if err != nil {
		t.Fatal(err)
	}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", attestation.AnnotationAbout: string(arm64.Digest())}
	arm64.Desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for name, p := range map[string]*ocispec.Platform{"platform": {OS: "linux", Architecture: "amd64"}, "none": nil} {
		d.Platform = p
		bad.Tag = "index-" + name
		if _, err := testimage.PushIndex(t.Context(), client, bad, d, arm64.Desc); err != nil {
			t.Fatal(err)
		}
		r, err := w.ask(bad.String(), w.byRita(), func(r *gate.Request) { r.Images = gate.CoverAny })
		if err != nil || r.Decision.Allowed {
			t.Errorf("%s: %+v %v", name, r.Decision, err)
		}
	}
}

// TestStatements: what a builder says counts where somebody signed what holds it,
// under that signer's name, and nowhere else.
func TestStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole, builder, image, none := w.tree("whole", nil), w.tree("builder", nil), w.tree("image", nil), w.tree("none", nil)
	other := w.tree("other", func(st *evidence.Statement) { st.Subject[0].Digest["sha256"] = strings.Repeat("0", 64) })
	w.sign(whole.index, builder.att, image.amd64, image.arm64, other.index)
	q := w.byRita()
	q.AttestationType = evidence.PredicateSLSA1
	stranger := q
	stranger.Identities = []policy.Identity{{Subject: "mallory@example.org", Issuer: w.Info.Issuer}}
	of := func(platform string) func(*gate.Request) {
		return func(r *gate.Request) { r.Platform, r.Statements = platform, []string{evidence.PredicateSLSA1} }
	}
	for name, tc := range map[string]struct {
		image  string
		q      gate.Requirements
		change func(*gate.Request)
		code   string // "" allows
	}{
		"signed index, platform":           {whole.index, q, of("linux/amd64"), ""},
		"signed index, all of its images":  {whole.index, q, of(""), ""},
		"signed attestation manifest":      {builder.index, q, of("linux/amd64"), ""},
		"of the other platform":            {builder.index, q, of("linux/arm64"), "NO_ATTESTATION"},
		"of one of two":                    {builder.index, q, of(""), "NO_ATTESTATION"},
		"signed image":                     {image.index, q, of("linux/amd64"), "NO_ATTESTATION"},
		"nobody signed":                    {none.index, q, of("linux/amd64"), "NO_ATTESTATION"},
		"somebody else":                    {whole.index, stranger, of("linux/amd64"), "WRONG_IDENTITY"},
		"about something else":             {other.index, q, of("linux/amd64"), "WRONG_SUBJECT"},
		"not asked for":                    {whole.index, q, func(r *gate.Request) { r.Platform = "linux/amd64" }, "NO_ATTESTATION"},
		"no signature for want of one":     {builder.index, w.byRita(), of("linux/amd64"), "NOT_SIGNED"},
		"signature of the index and asked": {whole.index, w.byRita(), of("linux/amd64"), ""},
	} {
		r, err := w.ask(tc.image, tc.q, tc.change)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case r.Decision.Allowed != (tc.code == "") || tc.code != "" && r.Decision.Reasons[0].Code != tc.code:
			t.Errorf("%s: %+v", name, r.Decision)
		}
	}
	r, err := w.ask(builder.index, w.byRita(), of("linux/amd64"))
	if err != nil || !strings.Contains(r.Decision.Reasons[0].Hint, "--attestation") || len(r.Unsigned) != 0 {
		t.Errorf("%+v %v", r.Decision, err)
	}
	r, err = w.ask(none.index, q, of("linux/amd64"))
	if err != nil || len(r.Unsigned) != 1 || len(r.Input.Attestations) != 0 {
		t.Errorf("%+v %v", r.Unsigned, err)
	}
	r, err = w.ask(whole.index, w.byRita(), of(""))
	if err != nil || len(r.Inside) != 2 || len(r.Inside[0].Attestations) != 1 || r.Inside[0].Attestations[0].Format != evidence.FormatBuildKit || r.Inside[0].Attestations[0].Signer.Identity != rita {
		t.Errorf("%+v %v", r.Inside, err)
	}
}
