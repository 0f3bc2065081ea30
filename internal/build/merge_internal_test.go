package build

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// TestMergeRefuses: a part is one image, for its platform, with a provenance of this build
// over it, and is in the registry; else nothing is put together.
func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	p := newPushed(t)
	p.r.Options.Annotations = map[string]string{"index:team": "x"}
	index := func(annotations map[string]string, manifests ...ocispec.Descriptor) evidence.Digest {
		i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests, Annotations: annotations}
		i.SchemaVersion = 2
		return evidence.Digest(p.manifest(ocispec.MediaTypeImageIndex, i).Digest)
	}
	team := map[string]string{"team": "x"}
	a, b := p.image("amd64"), p.image("arm64")
	slsa := evidence.PredicateSLSA1
	of := func(d ocispec.Descriptor) ocispec.Descriptor { return p.attestation(d, slsa, statement(d, "", "")) }
	good := []*Piece{{Name: "1", Platform: "linux/amd64", Index: index(team, a, of(a))}, {Name: "2", Platform: "linux/arm64", Index: index(team, b, of(b))}}
	res, err := Merge(t.Context(), p.r, good)
	if err != nil || len(res.Images) != 2 || len(res.Attestations) != 2 {
		t.Fatal(res, err)
	}
	for name, tc := range map[string]struct {
		index      evidence.Digest
		policies   string
		code, want string
	}{
		"not there":            {evidence.SHA256([]byte("x")), "", part.CodeImage, "no such tag or manifest"},
		"no index":             {evidence.Digest(b.Digest), "", part.CodeImage, "not an OCI index"},
		"another platform":     {index(team, a, of(a)), "", part.CodePlatform, "linux/amd64, and the part is for linux/arm64"},
		"two images":           {index(team, a, b, of(a), of(b)), "", part.CodeImage, "it has 2 images"},
		"no provenance":        {index(team, b), "", part.CodeImage, "1 images with 0"},
		"of another image":     {index(team, b, of(a)), "", part.CodeImage, "not in the index"},
		"of another commit":    {index(team, b, p.attestation(b, slsa, statement(b, testCommit, strings.Repeat("2", 40)))), "", part.CodeImage, "it names commit"},
		"of another builder":   {index(team, b, p.attestation(b, slsa, statement(b, DefaultBuilderID, "https://github.com/x"))), "", part.CodeImage, "it names builder"},
		"other annotations":    {index(map[string]string{"team": "y"}, b, of(b)), "", part.CodeImage, "other annotations"},
		"no annotations":       {index(nil, b, of(b)), "", part.CodeImage, "other annotations"},
		"further annotations":  {index(map[string]string{"team": "x", "more": "y"}, b, of(b)), "", part.CodeImage, "other annotations"},
		"under other policies": {index(team, b, of(b)), "[]", part.CodeImage, "it names the source policies"},
	} {
		r := p.r
		if tc.policies != "" {
			r.Sources = &SourcePolicies{}
		}
		_, err := Merge(t.Context(), r, []*Piece{good[0], {Name: "2", Platform: "linux/arm64", Index: tc.index, Policies: tc.policies}})
		var d *trusted.Denied
		if !errors.As(err, &d) || len(d.Reasons) != 1 || d.Reasons[0].Code != tc.code || !strings.Contains(d.Reasons[0].Message, tc.want) || d.Reasons[0].Hint == "" {
			t.Errorf("%s: %v; want %s, %q", name, err, tc.code, tc.want)
		}
	}
	// Whether it is there cannot be found out: that is an error, and no denial.
	out := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }))
	defer out.Close()
	ref, err := registry.ParseRef(strings.TrimPrefix(out.URL, "http://") + "/app/x:1")
	if err != nil {
		t.Fatal(err)
	}
	p.r.Image = ref
	if p.r.Repo, err = registry.NewClient(registry.Options{}).Open(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	var no *trusted.Denied
	if _, err := Merge(t.Context(), p.r, good); err == nil || errors.As(err, &no) || !strings.HasPrefix(err.Error(), "part 1: ") {
		t.Errorf("%v", err)
	}
}
