package registry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// cosign save lists the image only and does not tag it; what is attached is
// found through the manifests' subject.
func TestLayoutAsCosignSavesIt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	repo, _ := open(t, "oci:"+dir+":v1", registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	if _, err := attachBundle(ctx, repo, subject, `{}`); err != nil {
		t.Fatal(err)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"annotations":{"kind":"dev.cosignproject.cosign/image"}}]}`,
		subject.MediaType, subject.Size, subject.Digest)
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	saved, r := open(t, "oci:"+dir, registry.Options{})
	got, err := saved.Resolve(ctx, r)
	if err != nil || got.Digest != subject.Digest {
		t.Fatalf("%v, %v", got, err)
	}
	if list, err := saved.Referrers(ctx, got); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestLayoutConcurrentWriters(t *testing.T) {
	t.Parallel()
	ref := "oci:" + t.TempDir() + ":v1"
	repo, r := open(t, ref, registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			own, _ := open(t, ref, registry.Options{})
			if _, err := attachBundle(t.Context(), own, subject, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	data, err := os.ReadFile(filepath.Join(r.Dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil || len(index.Manifests) != 9 {
		t.Errorf("%d entries of 9, %v", len(index.Manifests), err)
	}
	if list, err := repo.Referrers(t.Context(), subject); err != nil || len(list) != 8 {
		t.Errorf("%d of 8 found, %v", len(list), err)
	}
}

func TestLayoutRefusals(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, dir, name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string, image ocispec.Descriptor)
		want  string
	}{
		"no folder":     {func(t *testing.T, dir string, _ ocispec.Descriptor) { _ = os.RemoveAll(dir) }, "there is no folder"},
		"no oci-layout": {func(t *testing.T, dir string, _ ocispec.Descriptor) { _ = os.Remove(dir + "/oci-layout") }, "no file oci-layout"},
		"other version": {func(t *testing.T, dir string, _ ocispec.Descriptor) {
			write(t, dir, "oci-layout", `{"imageLayoutVersion":"2.0.0"}`)
		}, "version is not 1.0.0"},
		"broken index": {func(t *testing.T, dir string, _ ocispec.Descriptor) { write(t, dir, "index.json", `{"manifests":`) }, "index.json"},
		"tag given twice": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			entry := func(d string) string {
				return fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":%q,"annotations":{"org.opencontainers.image.ref.name":"v1"}}`, image.MediaType, d)
			}
			write(t, dir, "index.json", `{"schemaVersion":2,"manifests":[`+entry(image.Digest.String())+","+entry("sha256:"+hex64)+`]}`)
		}, "gives the tag v1 to 2 manifests"},
		"blob cut short": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			write(t, dir, "blobs/sha256/"+image.Digest.Encoded(), "{}")
		}, "other bytes than asked for"},
		"blob changed": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			write(t, dir, "blobs/sha256/"+image.Digest.Encoded(), strings.Repeat(" ", int(image.Size)))
		}, "the digest does not match"},
		"blob missing": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			if err := os.Remove(dir + "/blobs/sha256/" + image.Digest.Encoded()); err != nil {
				t.Fatal(err)
			}
		}, "no manifest sha256:"},
		"blob is a pipe": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			file := dir + "/blobs/sha256/" + image.Digest.Encoded()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(file, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"blob is a link out of the folder": {func(t *testing.T, dir string, image ocispec.Descriptor) {
			file := dir + "/blobs/sha256/" + image.Digest.Encoded()
			_ = os.Remove(file)
			if err := os.Symlink("/etc/passwd", file); err != nil {
				t.Fatal(err)
			}
		}, "path escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			repo, r := open(t, "oci:"+dir+":v1", registry.Options{})
			image := pushImage(t, repo, "v1", "a")
			c.spoil(t, dir, image)
			// Already when it is resolved: what is attached may be whole.
			_, err := repo.Resolve(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if fault.KindOf(err) != fault.Failure {
				t.Errorf("kind %d", fault.KindOf(err))
			}
		})
	}
}

