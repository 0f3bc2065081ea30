package tuf_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

func open(t testing.TB, dir string, now time.Time) *tuf.Repo {
	t.Helper()
	r, err := tuf.Open(dir, tuf.Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// get is a GET of path, nil for 404.
func get(t testing.TB, r *tuf.Repo, path string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code == http.StatusNotFound {
		return nil
	}
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d", path, w.Code)
	}
	return w.Body.Bytes()
}

// versions is the version of each role, as served.
func versions(t testing.TB, r *tuf.Repo) [4]int64 {
	t.Helper()
	version := func(data []byte) int64 {
		var md struct {
			Signed struct {
				Version int64 `json:"version"`
			} `json:"signed"`
		}
		if err := json.Unmarshal(data, &md); err != nil {
			t.Fatal(err)
		}
		return md.Signed.Version
	}
	ts, err := metadata.Timestamp().FromBytes(get(t, r, "/timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	snapshot := get(t, r, fmt.Sprintf("/%d.snapshot.json", ts.Signed.Meta["snapshot.json"].Version))
	sn, err := metadata.Snapshot().FromBytes(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	targets := get(t, r, fmt.Sprintf("/%d.targets.json", sn.Signed.Meta["targets.json"].Version))
	return [4]int64{version(get(t, r, "/root.json")), version(targets), sn.Signed.Version, ts.Signed.Version}
}

// fetch reads a target as go-tuf's own client does, from the given root.
func fetch(t testing.TB, r *tuf.Repo, root []byte, name string) ([]byte, error) {
	t.Helper()
	srv := httptest.NewServer(http.StripPrefix("/tuf", r))
	defer srv.Close()
	cfg, err := config.New(srv.URL+"/tuf", root)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DisableLocalCache = true
	up, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	info, err := up.GetTargetInfo(name)
	if err != nil {
		return nil, err
	}
	_, data, err := up.DownloadTarget(info, "", "")
	return data, err
}

func TestPublish(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	r := open(t, dir, now)
	set := map[string][]byte{"trusted_root.json": []byte("{}"), "signing_config.v0.2.json": []byte("[]")}
	if err := r.Publish(set); err != nil {
		t.Fatal(err)
	}
	before := versions(t, r)
	if diff := cmp.Diff([4]int64{1, 2, 2, 2}, before); diff != "" {
		t.Error(diff)
	}
	root := r.RootJSON()
	for name, want := range set {
		got, err := fetch(t, r, root, name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		sum := sha256.Sum256(want)
		if !bytes.Equal(get(t, r, "/targets/"+hex.EncodeToString(sum[:])+"."+name), want) {
			t.Errorf("%s is not where consistent snapshots want it", name)
		}
	}
	if !bytes.Equal(get(t, r, "/1.root.json"), root) || !bytes.Equal(get(t, r, "/root.json"), root) || get(t, r, "/2.root.json") != nil {
		t.Error("the root is not served as it should be")
	}
	if sum := sha256.Sum256(root); r.RootSHA256() != hex.EncodeToString(sum[:]) {
		t.Error("RootSHA256 is of something else")
	}
	r = open(t, dir, now)
	if err := r.Publish(set); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, versions(t, r)); diff != "" {
		t.Errorf("the same targets after a restart were published again: %s", diff)
	}
	set["trusted_root.json"] = []byte(`{"a":1}`)
	delete(set, "signing_config.v0.2.json")
	if err := r.Publish(set); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([4]int64{1, 3, 3, 3}, versions(t, r)); diff != "" {
		t.Error(diff)
	}
	if _, err := fetch(t, r, root, "signing_config.v0.2.json"); err == nil {
		t.Error("a target that was taken away is still there")
	}
	for _, name := range []string{"", ".x", "a/b", "../x", "a b", "ä", strings.Repeat("a", 129)} {
		if err := r.Publish(map[string][]byte{name: nil}); err == nil {
			t.Errorf("%q accepted as a name", name)
		}
	}
}

func TestCacheHeadersAndMethods(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir(), time.Now())
	for path, want := range map[string]string{
		"/timestamp.json": "no-cache", "/root.json": "no-cache", "/2.root.json": "no-store", "/repository.sealed": "no-store", "/": "no-store",
		"/1.root.json": "public, max-age=31536000, immutable", "/1.snapshot.json": "public, max-age=31536000, immutable",
	} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Header().Get("Cache-Control"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/timestamp.json", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", w.Code)
	}
}

func TestStaleMetadataIsSignedAgainAtOpen(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	r := open(t, dir, now)
	if err := r.Publish(map[string][]byte{"a": []byte("a")}); err != nil {
		t.Fatal(err)
	}
	first := r.RootJSON()
	const day = 24 * time.Hour
	for _, c := range []struct {
		after time.Duration
		want  [4]int64
	}{
		{3 * day, [4]int64{1, 2, 2, 2}},
		{4 * day, [4]int64{1, 2, 2, 3}},
		{16 * day, [4]int64{1, 2, 3, 4}},
		{200 * day, [4]int64{1, 3, 4, 5}},
		{6 * 365 * day, [4]int64{2, 4, 5, 6}},
	} {
		r := open(t, dir, now.Add(c.after))
		if diff := cmp.Diff(c.want, versions(t, r)); diff != "" {
			t.Errorf("after %v: %s", c.after, diff)
		}
		if got, err := fetch(t, r, first, "a"); err != nil || string(got) != "a" {
			t.Errorf("after %v: %q, %v", c.after, got, err)
		}
	}
}

func TestRunSignsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, err := tuf.Open(dir, tuf.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go r.Run(ctx)
		time.Sleep(40 * 24 * time.Hour)
		synctest.Wait()
		ts, err := metadata.Timestamp().FromBytes(get(t, r, "/timestamp.json"))
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(ts.Signed.Expires); left < 3*24*time.Hour {
			t.Errorf("the timestamp expires in %v", left)
		}
		if v := versions(t, r); v[2] < 3 || v[3] < 10 || v[1] != 1 || v[0] != 1 {
			t.Errorf("versions after 40 days: %v", v)
		}
		cancel()
		synctest.Wait()
	})
}

