package lockfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/lockfile"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

var when = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

func sample() *lockfile.File {
	return &lockfile.File{Sources: []lockfile.Source{
		{Kind: "image", Source: "docker.io/library/b:1", Written: []string{"b:$V", "b:1"}, Digest: "sha256:" + hexB, Resolved: when},
		{Kind: "http", Source: "https://example.com/a?b=<&>", Written: []string{"https://example.com/a?b=<&>"}, Digest: "sha512:" + hexA + hexB, Resolved: when},
		{Kind: "image", Source: "docker.io/library/a@sha256:" + hexA, Written: []string{"a@sha256:" + hexA}, Digest: "sha256:" + hexA, Resolved: when},
		{Kind: "git", Source: "https://example.com/r.git#v1", Written: []string{"https://example.com/r.git#v1"}, Commit: hexA[:40], Tag: hexB[:40], Resolved: when},
	}}
}

// TestRoundTrip: what is written is sorted, is read back, and is written the same again.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), lockfile.Name)
	if err := sample().Write(path); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := lockfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range f.Sources {
		names = append(names, s.Kind+" "+s.Source)
	}
	want := []string{"git https://example.com/r.git#v1", "http https://example.com/a?b=<&>", "image docker.io/library/a@sha256:" + hexA, "image docker.io/library/b:1"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	second, err := f.Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%v\n%s\n%s", err, first, second)
	}
	if s, ok := f.Lookup("image", "docker.io/library/b:1"); !ok || s.Value() != "sha256:"+hexB {
		t.Error(s, ok)
	}
	if _, ok := f.Lookup("http", "docker.io/library/b:1"); ok {
		t.Error("a source of another kind was found")
	}
}

// TestNearMisses: what is nearly a lock is refused as a whole.
func TestNearMisses(t *testing.T) {
	t.Parallel()
	data, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for name, c := range map[string]struct{ old, new, want string }{
		"another version":    {lockfile.MediaType, "application/vnd.hallmark.lock.v2+json", "mediaType"},
		"unknown member":     {`"kind": "git"`, `"Kind": "git"`, "unknown member"},
		"member twice":       {`"kind": "git",`, `"kind": "git", "kind": "git",`, "duplicate member"},
		"unknown kind":       {`"kind": "git"`, `"kind": "gitx"`, "is not image, http or git"},
		"upper case digest":  {"sha256:" + hexB, "sha256:" + strings.ToUpper(hexB), "an image has a digest"},
		"short digest":       {"sha256:" + hexB, "sha256:" + hexB[1:], "an image has a digest"},
		"weak digest":        {"sha256:" + hexB, "sha1:" + hexB[:40], "an image has a digest"},
		"image with sha512":  {"sha256:" + hexB, "sha512:" + hexB + hexB, "an image has a digest"},
		"other pin":          {"a@sha256:" + hexA + `",` + "\n      \"written\"", "a@sha256:" + hexB + `",` + "\n      \"written\"", "names sha256:b"},
		"short commit":       {`"commit": "` + hexA[:40], `"commit": "` + hexA[:39], "a git ref has a commit"},
		"commit and tag":     {`"tag": "` + hexB[:40], `"tag": "` + hexB, "a git ref has a commit"},
		"no spelling":        {"[\n        \"https://example.com/r.git#v1\"\n      ]", "[]", "written"},
		"spelling unsorted":  {"\"b:$V\",\n        \"b:1\"", "\"b:1\",\n        \"b:$V\"", "written"},
		"fraction of second": {"2026-11-29T09:00:00Z", "2026-11-29T09:00:00.5Z", "resolved"},
		"another zone":       {"2026-11-29T09:00:00Z", "2026-11-29T10:00:00+01:00", "resolved"},
		"login":              {`"source": "https://example.com/a`, `"source": "https://u:p@example.com/a`, "a URL with a login"},
		"control character":  {`"source": "https://example.com/a`, `"source": "https://example.com/\u001b`, "cannot be printed"},
		"unsorted":           {"https://example.com/a?b", "https://example.com/\\u0061?b", ""},
		"twice":              {"docker.io/library/b:1", "docker.io/library/a@sha256:" + hexA, ""},
		"after the end":      {"\n}\n", "\n}\n{}", "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatal("nothing was changed")
			}
			_, err := lockfile.Parse([]byte(changed))
			if c.want == "" && name == "unsorted" { // an escaped spelling of the same text is the same
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	swapped := sample()
	swapped.MediaType = lockfile.MediaType
	swapped.Sources = swapped.Sources[:1]
	for _, s := range []string{"docker.io/library/a:1", "docker.io/library/b:1"} {
		more := *swapped
		entry := more.Sources[0]
		entry.Source = s
		more.Sources = append(more.Sources[:1:1], entry)
		if s == "docker.io/library/b:1" {
			if _, err := more.Encode(); err == nil {
				t.Error("a source that stands twice is written")
			}
		}
	}
	if _, err := lockfile.Parse(bytes.Repeat([]byte(" "), lockfile.MaxSize+1)); err == nil {
		t.Error("too long a file is read")
	}
}

// TestChanges: what moved is told from what is new, gone or the same; what is the
// same keeps its time.
func TestChanges(t *testing.T) {
	t.Parallel()
	encoded, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	was, err := lockfile.Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	now := sample()
	for i := range now.Sources {
		now.Sources[i].Resolved = when.Add(time.Hour)
	}
	now.Sources[0].Digest = "sha256:" + hexA          // b:1 moved
	now.Sources[1].Source = "https://example.com/new" // one is gone, one is new
	now.Sources[3].Tag = hexA[:40]                    // another tag object of the same commit
	var got []string
	for _, c := range was.Changes(now) {
		switch r := c.Reason(); {
		case r != nil:
			got = append(got, r.Code+" "+r.Subject)
		case c.Is == nil:
			got = append(got, "gone "+c.Was.Source)
		default:
			got = append(got, "changed "+c.Is.Source)
		}
	}
	want := []string{"changed https://example.com/r.git#v1", "SOURCE_NOT_LOCKED https://example.com/new", "SOURCE_MOVED docker.io/library/b:1", "gone https://example.com/a?b=<&>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range now.Sources {
		if same := s.Source == "docker.io/library/a@sha256:"+hexA; same != s.Resolved.Equal(when) {
			t.Errorf("%s: %v", s.Source, s.Resolved)
		}
	}
}

// FuzzParse: what is read is written as it is read again.
func FuzzParse(f *testing.F) {
	data, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"mediaType":"` + lockfile.MediaType + `","sources":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		lock, err := lockfile.Parse(data)
		if err != nil {
			return
		}
		again, err := lock.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := lockfile.Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lock, back); diff != "" {
			t.Fatal(diff)
		}
	})
}