// Several images, no name: the caller has to say which.
func TestLayoutWithSeveralImages(t *testing.T) {
	t.Parallel()
	repo, r := open(t, "oci:"+t.TempDir(), registry.Options{})
	pushImage(t, repo, "v1", "a")
	pushImage(t, repo, "v2", "b")
	if _, err := repo.Resolve(t.Context(), r); err == nil || !strings.Contains(fault.HintOf(err), "oci:DIR:TAG") {
		t.Errorf("%v", err)
	}
}

func TestLayoutRefusesWrongBlob(t *testing.T) {
	t.Parallel()
	repo, r := open(t, "oci:"+t.TempDir(), registry.Options{})
	desc := registry.Describe("x/y", []byte("right"))
	for _, wrong := range []string{"", "righ", "wrong", "right and more"} {
		if err := repo.PushBlobFrom(t.Context(), desc, bytes.NewReader([]byte(wrong))); err == nil {
			t.Errorf("%q was taken for %q", wrong, "right")
		}
	}
	left, err := filepath.Glob(r.Dir + "/blobs/sha256/*")
	more, _ := filepath.Glob(r.Dir + "/blobs/sha256/.*")
	if err != nil || len(left)+len(more) != 0 {
		t.Errorf("left behind: %v %v, %v", left, more, err)
	}
}

