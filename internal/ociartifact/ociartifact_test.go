package ociartifact_test

import (
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// The manifest that cosign v3.1.3 pushed for `cosign sign --key`, as bytes.
const cosignManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"},"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":667,"digest":"sha256:67d318315547e6c175a3de0bef810b52803554adb357140c1e70a2f5fc3b35e6"}],"annotations":{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1","org.opencontainers.image.created":"2026-11-20T11:30:48Z"},"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":239,"digest":"sha256:1ccb399e44f3e0ec86bb1a95031c6b9f81ac77860556a81a90acb79bab8005d9"},"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`

var (
	subject = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Size: 239, Digest: "sha256:1ccb399e44f3e0ec86bb1a95031c6b9f81ac77860556a81a90acb79bab8005d9", Annotations: map[string]string{"not": "copied"}}
	layer   = ocispec.Descriptor{MediaType: evidence.BundleMediaType, Size: 667, Digest: "sha256:67d318315547e6c175a3de0bef810b52803554adb357140c1e70a2f5fc3b35e6"}
)

func TestBundleManifestIsCosigns(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 20, 12, 30, 48, 999, time.FixedZone("", 3600))
	got, desc, err := ociartifact.BundleManifest(subject, layer, evidence.PredicateSign, created)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != cosignManifest {
		t.Errorf("got  %s\nwant %s", got, cosignManifest)
	}
	if desc.Digest != "sha256:d1dffe15b626dc7b9b5e1cf7e13916d71d1e3d1d72675b8a3b614e8c250427da" || desc.Size != 877 || desc.ArtifactType != evidence.BundleMediaType {
		t.Errorf("descriptor %+v", desc)
	}
	m, err := ociartifact.Parse(got)
	if err != nil || m.Artifact() != evidence.BundleMediaType || !m.Created().Equal(created.Truncate(time.Second)) || m.IsIndex() {
		t.Errorf("read back: %+v, %v", m, err)
	}
}

func TestBundleManifestRefusals(t *testing.T) {
	t.Parallel()
	now := time.Now()
	bad := subject
	bad.Digest = "sha256:123"
	for name, try := range map[string]func() error{
		"bad subject": func() error { _, _, err := ociartifact.BundleManifest(bad, layer, "x", now); return err },
		"no layer": func() error {
			_, _, err := ociartifact.BundleManifest(subject, ocispec.Descriptor{}, "x", now)
			return err
		},
		"no predicate": func() error { _, _, err := ociartifact.BundleManifest(subject, layer, "", now); return err },
		"no time":      func() error { _, _, err := ociartifact.BundleManifest(subject, layer, "x", time.Time{}); return err },
	} {
		if try() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEmptyConfig(t *testing.T) {
	t.Parallel()
	want := ocispec.DescriptorEmptyJSON
	if got := ociartifact.EmptyConfigDescriptor(); got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType || got.Data != nil {
		t.Errorf("%+v", got)
	}
}

const emptyDescriptor = `{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}`

// Each differs from cosign's manifest in one thing.
func TestParseNearMisses(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string][2]string{
		"cut short":             {`"}`, `"`},
		"trailing data":         {`{"schemaVersion":2`, `{} {"schemaVersion":2`},
		"an array":              {`{"schemaVersion":2`, `[{"schemaVersion":2`},
		"schema version 1":      {`"schemaVersion":2`, `"schemaVersion":1`},
		"schema version string": {`"schemaVersion":2`, `"schemaVersion":"2"`},
		"index at once":         {`"schemaVersion":2`, `"schemaVersion":2,"manifests":[]`},
		"an index's type":       {`"application/vnd.oci.image.manifest.v1+json","config"`, `"application/vnd.oci.image.index.v1+json","config"`},
		"short subject digest":  {`8005d9"}`, `8005"}`},
		"upper-case digest":     {`sha256:1ccb`, `sha256:1CCB`},
		"other algorithm":       {`sha256:67d`, `sha999:67d`},
		"negative size":         {`"size":667`, `"size":-1`},
		"size is a string":      {`"size":667`, `"size":"667"`},
		"layers no list":        {`"layers":[`, `"layers":{},"x":[`},
		"duplicate member":      {`"schemaVersion":2`, `"schemaVersion":2,"schemaVersion":2`},
	} {
		data := strings.Replace(cosignManifest, replace[0], replace[1], 1)
		if data == cosignManifest {
			t.Fatalf("%s: nothing replaced", name)
		}
		if m, err := ociartifact.Parse([]byte(data)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
	for _, data := range []string{ // without a media type the members alone tell
		`{"schemaVersion":2,"manifests":[],"layers":[]}`, `{"schemaVersion":2,"manifests":[],"config":` + emptyDescriptor + `}`, "null", "2",
	} {
		if m, err := ociartifact.Parse([]byte(data)); err == nil {
			t.Errorf("%s: accepted as %+v", data, m)
		}
	}
	if _, err := ociartifact.Parse([]byte(strings.Repeat(" ", ociartifact.MaxManifest) + "{}")); err == nil {
		t.Error("too long: accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(cosignManifest))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"layers":null,"subject":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ociartifact.Parse(data)
		if err != nil {
			return
		}
		if m.IsIndex() && (m.Config != nil || m.Layers != nil) {
			t.Fatal("an index and an image at once")
		}
		_, _ = m.Artifact(), m.Created()
	})
}
