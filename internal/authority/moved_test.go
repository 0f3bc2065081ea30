package authority_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// logKey is the first key of a folder's log.
func logKey(t *testing.T, dir string) ed25519.PrivateKey {
	t.Helper()
	return keyIn(t, filepath.Join(dir, "keys", "log.pem"))
}

func keyIn(t *testing.T, path string) ed25519.PrivateKey {
	t.Helper()
	data, err := durable.ReadSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// elsewhere keeps a log in a process of its own, as far as a test can tell: what is in
// folder, or a new log when that is empty.
func elsewhere(t *testing.T, folder string, key ed25519.PrivateKey) string {
	t.Helper()
	l, err := tlog.Open(folder, tlog.Config{Origin: "127.0.0.1", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(l.Handler())
	t.Cleanup(func() { s.Close(); _ = l.Close() })
	return s.URL
}

func moveLog(t *testing.T, dir, url string) (authority.MovedLog, error) {
	t.Helper()
	return authority.MoveLog(t.Context(), dir, url, nil, translog.HTTPOptions{})
}

// TestMoveLog: the log goes on elsewhere, everything that is published says so, clients
// of before get there, and nothing here signs for it any more.
func TestMoveLog(t *testing.T) {
	t.Parallel()
	dir, old, _, _ := made(t, authority.Config{})
	taken := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(taken, os.DirFS(filepath.Join(dir, "log"))); err != nil {
		t.Fatal(err)
	}
	url := elsewhere(t, taken, logKey(t, dir))
	if _, err := logged(url, entry(t, "meanwhile")); err != nil {
		t.Fatal(err)
	}
	m, err := moveLog(t, dir, url+"/")
	if err != nil {
		t.Fatal(err)
	}
	if m != (authority.MovedLog{URL: url, Entries: 1, Now: 2}) {
		t.Errorf("%+v", m)
	}
	frozen := folder(t, filepath.Join(dir, "log"))

	a, end := up(t, authority.Config{Dir: dir})
	root := rootOf(t, dir)
	found := 0
	for _, l := range root.TLogs {
		if l.BaseURL == url {
			found++
		}
	}
	if found != 1 || len(root.TLogs) != 2 {
		t.Errorf("%d of %d logs of the trusted root are at the new place", found, len(root.TLogs))
	}
	for _, name := range []string{"signing_config.v0.2.json", "trust-root.yaml"} {
		if !strings.Contains(string(readFile(t, filepath.Join(dir, name))), url) {
			t.Errorf("%s does not name the new place", name)
		}
	}
	// Who still asks here is sent there, with what is to be logged.
	if index, err := logged(a.Info().URL, entry(t, "after")); err != nil || index != "2" {
		t.Errorf("an entry sent to the old place: %s %v", index, err)
	}
	if index, err := logged(a.Info().URL, old); err != nil || index != "0" {
		t.Errorf("an entry of before: %s %v", index, err)
	}
	here, err := http.Get(a.Info().URL + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := io.ReadAll(here.Body)
	_ = here.Body.Close()
	if err != nil || here.Request.URL.String() != url+"/api/v2/checkpoint" || !strings.HasPrefix(string(shown), "127.0.0.1\n3\n") {
		t.Errorf("the checkpoint at the old place: %s %q %v", here.Request.URL, shown, err)
	}
	if _, body := request(t, http.MethodGet, a.Info().URL+"/healthz", ""); strings.HasPrefix(body, "failing") || !strings.Contains(body, url) {
		t.Errorf("healthz: %s", body)
	}
	if _, err := moveLog(t, dir, url); err == nil || !strings.Contains(err.Error(), "another hallmark up") {
		t.Errorf("moving while it runs: %v", err)
	}
	end()
	if after := folder(t, filepath.Join(dir, "log")); len(after) != len(frozen) || after["checkpoint.sealed"] != frozen["checkpoint.sealed"] || after["entries"] != frozen["entries"] {
		t.Error("the folder's own log was written to after it was moved")
	}

	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: authority.ServiceLog}); err == nil || !strings.Contains(err.Error(), "cannot be replaced here") {
		t.Errorf("rotating a log that was moved: %v", err)
	}
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: authority.ServiceCT, DryRun: true}); err != nil {
		t.Errorf("rotating another key: %v", err)
	}
	if _, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", Witnesses: []witness.Target{{}}}); err == nil || !strings.Contains(err.Error(), "--witness") {
		t.Errorf("witnesses of a log that was moved: %v", err)
	}
	if c, err := authority.Check(dir); err != nil || len(c.Damage) != 0 {
		t.Errorf("check: %+v %v", c, err)
	}
	// It may move on, to where it is a continuation, too.
	again := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(again, os.DirFS(taken)); err != nil {
		t.Fatal(err)
	}
	if _, err := moveLog(t, dir, elsewhere(t, again, logKey(t, dir))); err != nil {
		t.Errorf("moving again: %v", err)
	}
}