func TestRotateKeys(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	r := open(t, dir, now)
	first := r.RootJSON()
	for i := range 3 {
		if err := r.Publish(map[string][]byte{"a": fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		if err := r.RotateKeys(); err != nil {
			t.Fatal(err)
		}
		r = open(t, dir, now)
		for _, root := range [][]byte{first, r.RootJSON()} {
			if got, err := fetch(t, r, root, "a"); err != nil || string(got) != fmt.Sprint(i) {
				t.Errorf("round %d: %q, %v", i, got, err)
			}
		}
	}
	if v := versions(t, r); v[0] != 4 {
		t.Errorf("root version %d", v[0])
	}
}

func TestOldMetadataIsKeptForAWhileOnly(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir(), time.Now())
	for i := range 12 {
		if err := r.Publish(map[string][]byte{"a": fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if get(t, r, "/12.targets.json") == nil || get(t, r, "/4.targets.json") != nil {
		t.Error("the wrong versions are kept")
	}
	gone := sha256.Sum256([]byte("0"))
	kept := sha256.Sum256([]byte("10"))
	if get(t, r, "/targets/"+hex.EncodeToString(gone[:])+".a") != nil || get(t, r, "/targets/"+hex.EncodeToString(kept[:])+".a") == nil {
		t.Error("the wrong target files are kept")
	}
}

func TestDamagedRepositoryIsRefusedByName(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	r := open(t, dir, now)
	if err := r.Publish(map[string][]byte{"a": []byte("a")}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "repository.sealed")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: it holds keys", st.Mode(), err)
	}
	refused := func(what string, bad []byte) {
		t.Helper()
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := tuf.Open(dir, tuf.Config{})
		var damaged *durable.CorruptError
		if !errors.As(err, &damaged) || damaged.Path != path {
			t.Fatalf("%s: %v", what, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, bad) {
			t.Fatalf("%s: changed by Open", what)
		}
	}
	for i := 0; i < len(good); i += len(good) / 40 {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		refused(fmt.Sprintf("bit of byte %d flipped", i), flipped)
		refused(fmt.Sprintf("cut to %d bytes", i), good[:i])
	}
	// Sealed correctly, but not a repository whose signatures hold.
	_, body, _ := bytes.Cut(good, []byte("\n"))
	for name, change := range map[string]func(map[string]any){
		"no roots":          func(m map[string]any) { m["roots"] = []any{} },
		"another timestamp": func(m map[string]any) { m["timestamp"] = m["roots"].([]any)[0] },
		"no target":         func(m map[string]any) { m["files"] = map[string]any{} },
		"unknown member":    func(m map[string]any) { m["x"] = 1 },
	} {
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		forged, _ := json.Marshal(m)
		if err := durable.WriteSealed(path, forged, 0o600); err != nil {
			t.Fatal(err)
		}
		resealed, _ := os.ReadFile(path)
		refused(name, resealed)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, ".tmp-lost") // by a crash before the rename
	if err := os.WriteFile(lost, good[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, now)
	if _, err := os.Stat(lost); err == nil {
		t.Error("what a crash left behind is still there")
	}
}

// What a crash left behind holds keys; it goes whatever the folder is called.
func TestOddFolderNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a[b]", "a[", "a*", `a\`, "a?"} {
		dir := filepath.Join(t.TempDir(), name)
		lost := filepath.Join(dir, ".tmp-lost")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lost, []byte("keys"), 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, dir, time.Now())
		if _, err := os.Stat(lost); err == nil {
			t.Errorf("%q: what a crash left behind is still there", name)
		}
	}
}

// A folder that cannot be written: the old repository goes on and no version
// is used twice.
func TestUnwritableFolderKeepsTheOldRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir, time.Now())
	before := versions(t, r)
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := r.Publish(map[string][]byte{"a": []byte("a")}); err == nil {
		t.Fatal("published into a folder that is not there")
	}
	if diff := cmp.Diff(before, versions(t, r)); diff != "" {
		t.Error(diff)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Publish(map[string][]byte{"a": []byte("a")}); err != nil {
		t.Fatal(err)
	}
	if v := versions(t, r); v[3] != before[3]+1 {
		t.Errorf("versions %v after %v", v, before)
	}
}

// TestFullDisk: a repository opens on a full disk and serves what is there; it is signed
// again when there is room. What is to be published needs room at once.
func TestFullDisk(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	disk := smalldisk.Mount(t, 100, 100)
	begin := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	r := open(t, disk, begin)
	if err := r.Publish(map[string][]byte{"a": []byte("one")}); err != nil {
		t.Fatal(err)
	}
	before := versions(t, r)
	pages, inodes := smalldisk.Used(t, disk)
	smalldisk.Resize(t, disk, pages, inodes)
	stale := begin.Add(5 * 24 * time.Hour)
	r = open(t, disk, stale)
	if got := versions(t, r); got != before {
		t.Errorf("on a full disk %v, before %v", got, before)
	}
	if got, err := fetch(t, r, r.RootJSON(), "a"); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if err := r.Publish(map[string][]byte{"a": []byte("two")}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("published on a full disk: %v", err)
	}
	smalldisk.Resize(t, disk, 100, 100)
	if got := versions(t, open(t, disk, stale)); got[3] != before[3]+1 {
		t.Errorf("with room %v, before %v", got, before)
	}
}

// TestRestored: all versions but the root's go ahead of what a client may have seen, the
// targets stay, and the next change goes on from there.
func TestRestored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	if err := tuf.Restored(dir, now); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("of no repository: %v", err)
	}
	r := open(t, dir, now)
	for _, content := range []string{"one", "two"} {
		if err := r.Publish(map[string][]byte{"a": []byte(content)}); err != nil {
			t.Fatal(err)
		}
	}
	before, root := versions(t, r), r.RootJSON()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	// The second time from the same backup, after what was restored first was published.
	for n, from := range []string{dir, backup} {
		if n > 0 {
			if err := r.Publish(map[string][]byte{"a": []byte("three")}); err != nil {
				t.Fatal(err)
			}
			before, now = versions(t, r), now.Add(time.Minute)
		}
		if err := tuf.Restored(from, now); err != nil {
			t.Fatal(err)
		}
		r = open(t, from, now)
		after := versions(t, r)
		if after[0] != before[0] || after[1] <= before[1] || after[2] <= before[2] || after[3] <= before[3] || after[3] < now.UnixMilli() {
			t.Errorf("%v after %v", after, before)
		}
		if got, err := fetch(t, r, root, "a"); err != nil || string(got) != "two" {
			t.Errorf("%q, %v", got, err)
		}
	}
	before = versions(t, r)
	if err := r.Publish(map[string][]byte{"a": []byte("three")}); err != nil {
		t.Fatal(err)
	}
	if got := versions(t, r); got != [4]int64{before[0], before[1] + 1, before[2] + 1, before[3] + 1} {
		t.Errorf("%v after %v", got, before)
	}
}
