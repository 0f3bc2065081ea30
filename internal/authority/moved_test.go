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

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// logKey is the key of a folder's log.
func logKey(t *testing.T, dir string) ed25519.PrivateKey {
	t.Helper()
	data, err := durable.ReadSealed(filepath.Join(dir, "keys", "log.pem"))
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
	return authority.MoveLog(t.Context(), dir, url, translog.HTTPOptions{})
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
	if _, body := request(t, http.MethodGet, a.Info().URL+"/healthz", ""); !strings.HasPrefix(body, "ok\n") || !strings.Contains(body, url) {
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
		"empty":        {good, "has 0 entries, and 1 were signed here"},
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