// An index.json that is JSON and no object is an error, not a crash.
func TestLayoutIndexIsAnObject(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"null", "[]", `"x"`, "0", "true", ""} {
		dir := t.TempDir()
		repo, _ := open(t, "oci:"+dir+":v1", registry.Options{})
		pushImage(t, repo, "v1", "a")
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		data := []byte(`{}`)
		if err := repo.PushManifest(t.Context(), registry.Describe(ocispec.MediaTypeImageManifest, data), data, "v2"); err == nil || !strings.Contains(err.Error(), "index.json") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// A blob that is there with other bytes of the same length is not built upon.
func TestLayoutPushRepairsDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, _ := open(t, "oci:"+dir+":v1", registry.Options{})
	pushImage(t, repo, "v1", "a")
	desc := registry.Describe("text/plain", []byte("bundle"))
	file := filepath.Join(dir, "blobs", "sha256", desc.Digest.Encoded())
	if err := os.WriteFile(file, []byte("Bundle"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.PushBlob(t.Context(), "text/plain", []byte("bundle")); err != nil {
		t.Fatal(err)
	}
	if got, err := repo.Blob(t.Context(), desc, 100); err != nil || string(got) != "bundle" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLayoutWritesStayInside: a layout that somebody else made cannot make us
// write or delete elsewhere.
func TestLayoutWritesStayInside(t *testing.T) {
	t.Parallel()
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"x/y","digest":"sha256:` + hex64 + `","size":1},"layers":[]}`)
	desc := registry.Describe(ocispec.MediaTypeImageManifest, data)
	index := `{"schemaVersion":2,"manifests":[]}`
	for name, spoil := range map[string]func(dir, outside string) error{
		"blobs is a link": func(dir, outside string) error {
			return errors.Join(os.RemoveAll(dir+"/blobs"), os.Symlink(outside, dir+"/blobs"))
		},
		"blobs/sha256 is a link": func(dir, outside string) error {
			return errors.Join(os.RemoveAll(dir+"/blobs/sha256"), os.Symlink(outside+"/sha256", dir+"/blobs/sha256"))
		},
		"blobs is a relative link": func(dir, outside string) error {
			return errors.Join(os.RemoveAll(dir+"/blobs"), os.Symlink("../outside", dir+"/blobs"))
		},
		"blobs leads nowhere yet": func(dir, outside string) error {
			return errors.Join(os.RemoveAll(dir+"/blobs"), os.Symlink(outside+"/new", dir+"/blobs"))
		},
		"index.json is a link": func(dir, outside string) error {
			return errors.Join(os.Remove(dir+"/index.json"), os.Symlink(outside+"/index.json", dir+"/index.json"))
		},
		"oci-layout is a link": func(dir, outside string) error {
			return errors.Join(os.Remove(dir+"/oci-layout"), os.Symlink(outside+"/oci-layout", dir+"/oci-layout"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir, outside := filepath.Join(base, "layout"), filepath.Join(base, "outside")
			if err := os.MkdirAll(outside+"/sha256", 0o755); err != nil {
				t.Fatal(err)
			}
			victim := outside + "/sha256/" + desc.Digest.Encoded()
			for file, content := range map[string]string{victim: "a file of somebody", outside + "/index.json": index,
				outside + "/oci-layout": `{"imageLayoutVersion":"1.0.0"}`} {
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			repo, _ := open(t, "oci:"+dir+":v1", registry.Options{})
			subject := pushImage(t, repo, "v1", "a")
			if err := spoil(dir, outside); err != nil {
				t.Fatal(err)
			}
			_, blobErr := repo.PushBlob(t.Context(), "text/plain", []byte("bundle"))
			pushErr := repo.PushManifest(t.Context(), desc, data, "v2")
			_, attachErr := attachBundle(t.Context(), repo, subject, `{}`)
			deleteErr := repo.DeleteManifest(t.Context(), desc)
			if pushErr == nil || attachErr == nil || deleteErr == nil || blobErr == nil && strings.HasPrefix(name, "blobs") {
				t.Errorf("written: %v; %v; %v; %v", blobErr, pushErr, attachErr, deleteErr)
			}
			if got, err := os.ReadFile(victim); err != nil || string(got) != "a file of somebody" {
				t.Errorf("the file outside: %q, %v", got, err)
			}
			found := 0
			_ = filepath.WalkDir(outside, func(string, os.DirEntry, error) error { found++; return nil })
			if got, _ := os.ReadFile(outside + "/index.json"); found != 5 || string(got) != index {
				t.Errorf("%d files and folders outside, want 5", found)
			}
		})
	}
}

// TestLayoutLinksInside: links that stay in the folder are fine.
func TestLayoutLinksInside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/store", 0o755), os.Symlink("store", dir+"/blobs")); err != nil {
		t.Fatal(err)
	}
	repo, r := open(t, "oci:"+dir+":v1", registry.Options{})
	subject := pushImage(t, repo, "v1", "a")
	if _, err := attachBundle(t.Context(), repo, subject, `{}`); err != nil {
		t.Fatal(err)
	}
	if got, err := repo.Resolve(t.Context(), r); err != nil || got.Digest != subject.Digest {
		t.Errorf("%v, %v", got, err)
	}
	if list, err := repo.Referrers(t.Context(), subject); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := repo.DeleteManifest(t.Context(), subject); err != nil {
		t.Error(err)
	}
	st, err := os.Stat(dir + "/store/sha256")
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st, err)
	}
}

// Signatures that cosign save put beside an image stand in index.json without a
// tag; they are found as what lay under the tag, for that image alone.
func TestLayoutOfCosignSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ref, err := registry.ParseRef("oci:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	push := func(n int) ocispec.Descriptor {
		m := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":%q,"size":2},"layers":[],"annotations":{"n":"%d"}}`,
			ocispec.MediaTypeImageManifest, ociartifact.EmptyConfigDescriptor().Digest, n))
		d := registry.Describe(ocispec.MediaTypeImageManifest, m)
		if err := repo.PushManifest(t.Context(), d, m, ""); err != nil {
			t.Fatal(err)
		}
		return d
	}
	image, sigs, atts := push(1), push(2), push(3)
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for kind, d := range map[string]ocispec.Descriptor{"image": image, "sigs": sigs, "atts": atts} {
		d.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/" + kind}
		index.Manifests = append(index.Manifests, d)
	}
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := repo.Resolve(t.Context(), ref); err != nil || d.Digest != image.Digest {
		t.Errorf("%v %v", d, err)
	}
	tag := "sha256-" + image.Digest.Encoded()
	for text, want := range map[string]string{tag + ".sig": sigs.Digest.String(), tag + ".att": atts.Digest.String(), tag + ".sbom": "", tag: "",
		"sha256-" + sigs.Digest.Encoded() + ".sig": ""} {
		ref.Tag = text
		d, err := repo.Resolve(t.Context(), ref)
		if (err == nil) != (want != "") || want != "" && d.Digest.String() != want {
			t.Errorf("%s: %v %v", text, d, err)
		}
	}
}
