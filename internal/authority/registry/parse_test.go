package registry_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "library/busy-box.x__y",
		strings.Repeat("a", 255), "blobs/uploads", "tags/list"} {
		if err := registry.CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", "A", "a/B", ".", "..", "a/../b", "a/./b", "a..b", "a___b", "_a", "a_",
		"-a", "a-", ".a", "a.", "a._b", "a b", "a\x00b", "a\\b", "a:b", "a@b", "ä", "a%2fb", "_catalog", "a/_blobs",
		strings.Repeat("a", 256), "a\n"} {
		if registry.CheckName(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, ok := range []string{"v1", "_", "V1.0-rc_1", strings.Repeat("a", 128)} {
		if !registry.ValidTag(ok) {
			t.Errorf("tag %q refused", ok)
		}
	}
	for _, bad := range []string{"", ".", "..", ".a", "-a", "a/b", "a b", "a:b", "ü", "a\x00", strings.Repeat("a", 129)} {
		if registry.ValidTag(bad) {
			t.Errorf("tag %q accepted", bad)
		}
	}
}

func TestManifestNearMisses(t *testing.T) {
	t.Parallel()
	good := manifest("layer", `,"subject":`+desc(ociManifest, "x"))
	if m, err := registry.ParseManifest([]byte(good), ociManifest); err != nil || m.Subject == nil || len(m.Blobs) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"null":                "null",
		"list":                "[]",
		"trailing":            good + "x",
		"version 1":           swap(`"schemaVersion":2`, `"schemaVersion":1`),
		"version missing":     swap(`"schemaVersion":2,`, ``),
		"version as text":     swap(`"schemaVersion":2`, `"schemaVersion":"2"`),
		"two subjects":        swap(`"subject"`, `"subject":`+desc(ociManifest, "y")+`,"subject"`),
		"both kinds":          swap(`"config"`, `"manifests":[],"config"`),
		"schema 1":            swap(`"config"`, `"fsLayers":[],"config"`),
		"index by type":       swap(`image.manifest.v1`, `image.index.v1`),
		"unknown type":        swap(`image.manifest.v1`, `image.manifest.v9`),
		"no config":           swap(`"config"`, `"Config"`),
		"no layers":           swap(`"layers"`, `"Layers"`),
		"layers an object":    swap(`"layers":[`, `"layers":{"a":[`) + "}",
		"digest too short":    swap(`"digest":"sha256:4`, `"digest":"sha256:`),
		"digest upper case":   swap(`"digest":"sha256:44136fa`, `"digest":"sha256:44136FA`),
		"digest algorithm":    swap(`"digest":"sha256:`, `"digest":"md5:`),
		"digest twice":        swap(`"size":2`, `"size":2,"size":3`),
		"size negative":       swap(`"size":2`, `"size":-2`),
		"size missing":        swap(`,"size":2`, ``),
		"size fractional":     swap(`"size":2`, `"size":2.5`),
		"size huge":           swap(`"size":2`, `"size":1e30`),
		"subject null":        swap(`"subject":{`, `"subject":null,"x":{`),
		"annotations a list":  swap(`"config"`, `"annotations":[],"config"`),
		"annotation a number": swap(`"config"`, `"annotations":{"a":1},"config"`),
		"not UTF-8":           swap(`"config"`, "\"a\":\"\xff\",\"config\""),
	} {
		if m, err := registry.ParseManifest([]byte(bad), ""); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifest("layer", "")))
	f.Add([]byte(manifest("layer", `,"subject":`+desc(ociManifest, "x"))))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[` + desc(ociManifest, "x") + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[{"urls":["https://example.com"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := registry.ParseManifest(data, "")
		if err != nil {
			return
		}
		if m.MediaType == "" || len(m.Blobs) > 0 && len(m.Manifests) > 0 {
			t.Errorf("accepted %+v", m)
		}
		again, err := registry.ParseManifest(data, m.MediaType)
		if err != nil || again.MediaType != m.MediaType {
			t.Errorf("the same bytes are refused under their own type: %v", err)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"a/b", "a__b", "a/../b", "..", "a-.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if registry.CheckName(s) != nil {
			return
		}
		if strings.Contains(s, "..") || strings.HasPrefix(s, "/") || strings.Contains("/"+s, "/_") || strings.Contains(s, "//") {
			t.Errorf("accepted %q", s)
		}
	})
}
