package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// TestCheck: each thing that a disk or a hand can do to the folder is found, and
// nothing else is.
func TestCheck(t *testing.T) {
	t.Parallel()
	newFolder := func(t *testing.T) (dir string) {
		dir = t.TempDir()
		c := start(t, dir, registry.Config{})
		raw, d := c.pushImage("team/app", "1.0", "layer")
		c.pushImage("team/app/deep", "1.0", "another")
		subject := `,"subject":` + desc("application/vnd.oci.image.manifest.v1+json", raw)
		c.pushBlob("team/app", "signature")
		c.do("PUT", "/v2/team/app/manifests/sig", "application/vnd.oci.image.manifest.v1+json", manifest("signature", subject))
		if got := c.do("GET", "/v2/team/app/referrers/"+string(d), "", ""); !strings.Contains(got.body, "digest") {
			t.Fatalf("no referrer: %s", got.body)
		}
		return dir
	}
	check := func(t *testing.T, dir string) (registry.Contents, []durable.Damage) {
		t.Helper()
		var found []durable.Damage
		c, err := registry.Check(dir, func(d durable.Damage) { found = append(found, d) })
		if err != nil {
			t.Fatal(err)
		}
		return c, found
	}
	flip := func(t *testing.T, path string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	dir := newFolder(t)
	if c, found := check(t, dir); len(found) > 0 || c.Repositories != 2 || c.Manifests != 3 || c.Tags != 3 || c.Bytes == 0 {
		t.Fatalf("a good folder: %+v, %v", c, found)
	}
	for name, row := range map[string]struct {
		pattern string // below repos; the first match
		do      func(t *testing.T, path string)
		want    string
	}{
		"blob changed":          {"team/app/_blobs/sha256/*", flip, "not those of its digest"},
		"blob lost":             {"team/app/_blobs/sha256/*", remove, "deleted or lost"},
		"deep blob changed":     {"team/app/deep/_blobs/sha256/*", flip, "not those of its digest"},
		"manifest changed":      {"team/app/_manifests/sha256/*", flip, "not those of its digest"},
		"manifest lost":         {"team/app/deep/_manifests/sha256/*", remove, "which is deleted or lost"},
		"tag changed":           {"team/app/_tags/1.0", flip, "seal"},
		"referrer lost":         {"team/app/_referrers/sha256/*/*", remove, "would not be found"},
		"a name that is no hex": {"team/app/_blobs/sha256/*", func(t *testing.T, path string) { scribble(t, filepath.Dir(path)+"/zz") }, "not a digest"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newFolder(t)
			paths, err := filepath.Glob(filepath.Join(dir, "repos", row.pattern))
			if err != nil || len(paths) == 0 {
				t.Fatalf("%v, %v", paths, err)
			}
			row.do(t, paths[0])
			if _, found := check(t, dir); len(found) == 0 || !strings.Contains(found[0].Why, row.want) || !strings.HasPrefix(found[0].Path, dir) {
				t.Errorf("%v; want %s", found, row.want)
			}
		})
	}
	if _, found := check(t, t.TempDir()); len(found) != 1 {
		t.Errorf("no folder: %v", found)
	}
}

func scribble(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}
