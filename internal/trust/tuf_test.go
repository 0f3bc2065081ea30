package trust_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// mirror is our real repository behind a network that a test may damage.
type mirror struct {
	*httptest.Server
	repo     *tuf.Repo
	requests atomic.Int64
	damage   func(path string, body []byte) []byte // nil: none
}

func newMirror(t *testing.T, now time.Time) *mirror {
	t.Helper()
	repo, err := tuf.Open(t.TempDir(), tuf.Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{repo: repo}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		rec := httptest.NewRecorder()
		http.StripPrefix("/tuf", repo).ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if m.damage != nil {
			body = m.damage(r.URL.Path, body)
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	}))
	t.Cleanup(m.Close)
	m.publish(t, "first")
	return m
}

func (m *mirror) publish(t *testing.T, content string) {
	t.Helper()
	if err := m.repo.Publish(map[string][]byte{"trusted_root.json": []byte(content), "other": []byte("other")}); err != nil {
		t.Fatal(err)
	}
}

func (m *mirror) client(t *testing.T) trust.TUF {
	t.Helper()
	return trust.TUF{Mirror: m.URL + "/tuf", Root: m.repo.RootJSON(), CacheDir: t.TempDir(), HTTPClient: m.Client()}
}

func mustGet(t *testing.T, c trust.TUF, want string) {
	t.Helper()
	got, err := c.Targets(t.Context(), "trusted_root.json", "other")
	if err != nil {
		t.Fatal(err)
	}
	if string(got["trusted_root.json"]) != want || string(got["other"]) != "other" || len(got) != 2 {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTUFFollowsUpdatesAndRootRotation(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	c := m.client(t)
	mustGet(t, c, "first")
	for _, content := range []string{"second", "third", "fourth"} {
		if err := m.repo.RotateKeys(); err != nil {
			t.Fatal(err)
		}
		m.publish(t, content)
		mustGet(t, c, content)
		offline := c
		offline.Offline = true
		before := m.requests.Load()
		mustGet(t, offline, content)
		if m.requests.Load() != before {
			t.Error("offline is not offline")
		}
	}
	// With a warm cache: next root, timestamp; nothing else has changed.
	before := m.requests.Load()
	mustGet(t, c, "fourth")
	if n := m.requests.Load() - before; n != 2 {
		t.Errorf("%d requests with a warm cache, want 2", n)
	}
	// A client that knows only the first root and has no cache gets there too.
	c.CacheDir = ""
	mustGet(t, c, "fourth")
}

// Cached roots are followed like the mirror's: only what the trusted root signs.
func TestTUFIgnoresForeignRootsInTheCache(t *testing.T) {
	t.Parallel()
	other := newMirror(t, time.Now()) // another repository: same names, other keys
	if err := other.repo.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	m := newMirror(t, time.Now())
	c := m.client(t)
	mustGet(t, c, "first")
	dirs, err := filepath.Glob(filepath.Join(c.CacheDir, "*", "roots"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for name, root := range map[string][]byte{"another repository's": other.repo.RootJSON(), "version 1 again": m.repo.RootJSON(), "no root": []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dirs[0], "2.root.json"), root, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, offline := range []bool{false, true} {
			c.Offline = offline
			if got, err := c.Targets(ctx, "trusted_root.json"); err != nil || string(got["trusted_root.json"]) != "first" {
				t.Errorf("%s, offline %v: %q, %v", name, offline, got, err)
			}
		}
	}
}

func TestTUFConcurrentClientsShareACache(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	c := m.client(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := c.Targets(context.Background(), "trusted_root.json")
			if err != nil || string(got["trusted_root.json"]) != "first" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestTUFRefusesWhatIsTampered(t *testing.T) {
	t.Parallel()
	other := newMirror(t, time.Now()) // another repository: same names, other keys
	for name, damage := range map[string]func(path string, body []byte) []byte{
		"target": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, ".trusted_root.json") {
				return []byte("Xirst")
			}
			return body
		},
		"longer target": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, ".trusted_root.json") {
				return append(body, make([]byte, 1<<20)...)
			}
			return body
		},
		"timestamp of others": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "timestamp.json") {
				w := httptest.NewRecorder()
				other.repo.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/timestamp.json", nil))
				return w.Body.Bytes()
			}
			return body
		},
		"targets metadata": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, ".targets.json") {
				return bytes.Replace(body, []byte("2"), []byte("3"), 1)
			}
			return body
		},
		"snapshot": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, ".snapshot.json") {
				return bytes.TrimSuffix(body, []byte("}"))
			}
			return body
		},
		"timestamp of great length": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "timestamp.json") {
				return append(body, bytes.Repeat([]byte(" "), 1<<20)...)
			}
			return body
		},
	} {
		m := newMirror(t, time.Now())
		c := m.client(t)
		m.damage = damage
		got, err := c.Targets(t.Context(), "trusted_root.json")
		if err == nil {
			t.Errorf("%s: accepted %q", name, got)
			continue
		}
		if fault.KindOf(err) != fault.Failure || !strings.Contains(err.Error(), strings.TrimPrefix(m.URL, "http://")) {
			t.Errorf("%s: %v", name, err)
		}
		m.damage = nil
		mustGet(t, c, "first") // what was refused is not in the cache
	}
}