// TestMoveLogRefuses: what is not the continuation of the folder's log is not taken
// for it, and nothing is changed.
func TestMoveLogRefuses(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	key := logKey(t, dir)
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	fork := elsewhere(t, filepath.Join(t.TempDir(), "log"), key)
	for _, content := range []string{"x", "y"} {
		if _, err := logged(fork, entry(t, content)); err != nil {
			t.Fatal(err)
		}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	before := folder(t, dir)
	good := elsewhere(t, filepath.Join(t.TempDir(), "log"), key)
	for name, c := range map[string]struct{ url, want string }{
		"no log":       {gone.URL, "connection refused"},
		"another key":  {elsewhere(t, filepath.Join(t.TempDir(), "log"), stranger), "not signed by the log"},
		"empty":        {good, "has 0 entries, and 1 were signed before"},
		"fork":         {fork, "one of the two is a fork"},
		"another host": {strings.Replace(fork, "127.0.0.1", "localhost", 1), "the log's origin is 127.0.0.1"},
		"no host":      {"/api/v2", "is not a base URL"},
		"a path":       {fork + "/x", "is not a base URL"},
		"a query":      {fork + "?x=y", "is not a base URL"},
		"a user":       {strings.Replace(fork, "http://", "http://user@", 1), "is not a base URL"},
		"clear text":   {"http://log.example.com", "log.example.com"},
	} {
		if _, err := moveLog(t, dir, c.url); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, content := range folder(t, dir) {
		if before[name] != content {
			t.Errorf("a refused move changed %s", name)
		}
	}
	a, _ := up(t, authority.Config{Dir: dir})
	if index, err := logged(a.Info().URL, entry(t, "still here")); err != nil || index != "1" {
		t.Errorf("after refused moves: %s %v", index, err)
	}
}

// TestMoveLogAgain: what was signed since a log was moved counts at every later move,
// also when the place that it had is gone.
func TestMoveLogAgain(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	key := logKey(t, dir)
	copied := func() string {
		t.Helper()
		to := filepath.Join(t.TempDir(), "log")
		if err := os.CopyFS(to, os.DirFS(filepath.Join(dir, "log"))); err != nil {
			t.Fatal(err)
		}
		return to
	}
	// The log goes on at its first place; a second copy of the folder goes on otherwise.
	l, err := tlog.Open(copied(), tlog.Config{Origin: "127.0.0.1", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	first := httptest.NewServer(l.Handler())
	t.Cleanup(func() { first.Close(); _ = l.Close() })
	add := func(url, what string) {
		t.Helper()
		if _, err := logged(url, entry(t, what)); err != nil {
			t.Fatal(err)
		}
	}
	add(first.URL, "seen when it was moved")
	if _, err := moveLog(t, dir, first.URL); err != nil {
		t.Fatal(err)
	}
	add(first.URL, "signed since")
	newest := l.Checkpoint()
	short, fork := elsewhere(t, copied(), key), elsewhere(t, copied(), key)
	for _, what := range []string{"other", "entries", "as", "many"} {
		add(fork, what)
	}
	stranger := elsewhere(t, filepath.Join(t.TempDir(), "log"), key)
	_, notSigned, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := elsewhere(t, filepath.Join(t.TempDir(), "log"), notSigned)
	_, foreign := request(t, http.MethodGet, other+"/api/v2/checkpoint", "")
	refused := func(name, url string, known []byte, want string) {
		t.Helper()
		before := string(readFile(t, filepath.Join(dir, "authority.json")))
		if _, err := authority.MoveLog(t.Context(), dir, url, known, translog.HTTPOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if string(readFile(t, filepath.Join(dir, "authority.json"))) != before {
			t.Errorf("%s changed the state", name)
		}
	}
	refused("what the folder had", short, nil, "has 1 entries, and 2 were signed before")
	refused("what the folder had, continued otherwise", fork, nil, "one of the two is a fork")
	refused("an empty log", stranger, nil, "has 0 entries")
	refused("the place that it has", first.URL, nil, "compared with itself, it proves nothing")
	if m, err := authority.MoveLog(t.Context(), dir, first.URL, newest, translog.HTTPOptions{}); err != nil || m.Now != 3 {
		t.Errorf("the place that it has, with what it signed: %+v %v", m, err)
	}

	first.Close()
	refused("a place that does not answer", fork, nil, "what it has signed there cannot be read")
	for _, same := range []string{first.URL, first.URL + "/", strings.Replace(first.URL, "http:", "HTTP:", 1)} {
		refused("a place that does not answer, named again", same, nil, "compared with itself, it proves nothing")
	}
	refused("a fork, with what is known", fork, newest, "one of the two is a fork")
	refused("a checkpoint of another log", fork, []byte(foreign), "not signed by the log")
	refused("no checkpoint", fork, []byte("x\n"), "the checkpoint that is to be extended")
	// What is known is less than what was seen when it was moved: that counts.
	_, frozen := request(t, http.MethodGet, short+"/api/v2/checkpoint", "")
	refused("an old checkpoint", fork, []byte(frozen), "one of the two is a fork")
	again := httptest.NewServer(l.Handler())
	t.Cleanup(again.Close)
	m, err := authority.MoveLog(t.Context(), dir, again.URL, newest, translog.HTTPOptions{})
	if err != nil || m != (authority.MovedLog{URL: again.URL, Entries: 1, Now: 3}) {
		t.Fatalf("its continuation, whose first place is gone: %+v %v", m, err)
	}

	// The key is not used here any more, and is better away.
	if err := os.Remove(filepath.Join(dir, "keys", "log.pem")); err != nil {
		t.Fatal(err)
	}
	a, _ := up(t, authority.Config{Dir: dir})
	if index, err := logged(a.Info().URL, entry(t, "without the key")); err != nil || index != "3" {
		t.Errorf("an entry, with the key away: %s %v", index, err)
	}
	if c, err := authority.Check(dir); err != nil || len(c.Damage) != 0 {
		t.Errorf("check, with the key away: %+v %v", c, err)
	}
}

// TestMoveRotatedLog: the tree of a later key goes to an address of its own, and the first
// key's tree stays where it is read.
func TestMoveRotatedLog(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: authority.ServiceLog}); err != nil {
		t.Fatal(err)
	}
	a, end := up(t, authority.Config{Dir: dir})
	own := a.Info().URL
	if index, err := logged(own+"/log-2", entry(t, "to the second tree")); err != nil || index != "0" {
		t.Fatalf("%s %v", index, err)
	}
	end()
	state := string(readFile(t, filepath.Join(dir, "authority.json")))
	for _, to := range []string{own, own + "/"} {
		if _, err := moveLog(t, dir, to); err == nil || !strings.Contains(err.Error(), "another tree cannot be there") {
			t.Errorf("to the first tree's address, %s: %v", to, err)
		}
	}
	if string(readFile(t, filepath.Join(dir, "authority.json"))) != state {
		t.Error("a refused move changed the state")
	}
	second := filepath.Join(dir, "keys", "log-2.pem")
	key := keyIn(t, second)
	taken := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(taken, os.DirFS(filepath.Join(dir, "log-2"))); err != nil {
		t.Fatal(err)
	}
	url := elsewhere(t, taken, key)
	if m, err := moveLog(t, dir, url); err != nil || m.Entries != 1 {
		t.Fatalf("%+v %v", m, err)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(authority.Config{Dir: dir, Listen: strings.TrimPrefix(url, "http://"), URL: url}); err == nil {
		t.Error("an authority at the moved log's address was opened")
	}
	a, _ = up(t, authority.Config{Dir: dir})
	at := map[string]bool{}
	for _, l := range rootOf(t, dir).TLogs {
		if _, v2 := l.Key.(ed25519.PublicKey); !v2 {
			continue
		}
		if at[l.BaseURL] {
			t.Errorf("two trees are at %s", l.BaseURL)
		}
		at[l.BaseURL] = true
	}
	if !at[url] || !at[a.Info().URL] {
		t.Errorf("the trees are at %v", at)
	}
	first, err := translog.NewLog("127.0.0.1", logKey(t, dir).Public())
	if err != nil {
		t.Fatal(err)
	}
	_, shown := request(t, http.MethodGet, a.Info().URL+"/api/v2/checkpoint", "")
	if c, err := first.ParseCheckpoint([]byte(shown), time.Now()); err != nil || c.Size != 1 {
		t.Errorf("the first tree where it was: %v", err)
	}
	if index, err := logged(a.Info().URL+"/log-2", entry(t, "sent on")); err != nil || index != "1" {
		t.Errorf("an entry for the second tree, sent to where it was: %s %v", index, err)
	}
}

// TestSameBase: addresses that lead to one place are one address.
func TestSameBase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://a.example.com", "https://a.example.com", true},
		{"https://a.example.com", "https://A.example.com:443", true},
		{"http://127.0.0.1:80", "http://127.0.0.1/", true},
		{"https://a.example.com", "https://a.example.com:8443", false},
		{"https://a.example.com", "http://a.example.com:443", false},
		{"https://a.example.com", "https://b.example.com", false},
	} {
		if authority.SameBase(c.a, c.b) != c.same {
			t.Errorf("%s and %s", c.a, c.b)
		}
	}
}
