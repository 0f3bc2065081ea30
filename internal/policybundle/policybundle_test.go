package policybundle

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVersions(t *testing.T) {
	t.Parallel()
	order := []string{"0.1.0", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0", "1.2.0", "1.10.0", "2.0.0"}
	for i, v := range order {
		if got, err := CheckVersion("v" + v); err != nil || got != v {
			t.Errorf("%s: %q %v", v, got, err)
		}
		for j, w := range order {
			if Older(v, w) != (i < j) {
				t.Errorf("%s before %s: %v", v, w, Older(v, w))
			}
		}
	}
	for _, v := range []string{"", "v", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3+build", "vv1.2.3", "latest", "1.2.3-", "1.2.3 ", "-1.2.3", "1.2.3-" + strings.Repeat("a", 64)} {
		if got, err := CheckVersion(v); err == nil {
			t.Errorf("%q is taken for %s", v, got)
		}
	}
}

// The same files are the same digest, whatever their times and rights.
func TestRead(t *testing.T) {
	t.Parallel()
	files := map[string]string{"p.rego": "package docker\n", "p_test.rego": "package docker\n", "lib/names.rego": "package x\n", "keys/release.pub": "key", ".git/config": "x", ".hidden": "x"}
	var digests []string
	for range 2 {
		b, err := Read(folder(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(b.Files)); strings.Join(got, " ") != "keys/release.pub lib/names.rego p.rego p_test.rego" {
			t.Errorf("%v", got)
		}
		if got := b.Top(); len(got) != 1 || got[0] != "p.rego" {
			t.Errorf("%v", got)
		}
		if _, _, err := b.Manifest(); err == nil {
			t.Error("a bundle without a version has a manifest")
		}
		b.Repository, b.Version = "example.com/p", "1.0.0"
		data, desc, err := b.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, desc.Digest.String())
		back, entries, err := Parse(data)
		if err != nil || back.Version != "1.0.0" || len(entries) != 4 {
			t.Errorf("%v %v", entries, err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("%v", digests)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		link  string
	}{
		"nothing":        {nil, ""},
		"hidden alone":   {map[string]string{".a": "x"}, ""},
		"an empty file":  {map[string]string{"a.rego": ""}, ""},
		"a link":         {map[string]string{"a.rego": "x"}, "/etc/passwd"},
		"a link inside":  {map[string]string{"a.rego": "x"}, "a.rego"},
		"two of one":     {map[string]string{"a.rego": "x", "A.rego": "x"}, ""},
		"two folders":    {map[string]string{"lib/a.rego": "x", "LIB/b.rego": "x"}, ""},
		"a strange name": {map[string]string{"a\nb.rego": "x"}, ""},
		"a colon":        {map[string]string{"a:b.rego": "x"}, ""},
		"too long":       {map[string]string{strings.Repeat("a", 241): "x"}, ""},
		"too big":        {map[string]string{"a.rego": strings.Repeat("x", MaxFile+1)}, ""},
		"a bad record":   {map[string]string{"a.rego": "x", "lib/" + RecordName: "{}"}, ""},
	} {
		dir := folder(t, c.files)
		if c.link != "" {
			if err := os.Symlink(c.link, filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := Read(dir); err == nil {
			t.Errorf("%s: %v", name, b.Files)
		}
	}
	many := map[string][]byte{}
	for i := range MaxFiles + 1 {
		many["f"+strings.Repeat("x", i%200)+string(rune('a'+i/200))] = []byte("x")
	}
	if err := (&Bundle{Files: many}).check(); err == nil {
		t.Error("too many files are taken")
	}
}

// Near-misses of a manifest are refused.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	b := &Bundle{Repository: "example.com/p", Version: "1.0.0", Files: map[string][]byte{"a.rego": []byte("a"), "b/c.rego": []byte("c")}}
	data, _, err := b.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][2]string{
		"another artifact":   {ArtifactType, "application/vnd.other"},
		"an index":           {"image.manifest.v1", "image.index.v1"},
		"another file type":  {MediaTypeFile, "application/octet-stream"},
		"no version":         {`"1.0.0"`, `""`},
		"a spelling":         {`"1.0.0"`, `"v1.0.0"`},
		"no repository":      {`"dev.hallmark.policy.repository"`, `"dev.hallmark.policy.other"`},
		"a repository's tag": {"example.com/p", "example.com/p:1"},
		"a short name":       {"example.com/p", "p"},
		"outside":            {"b/c.rego", "../c.rego"},
		"absolute":           {"b/c.rego", "/c.rego"},
		"hidden":             {"b/c.rego", "b/.c.rego"},
		"a record":           {"b/c.rego", "b/" + RecordName},
		"twice":              {"b/c.rego", "a.rego"},
		"not in order":       {"b/c.rego", "a.aaa"},
		"empty":              {`"size":1`, `"size":0`},
		"big":                {`"size":1`, `"size":99999999`},
		"an import by tag":   {`"org.opencontainers.image.version"`, `"dev.hallmark.policy.import/lib":"example.com/a:1","org.opencontainers.image.version"`},
	} {
		bad := bytes.ReplaceAll(data, []byte(r[0]), []byte(r[1]))
		if bytes.Equal(bad, data) {
			t.Fatalf("%s changes nothing", name)
		}
		if _, _, err := Parse(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Near-misses of an import are refused, and a good one is written as its folder's record.
func TestImports(t *testing.T) {
	t.Parallel()
	const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	lib := Import{"example.com/lib", "1.0.0", digest}
	files := map[string][]byte{"a.rego": []byte("a"), "lib/b.rego": []byte("b"), "lib/more/c.rego": []byte("c")}
	for name, c := range map[string]struct {
		imports map[string]Import
		fine    bool
	}{
		"none":             {nil, true},
		"one":              {map[string]Import{"lib": lib}, true},
		"a deep one":       {map[string]Import{"lib/more": lib}, true},
		"in another":       {map[string]Import{"lib": lib, "lib/more": lib}, false},
		"without files":    {map[string]Import{"li": lib}, false},
		"a file":           {map[string]Import{"a.rego": lib}, false},
		"outside":          {map[string]Import{"../lib": lib}, false},
		"no version":       {map[string]Import{"lib": {"example.com/lib", "latest", digest}}, false},
		"another spelling": {map[string]Import{"lib": {"example.com/lib", "v1.0.0", digest}}, false},
		"a short name":     {map[string]Import{"lib": {"lib", "1.0.0", digest}}, false},
	} {
		b := &Bundle{Repository: "example.com/p", Version: "1.0.0", Files: files, Imports: c.imports}
		data, desc, err := b.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := Parse(data)
		if (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
		if !c.fine {
			continue
		}
		dir := filepath.Join(t.TempDir(), "p")
		back.Files = files
		for range 2 {
			if err := back.Write(dir, NewRecord(b.Repository, b.Version, evidence.Digest(desc.Digest))); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Read(dir)
		if err != nil || !maps.Equal(again.Imports, c.imports) {
			t.Errorf("%s: %v %v", name, again, err)
		}
	}
}

// Whoever copies a bundle into another repository does not make it that one's.
func TestOf(t *testing.T) {
	t.Parallel()
	b := &Bundle{Repository: "example.com/dev/p"}
	if why := b.Of("example.com/dev/p"); why != nil {
		t.Error(why)
	}
	for _, other := range []string{"example.com/prod/p", "example.com/dev", "example.com/dev/p2", "other.com/dev/p", ""} {
		if why := b.Of(other); why == nil || why.Code != CodeForeign {
			t.Errorf("%s: %+v", other, why)
		}
	}
}

// A folder is the bundle as a whole, again and again; what was there before is gone.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "policy")
	first := &Bundle{Repository: "example.com/p", Version: "1.0.0", Files: map[string][]byte{"a.rego": []byte("a"), "lib/b.rego": []byte("b")}}
	_, d1, _ := first.Manifest()
	r1 := NewRecord("example.com/p", "1.0.0", "sha256:"+"1111111111111111111111111111111111111111111111111111111111111111")
	if err := first.Write(dir, r1); err != nil {
		t.Fatal(err, d1)
	}
	before, _ := os.Stat(filepath.Join(dir, "a.rego"))
	if err := first.Write(dir, r1); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(dir, "a.rego")); err != nil || !os.SameFile(before, after) {
		t.Error("the same bundle was written twice")
	}
	if err := os.WriteFile(filepath.Join(dir, "more.rego"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(dir, r1); err != nil {
		t.Fatal(err)
	}
	second := &Bundle{Repository: "example.com/p", Version: "1.1.0", Files: map[string][]byte{"c.rego": []byte("c")}}
	r2 := NewRecord("example.com/p", "1.1.0", r1.Digest)
	if err := second.Write(dir, r2); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("left over: %v %v", left, err)
	}
	got, err := ReadRecord(dir)
	if err != nil || *got != r2 {
		t.Errorf("%+v %v", got, err)
	}
	for name, c := range map[string]struct {
		next Record
		code string
	}{
		"the same":   {r2, ""},
		"newer":      {NewRecord("example.com/p", "1.2.0", r1.Digest), ""},
		"older":      {r1, CodeRollback},
		"another":    {NewRecord("example.com/p", "1.1.0", "sha256:"+"2222222222222222222222222222222222222222222222222222222222222222"), CodeRollback},
		"elsewhere":  {NewRecord("example.com/q", "1.2.0", r1.Digest), CodeElse},
		"prerelease": {NewRecord("example.com/p", "1.1.0-rc.1", r1.Digest), CodeRollback},
	} {
		if why := c.next.Follows(got); (why == nil) != (c.code == "") || why != nil && why.Code != c.code {
			t.Errorf("%s: %+v", name, why)
		}
	}
	if _, err := ReadRecord(folder(t, map[string]string{"mine": "x"})); err == nil {
		t.Error("a folder with files of somebody's is taken")
	}
	if r, err := ReadRecord(t.TempDir()); err != nil || r != nil {
		t.Error(r, err)
	}
}

// What cannot change places with a folder is refused, and stays.
func TestFolderThatStays(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := os.MkdirAll(filepath.Join(real, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "link", "below"))
	b := &Bundle{Files: map[string][]byte{"a.rego": []byte("a")}}
	r := NewRecord("example.com/p", "1.0.0", "sha256:"+"1111111111111111111111111111111111111111111111111111111111111111")
	for _, name := range []string{".", "..", "../below", "../..", "/", dir, real, filepath.Join(dir, "link"), filepath.Join(dir, "link") + "/", ""} {
		if err := b.Write(name, r); err == nil || fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"new", "../../beside", filepath.Join(dir, "deep", "er")} {
		if err := b.Write(name, r); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if st, err := os.Lstat(filepath.Join(dir, "link")); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error(st, err)
	}
}

// replace is what filesystems without an exchange have.
func TestReplace(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	for _, name := range []string{"a", "b"} {
		next := filepath.Join(parent, "next")
		if err := os.MkdirAll(filepath.Join(next, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := replace(next, filepath.Join(parent, "dir")); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := os.ReadDir(parent); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(parent, "dir", "b")); err != nil {
		t.Error(err)
	}
}

// A registry gives back what was pushed, and an import is held to what was published.
func TestRegistry(t *testing.T) {
	t.Parallel()
	up := hmtest.Authority(t)
	client := registry.NewClient(registry.Options{})
	push := func(name string, b *Bundle) registry.Ref {
		ref, err := registry.ParseRef(up.Registry + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := client.Open(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		desc, data, err := b.Push(t.Context(), repo)
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.PushManifest(t.Context(), desc, data, ref.Tag); err != nil {
			t.Fatal(err)
		}
		got, err := repo.Resolve(t.Context(), ref)
		if err != nil || got.Digest != desc.Digest {
			t.Fatal(got, err)
		}
		back, err := Fetch(t.Context(), repo, got)
		if err != nil || !maps.EqualFunc(back.Files, b.Files, bytes.Equal) || back.Version != b.Version {
			t.Fatal(back, err)
		}
		parsed, err := registry.ParseRef(repo.RefOf(desc.Digest))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	lib := push("lib:1.0.0", &Bundle{Repository: "example.com/p", Version: "1.0.0", Files: map[string][]byte{"names.rego": []byte("package x\n"), "more/data.json": []byte("{}")}})
	record, err := json.Marshal(NewRecord(lib.Name(), "1.0.0", lib.Digest))
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{"p.rego": "package docker\nimport data.lib.base.names\n", "lib/base/names.rego": "package x\n", "lib/base/more/data.json": "{}", "lib/base/" + RecordName: string(record)}
	for name, c := range map[string]struct {
		change func(map[string]string)
		fine   bool
	}{
		"as published": {func(map[string]string) {}, true},
		"changed":      {func(f map[string]string) { f["lib/base/names.rego"] = "package y\n" }, false},
		"more":         {func(f map[string]string) { f["lib/base/more.rego"] = "package y\n" }, false},
		"less":         {func(f map[string]string) { delete(f, "lib/base/more/data.json") }, false},
		"beside":       {func(f map[string]string) { f["lib/basement.rego"] = "package y\n" }, true},
	} {
		files := maps.Clone(good)
		c.change(files)
		b, err := Read(folder(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.CheckImports(t.Context(), client.Open); (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
		if !c.fine {
			continue
		}
		b.Repository, b.Version = "example.com/p", "2.0.0"
		data, _, err := b.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := Parse(data)
		if err != nil || back.Imports["lib/base"] != (Import{lib.Name(), "1.0.0", lib.Digest}) {
			t.Errorf("%+v %v", back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	b := &Bundle{Repository: "example.com/p", Version: "1.0.0", Files: map[string][]byte{"lib/a.rego": []byte("a")}, Imports: map[string]Import{"lib": {"example.com/lib", "1.0.0", "sha256:1111111111111111111111111111111111111111111111111111111111111111"}}}
	data, _, err := b.Manifest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, entries, err := Parse(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if checkName(e.Name) != nil || !filepath.IsLocal(e.Name) {
				t.Fatalf("%q", e.Name)
			}
		}
		if v, err := CheckVersion(b.Version); err != nil || v != b.Version {
			t.Fatal(b.Version)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"mediaType":"` + recordMediaType + `","repository":"example.com/p","version":"1.0.0","digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		if _, err := CheckVersion(r.Version); err != nil {
			t.Fatal(err)
		}
	})
}