func TestTUFRefusesRollback(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	c := m.client(t)
	old := httptest.NewRecorder()
	m.repo.ServeHTTP(old, httptest.NewRequest(http.MethodGet, "/timestamp.json", nil))
	m.publish(t, "second")
	mustGet(t, c, "second")
	m.damage = func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "timestamp.json") {
			return old.Body.Bytes()
		}
		return body
	}
	if got, err := c.Targets(t.Context(), "trusted_root.json"); err == nil {
		t.Errorf("went back to %q", got)
	}
}

func TestTUFExpired(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now().Add(-8*24*time.Hour)) // timestamps live 7 days
	c := m.client(t)
	_, err := c.Targets(t.Context(), "trusted_root.json")
	if err == nil || !strings.Contains(err.Error(), "has expired") || fault.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

func TestTUFOffline(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	c := m.client(t)
	c.Offline = true
	if _, err := c.Targets(t.Context(), "trusted_root.json"); err == nil || !strings.Contains(err.Error(), "offline") || fault.HintOf(err) == "" {
		t.Errorf("an empty cache: %v", err)
	}
	if names, _ := os.ReadDir(c.CacheDir); len(names) != 0 {
		t.Errorf("offline wrote into the cache: %v", names)
	}
	c.Offline = false
	mustGet(t, c, "first")
	c.Offline = true
	m.Close()
	mustGet(t, c, "first")
	if _, err := c.Targets(t.Context(), "unknown"); err == nil || !strings.Contains(err.Error(), "no target unknown") {
		t.Errorf("unknown target: %v", err)
	}
	damaged := 0
	err := filepath.WalkDir(c.CacheDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" || d.Name() == "root.json" {
			return err
		}
		good, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		bad := bytes.Replace(good, []byte(`"version":`), []byte(`"version":9`), 1)
		if bytes.Equal(bad, good) {
			bad = append([]byte("x"), good...)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			return err
		}
		if got, err := c.Targets(context.Background(), "trusted_root.json", "other"); err == nil {
			t.Errorf("with %s damaged: %q", path, got)
		}
		damaged++
		return os.WriteFile(path, good, 0o600)
	})
	if err != nil || damaged != 5 {
		t.Errorf("%d files damaged: %v", damaged, err)
	}
	mustGet(t, c, "first")
}

func TestTUFUnreachable(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	host := strings.TrimPrefix(m.URL, "http://")
	c := m.client(t)
	check := func(what string) {
		t.Helper()
		_, err := c.Targets(t.Context(), "trusted_root.json")
		if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "fetching TUF file") {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	check("502")
	m.Close()
	check("closed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Targets(ctx, "trusted_root.json"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestTUFRefusesBadConfiguration(t *testing.T) {
	t.Parallel()
	m := newMirror(t, time.Now())
	good := m.client(t)
	for name, change := range map[string]func(*trust.TUF){
		"no mirror":         func(c *trust.TUF) { c.Mirror = "" },
		"a file":            func(c *trust.TUF) { c.Mirror = "file:///tmp" },
		"plain HTTP beyond": func(c *trust.TUF) { c.Mirror = "http://tuf.example.com" },
		"no root":           func(c *trust.TUF) { c.Root = nil },
		"not a root":        func(c *trust.TUF) { c.Root = []byte("{}") },
		"flipped root":      func(c *trust.TUF) { c.Root = bytes.Replace(c.Root, []byte(`"version":1`), []byte(`"version":2`), 1) },
		"another root":      func(c *trust.TUF) { c.Root = trust.PublicGood().Root },
	} {
		c := good
		change(&c)
		if _, err := c.Targets(t.Context(), "trusted_root.json"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPublicGoodRootIsValid(t *testing.T) {
	t.Parallel()
	pg := trust.PublicGood()
	// A mirror that has nothing: the root itself is accepted, then the
	// timestamp is missing.
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	if pg.Mirror != "https://tuf-repo-cdn.sigstore.dev" || !json.Valid(pg.Root) {
		t.Error("not the public-good instance")
	}
	pg.Mirror = srv.URL
	_, err := pg.Targets(t.Context(), "trusted_root.json")
	if err == nil || !strings.Contains(err.Error(), "timestamp.json: status 404") {
		t.Errorf("%v", err)
	}
}

// What is fetched is good until the first of the metadata's roles expires.
func TestTUFTellsExpiry(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	m := newMirror(t, now)
	c := m.client(t)
	got, expires, err := c.Fetch(t.Context(), "trusted_root.json")
	if err != nil || string(got["trusted_root.json"]) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	if want := now.Add(7 * 24 * time.Hour); expires.Sub(want).Abs() > time.Minute { // timestamps live 7 days
		t.Errorf("good until %s, want %s", expires, want)
	}
}
