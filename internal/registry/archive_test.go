package registry_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// tarEntry is a file of a tar archive unless header says otherwise.
type tarEntry struct {
	name, content string
	header        func(*tar.Header)
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: int64(len(e.content))}
		if e.header != nil {
			e.header(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func writeTar(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func blobEntry(content string) tarEntry {
	return tarEntry{name: "blobs/sha256/" + evidence.SHA256([]byte(content)).Hex(), content: content}
}

// savedLayout is an OCI layout with one image and a referrer of it.
func savedLayout(t testing.TB) (entries []tarEntry, image, referrer ocispec.Descriptor) {
	t.Helper()
	marshal := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	config := ociartifact.EmptyConfigDescriptor()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	text := marshal(m)
	image = registry.Describe(m.MediaType, []byte(text))
	m.Subject, m.ArtifactType = &image, evidence.BundleMediaType
	attached := marshal(m)
	referrer = registry.Describe(m.MediaType, []byte(attached))
	listed := image
	listed.Annotations = map[string]string{ocispec.AnnotationRefName: "v1", "io.containerd.image.name": "docker.io/library/app:v1"}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{listed}}
	index.SchemaVersion = 2
	dir := func(h *tar.Header) { h.Typeflag = tar.TypeDir }
	return []tarEntry{{"blobs/", "", dir}, {"./blobs/sha256/", "", dir}, blobEntry("{}"), blobEntry(text), blobEntry(attached),
		{"index.json", marshal(index), nil}, {"./oci-layout", `{"imageLayoutVersion":"1.0.0"}`, nil}}, image, referrer
}

func openArchive(t *testing.T, text string) (*registry.Repository, registry.Ref) {
	t.Helper()
	ref, err := registry.ParseRef(text)
	if err != nil {
		t.Fatal(err)
	}
	if ref.String() != text {
		t.Errorf("%q became %q", text, ref)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return repo, ref
}

// An archive with a layout answers as the layout's folder would, and is not written.
func TestArchive(t *testing.T) {
	t.Parallel()
	entries, image, referrer := savedLayout(t)
	file := writeTar(t, tarOf(t, append(entries, tarEntry{name: "manifest.json", content: "[]"})...))
	for _, scheme := range []string{"oci-archive:", "docker-archive:"} {
		for _, suffix := range []string{"", ":v1", "@" + image.Digest.String()} {
			repo, ref := openArchive(t, scheme+file+suffix)
			desc, err := repo.Resolve(t.Context(), ref)
			if err != nil || desc.Digest != image.Digest {
				t.Fatalf("%s: %v %v", ref, desc, err)
			}
			if data, err := repo.Manifest(t.Context(), desc); err != nil || evidence.SHA256(data) != evidence.Digest(image.Digest) {
				t.Errorf("%s: %v", ref, err)
			}
			list, err := repo.Referrers(t.Context(), desc)
			if err != nil || len(list) != 1 || list[0].Digest != referrer.Digest || list[0].How != registry.HowLayout {
				t.Errorf("%s: %+v %v", ref, list, err)
			}
			if repo.RefOf(image.Digest) != scheme+file+"@"+image.Digest.String() {
				t.Errorf("%s", repo.RefOf(image.Digest))
			}
		}
	}
	repo, ref := openArchive(t, "oci-archive:"+file+":v1")
	if tags, err := repo.Tags(t.Context()); err != nil || fmt.Sprint(tags) != "[v1]" {
		t.Errorf("%v %v", tags, err)
	}
	_, pushed := repo.PushBlob(t.Context(), "x/y", []byte("z"))
	m := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"x","digest":"%s","size":2},"layers":[],"subject":{"mediaType":"x","digest":"%s","size":1}}`, ocispec.MediaTypeImageManifest, ociartifact.EmptyConfigDescriptor().Digest, image.Digest))
	_, attached := repo.Attach(t.Context(), image, m)
	for name, err := range map[string]error{"blob": pushed, "attach": attached, "delete": repo.DeleteManifest(t.Context(), image),
		"manifest": repo.PushManifest(t.Context(), registry.Describe(ocispec.MediaTypeImageManifest, m), m, "v2")} {
		if err == nil || !strings.Contains(err.Error(), "archives are only read") || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	ref.Tag = "v2"
	if _, err := repo.Resolve(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "no such tag") {
		t.Errorf("%v", err)
	}
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	entries, image, _ := savedLayout(t)
	with := func(e ...tarEntry) []byte { return tarOf(t, append(e, entries...)...) }
	kind := func(flag byte, link string) func(*tar.Header) {
		return func(h *tar.Header) { h.Typeflag, h.Linkname = flag, link }
	}
	good := with()
	var many bytes.Buffer
	w := tar.NewWriter(&many)
	for i := range 100_001 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	long := tarOf(t, tarEntry{name: "a", content: strings.Repeat("x", 4096)})
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"two of a name":       {with(tarEntry{name: "./index.json", content: "{}"}), "two entries named"},
		"link of a name":      {with(tarEntry{"oci-layout", "", kind(tar.TypeSymlink, "x")}), "two entries named"},
		"way out":             {with(tarEntry{name: "../index.json", content: "{}"}), "leads elsewhere"},
		"way out and back":    {with(tarEntry{name: "blobs/../index2.json", content: "{}"}), "leads elsewhere"},
		"absolute":            {with(tarEntry{name: "/index.json", content: "{}"}), "leads elsewhere"},
		"two slashes":         {with(tarEntry{name: "blobs//x", content: "{}"}), "leads elsewhere"},
		"backslash":           {with(tarEntry{name: `blobs\x`, content: "{}"}), "leads elsewhere"},
		"link out":            {with(tarEntry{"link", "", kind(tar.TypeSymlink, "../../etc/passwd")}), "leads elsewhere"},
		"absolute link":       {with(tarEntry{"link", "", kind(tar.TypeSymlink, "/etc/passwd")}), "leads elsewhere"},
		"device":              {with(tarEntry{"dev", "", kind(tar.TypeChar, "")}), "device"},
		"pipe":                {with(tarEntry{"fifo", "", kind(tar.TypeFifo, "")}), "device"},
		"many entries":        {many.Bytes(), "more than 100000 entries"},
		"cut within a file":   {long[:1024], "it ends within"},
		"cut within a header": {good[:700], "broken"},
		"empty":               {nil, "empty"},
		"text":                {[]byte(strings.Repeat("text ", 1000)), "broken"},
		"gzip":                {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), "compressed"},
		"no layout":           {tarOf(t, tarEntry{name: "x"}), "no file oci-layout"},
		"link for oci-layout": {tarOf(t, tarEntry{name: "y", content: `{"imageLayoutVersion":"1.0.0"}`}, tarEntry{"oci-layout", "", kind(tar.TypeSymlink, "y")}), "no file oci-layout"},
		"layout version 2":    {tarOf(t, tarEntry{name: "oci-layout", content: `{"imageLayoutVersion":"2.0.0"}`}), "version"},
		"no index":            {tarOf(t, tarEntry{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`}), "index.json"},
		"sparse":              {with(tarEntry{"sparse", "", func(h *tar.Header) { h.Format = tar.FormatPAX; h.PAXRecords = map[string]string{"GNUx.sparse": "1"} }}), ""},
	} {
		repo, ref := openArchive(t, "oci-archive:"+writeTar(t, c.data))
		desc, err := repo.Resolve(t.Context(), ref)
		if c.want == "" {
			if err != nil || desc.Digest != image.Digest {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	// A blob that is not what its name says is refused when it is read.
	forged := bytes.Replace(good, []byte(`"layers":[]`), []byte(`"Layers":[]`), 1)
	repo, ref := openArchive(t, "oci-archive:"+writeTar(t, forged)+"@"+image.Digest.String())
	if desc, err := repo.Resolve(t.Context(), ref); err == nil {
		if _, err := repo.Manifest(t.Context(), desc); err == nil || !strings.Contains(err.Error(), "the archive holds other bytes") {
			t.Errorf("forged: %v", err)
		}
	}
	for text, want := range map[string]string{"oci-archive:/does/not/exist.tar": "there is no file", "docker-archive:" + t.TempDir(): "not a regular file"} {
		repo, ref := openArchive(t, text)
		if _, err := repo.Resolve(t.Context(), ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"oci-archive:", "docker-archive::v1", "oci-archive:x@sha256:12", "docker-archive:x:-"} {
		if ref, err := registry.ParseRef(text); err == nil {
			t.Errorf("%s: %+v", text, ref)
		}
	}
}

// A sparse file's content is not where its header says.
func TestSparseFilesAreRefused(t *testing.T) {
	t.Parallel()
	header := make([]byte, 512)
	copy(header, "sparse")
	copy(header[100:], "0000644\x00")
	copy(header[124:], "00000000000\x00")
	copy(header[136:], "00000000000\x00")
	header[156] = 'S'
	copy(header[257:], "ustar  \x00")
	copy(header[483:], "00000001000\x00") // real size
	sum := 8 * int(' ')
	for i, b := range header {
		if i < 148 || i >= 156 {
			sum += int(b)
		}
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	repo, ref := openArchive(t, "oci-archive:"+writeTar(t, append(header, make([]byte, 1024)...)))
	if _, err := repo.Resolve(t.Context(), ref); err == nil || strings.Contains(err.Error(), "no file oci-layout") {
		t.Errorf("%v", err)
	}
}

// dockerSave is what docker wrote before version 25: two layers, of which the
// second is a link to the first when they are equal.
func dockerSave(t testing.TB, layers ...string) (entries []tarEntry, manifest []byte, config string) {
	t.Helper()
	var ids, names []string
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	seen := map[string]string{}
	for i, l := range layers {
		ids = append(ids, string(evidence.SHA256([]byte(l))))
		m.Layers = append(m.Layers, registry.Describe(ocispec.MediaTypeImageLayerGzip, []byte("packed "+l)))
		name := fmt.Sprintf("%d/layer.tar", i)
		names = append(names, name)
		if first, ok := seen[l]; ok {
			entries = append(entries, tarEntry{name, "", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "../"+first }})
			continue
		}
		seen[l] = name
		entries = append(entries, tarEntry{name: name, content: l})
	}
	quoted, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	config = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":` + string(quoted) + `}}`
	m.Config = registry.Describe(ocispec.MediaTypeImageConfig, []byte(config))
	entries = append(entries, tarEntry{name: "config.json", content: config})
	listed, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{"app:v1", "other/app:v2"}, "Layers": names, "LayerSources": map[string]any{}},
		map[string]any{"Config": "none.json", "RepoTags": []string{"app:v3"}, "Layers": nil}})
	if err != nil {
		t.Fatal(err)
	}
	entries = append(entries, tarEntry{name: "manifest.json", content: string(listed)}, tarEntry{name: "repositories", content: "{}"})
	manifest, err = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return entries, manifest, config
}

