package build_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// TestMergeIsAsOneDaemon: what is put together of two builds of a platform each is what one
// build of both makes: the same images, the same index but for the provenance, which has
// its own times.
func TestMergeIsAsOneDaemon(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /what\n", "amd64": "one\n", "arm64": "two\n", "arm": "three\n"})
	r := request(t, w, "app/parts", c)
	r.Options.Annotations = map[string]string{"manifest,index:team": "x", "index:only": "y", "manifest:image": "z"}
	all := []string{"linux/arm64", "linux/amd64", "linux/arm/v7"}
	r.Options.Platforms = all
	one := run(t, w, r)
	pieces := map[string]*build.Piece{}
	for _, p := range []string{"linux/arm/v7", "linux/amd64", "linux/arm64"} { // whichever is ready first
		r.Options.Platforms = []string{p}
		made := run(t, w, r)
		pieces[p] = &build.Piece{Name: p, Platform: p, Index: evidence.Digest(made.Index.Digest)}
	}
	r.Options.Platforms = all
	merged, err := build.Merge(t.Context(), r, []*build.Piece{pieces[all[0]], pieces[all[1]], pieces[all[2]]})
	if err != nil {
		t.Fatal(err)
	}
	if got := indexOf(t, merged.IndexBytes); !cmp.Equal(got, indexOf(t, one.IndexBytes)) {
		t.Error(cmp.Diff(indexOf(t, one.IndexBytes), got))
	}
	if len(merged.Images) != 3 || !cmp.Equal(merged.Images, one.Images) || len(merged.Attestations) != 3 {
		t.Errorf("%+v", merged)
	}
	there, err := r.Repo.Resolve(t.Context(), r.Image.WithDigest(evidence.Digest(merged.Index.Digest)))
	if err != nil || there.Size != merged.Index.Size {
		t.Errorf("%+v, %v", there, err)
	}
	// In another repository it is put together again, of what is there.
	again, err := build.Again(t.Context(), r, merged)
	if err != nil || again.Index.Digest != merged.Index.Digest {
		t.Errorf("%+v, %v", again, err)
	}
	elsewhere := request(t, w, "app/elsewhere", c)
	elsewhere.Options = r.Options
	var no *trusted.Denied
	if _, err = build.Again(t.Context(), elsewhere, merged); !errors.As(err, &no) || no.Reasons[0].Code != "PART_IMAGE" {
		t.Errorf("what is not in the repository: %v", err)
	}
}

// indexOf is an index without the digests of what has times in it.
func indexOf(t *testing.T, data []byte) ocispec.Index {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	if again, err := json.MarshalIndent(index, "", "  "); err != nil || !slices.Equal(again, data) {
		t.Errorf("it is written otherwise: %s", data)
	}
	for i := range index.Manifests {
		if m := &index.Manifests[i]; m.Annotations["vnd.docker.reference.type"] != "" {
			m.Digest, m.Size = "", 0
		}
	}
	return index
}
