package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// TestForeignClient: another's client pushes a graph, lists referrers, mounts,
// pulls and deletes.
func TestForeignClient(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	ctx := t.Context()
	repo, err := remote.NewRepository(strings.TrimPrefix(c.url, "http://") + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	if err := repo.SetReferrersCapability(true); err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	layer, err := oras.PushBytes(ctx, store, "text/plain", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(kind string, subject *ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
		t.Helper()
		d, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, kind,
			oras.PackManifestOptions{Layers: layers, Subject: subject, ManifestAnnotations: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	image := pack("application/x-image", nil, layer)
	sig := pack("application/x-signature", &image, layer)
	if err := store.Tag(ctx, sig, "sig"); err != nil {
		t.Fatal(err)
	}
	if _, err := oras.Copy(ctx, store, "sig", repo, "", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	if err := repo.Tag(ctx, image, "v1"); err != nil {
		t.Fatal(err)
	}
	got, err := repo.Resolve(ctx, "v1")
	if err != nil || got.Digest != image.Digest {
		t.Fatalf("%v %v", got, err)
	}
	var seen []ocispec.Descriptor
	err = repo.Referrers(ctx, image, "application/x-signature", func(r []ocispec.Descriptor) error {
		seen = append(seen, r...)
		return nil
	})
	if err != nil || len(seen) != 1 || seen[0].Digest != sig.Digest || seen[0].ArtifactType != "application/x-signature" || seen[0].Annotations["k"] != "v" {
		t.Fatalf("referrers %+v, %v", seen, err)
	}
	other, err := remote.NewRepository(strings.TrimPrefix(c.url, "http://") + "/team/other")
	if err != nil {
		t.Fatal(err)
	}
	other.PlainHTTP = true
	unread := func() (io.ReadCloser, error) { return nil, fmt.Errorf("not mounted but copied") }
	if err := other.Mount(ctx, layer, "team/app", unread); err != nil {
		t.Fatal(err)
	}
	data, err := content.FetchAll(ctx, other.Blobs(), layer)
	if err != nil || !bytes.Equal(data, []byte("hello")) {
		t.Fatalf("%q %v", data, err)
	}
	if err := repo.Delete(ctx, image); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Resolve(ctx, "v1"); err == nil {
		t.Error("deleted and still there")
	}
}

// BenchmarkPush is what signing costs here: a blob, a manifest with a subject.
func BenchmarkPush(b *testing.B) {
	c := start(b, b.TempDir(), registry.Config{})
	subject := manifest("layer", "")
	for _, data := range []string{"{}", "layer"} {
		c.pushBlob("app", data)
	}
	for i := 0; b.Loop(); i++ {
		c.pushBlob("app", fmt.Sprint("bundle ", i))
		m := manifest("layer", fmt.Sprintf(`,"subject":%s,"annotations":{"n":"%d"}`, desc(ociManifest, subject), i))
		c.do("PUT", "/v2/app/manifests/"+string(evidence.SHA256([]byte(m))), ociManifest, m)
	}
}