func TestDockerArchive(t *testing.T) {
	t.Parallel()
	entries, manifest, config := dockerSave(t, "one", "two", "one")
	file := writeTar(t, tarOf(t, entries...))
	a, err := registry.OpenDockerArchive(file, "v2")
	if err != nil || a.ConfigDigest() != evidence.SHA256([]byte(config)) {
		t.Fatalf("%+v %v", a, err)
	}
	if reasons, err := a.Check(t.Context(), manifest); err != nil || reasons != nil {
		t.Errorf("%v %v", reasons, err)
	}
	for tag, want := range map[string]string{"": "2 images", "v9": "no image with the tag", "v3": "configuration", "1": "no image"} {
		if _, err := registry.OpenDockerArchive(file, tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", tag, err)
		}
	}
	repo, ref := openArchive(t, "docker-archive:"+file+":v1")
	if _, err := repo.Resolve(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "no manifest") || !strings.Contains(fault.HintOf(err), "--image") {
		t.Errorf("%v", err)
	}
	change := func(old, new string) []tarEntry {
		out := append([]tarEntry{}, entries...)
		for i := range out {
			out[i].content = strings.Replace(out[i].content, old, new, 1)
		}
		return out
	}
	_, otherManifest, _ := dockerSave(t, "one", "two", "three")
	_, shorter, _ := dockerSave(t, "one", "two")
	var short map[string]any
	if err := json.Unmarshal(shorter, &short); err != nil {
		t.Fatal(err)
	}
	short["config"] = registry.Describe(ocispec.MediaTypeImageConfig, []byte(config))
	shorter, _ = json.Marshal(short)
	for name, c := range map[string]struct {
		entries  []tarEntry
		manifest []byte
		differs  string
		err      string
	}{
		"another image":             {entries, otherManifest, "it is another image", ""},
		"configuration edited":      {change(`"amd64"`, `"arm64"`), manifest, "it is another image", ""},
		"layer edited":              {change("two", "owt"), manifest, "layer 2 of the archive", ""},
		"layers swapped":            {change(`"0/layer.tar","1/layer.tar"`, `"1/layer.tar","0/layer.tar"`), manifest, "layer 1 of the archive", ""},
		"layer left out":            {change(`"0/layer.tar",`, ``), manifest, "2 layers, its configuration names 3", ""},
		"manifest of fewer":         {entries, shorter, "signed manifest 2", ""},
		"packed as in the manifest": {change("two", "packed two"), manifest, "", ""},
		"layer missing":             {change(`"1/layer.tar"`, `"9/layer.tar"`), manifest, "", "not in the archive"},
		"layer outside":             {change(`"1/layer.tar"`, `"../layer.tar"`), manifest, "", "leads elsewhere"},
		"an index":                  {entries, []byte(`{"schemaVersion":2,"manifests":[]}`), "", "not with an index"},
		"no manifest":               {entries, []byte(`{}`), "", "schemaVersion"},
	} {
		a, err := registry.OpenDockerArchive(writeTar(t, tarOf(t, c.entries...)), "v1")
		if err != nil {
			t.Fatal(err)
		}
		reasons, err := a.Check(t.Context(), c.manifest)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)), c.err == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case (c.differs != "") != (len(reasons) == 1):
			t.Errorf("%s: %v", name, reasons)
		case c.differs != "" && (reasons[0].Code != registry.CodeArchiveDiffers || !strings.Contains(reasons[0].Message, c.differs)):
			t.Errorf("%s: %v", name, reasons)
		}
	}
	for name, text := range map[string]string{"no list": "{}", "empty": "[]", "twice": `[{"Config":"config.json","Config":"x"}]`, "another case": `[{"config":"config.json"}]`, "a tail": "[] []"} {
		file := writeTar(t, tarOf(t, tarEntry{name: "manifest.json", content: text}))
		if _, err := registry.OpenDockerArchive(file, ""); err == nil || !strings.Contains(err.Error(), "manifest.json:") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := registry.OpenDockerArchive(writeTar(t, tarOf(t, tarEntry{name: "x"})), ""); err == nil || !strings.Contains(err.Error(), "no archive of docker save") {
		t.Errorf("%v", err)
	}
}

// FuzzArchive: whatever a tar file holds, what is given out lies within it.
func FuzzArchive(f *testing.F) {
	entries, _, _ := savedLayout(f)
	f.Add(tarOf(f, entries...))
	saved, _, _ := dockerSave(f, "one", "two", "one")
	f.Add(tarOf(f, saved...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		total, err := registry.TarSizes(data)
		if err == nil && total > int64(len(data)) {
			t.Errorf("%d bytes out of %d", total, len(data))
		}
	})
}
