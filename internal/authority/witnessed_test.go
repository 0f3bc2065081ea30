package authority_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// TestRotateLogEndsWitnesses: a new key of the log ends the cosigning of its checkpoints,
// which is said before, and has to be asked for where there are witnesses.
func TestRotateLogEndsWitnesses(t *testing.T) {
	t.Parallel()
	dir, v2, _, _ := made(t, authority.Config{})
	unwitnessed := copyFolder(t, dir)
	known, err := translog.NewLog("127.0.0.1", logKey(t, dir).Public())
	if err != nil {
		t.Fatal(err)
	}
	server, err := witness.OpenServer(witness.ServerConfig{Dir: t.TempDir(), Name: "w1", Logs: []translog.Log{known}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); _ = server.Close() })
	target, err := witness.ParseTarget(server.VerifierKey()+" "+front.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	a, end := up(t, authority.Config{Dir: dir, Witnesses: []witness.Target{target}})
	if _, err := logged(a.Info().URL, v2); err != nil {
		t.Fatal(err)
	}
	end()
	_, end = up(t, authority.Config{Dir: dir}) // without them once: others' trust bundles may demand them still
	end()

	plan, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", DryRun: true})
	if err != nil || !strings.Contains(strings.Join(plan.Todo, "\n"), "without --witness") || !strings.Contains(strings.Join(plan.Todo, "\n"), "witnessQuorum") {
		t.Errorf("%+v, %v", plan, err)
	}
	before := folder(t, dir)
	_, err = authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log"})
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "witnesses") || !strings.Contains(fault.HintOf(err), "--end-witness") {
		t.Errorf("%v", err)
	}
	for name, was := range folder(t, dir) {
		if was != before[name] {
			t.Errorf("%s was changed", name)
		}
	}
	for _, service := range []string{"ca", "log-v1"} { // which witnesses have nothing to do with
		if r, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service}); err != nil || strings.Contains(strings.Join(r.Todo, "\n"), "witness") {
			t.Errorf("%s: %+v, %v", service, r, err)
		}
		if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service, EndWitness: true}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", service, err)
		}
	}
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", EndWitness: true}); err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(time.Minute) }
	r, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", Now: later}) // it is over already
	if err != nil || strings.Contains(strings.Join(r.Todo, "\n"), "witness") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := authority.Rotate(authority.RotateConfig{Dir: unwitnessed, Service: "log"}); err != nil || !strings.Contains(strings.Join(r.Todo, "\n"), "without --witness") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestNamedTreesAreWitnessed: a tree with a name of its own is cosigned, and so is the last
// checkpoint of the one before, also after a restart; the witness knows both by their names.
func TestNamedTreesAreWitnessed(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	var logs []translog.Log
	known := func(origin, file string) {
		t.Helper()
		l, err := translog.NewLog(origin, keyIn(t, filepath.Join(dir, "keys", file)).Public())
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	known("127.0.0.1", "log.pem")
	witnessDir := t.TempDir()
	var server *witness.Server
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { server.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	watch := func() {
		t.Helper()
		if server != nil {
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if server, err = witness.OpenServer(witness.ServerConfig{Dir: witnessDir, Name: "w1", Logs: logs}); err != nil {
			t.Fatal(err)
		}
	}
	watch()
	t.Cleanup(func() { _ = server.Close() })
	target, err := witness.ParseTarget(server.VerifierKey()+" "+front.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	// cosigned waits until what is shown at a tree's address has the witness's line.
	cosigned := func(url string, l translog.Log) {
		t.Helper()
		l.Witnesses = trust.Witnesses{Keys: []trust.Witness{target.Witness}, Quorum: 1}
		for {
			signed, err := get(url + "/api/v2/checkpoint")
			if err != nil {
				t.Fatal(err)
			}
			if c, err := l.ParseCheckpoint(signed, time.Now()); err == nil && len(c.Cosigned) == 1 && c.Size > 0 {
				return
			} else if err != nil && !errors.As(err, new(*translog.Refusal)) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	cfg := authority.Config{Dir: dir, Witnesses: []witness.Target{target}}
	a, end := up(t, cfg)
	if _, err := logged(a.Info().URL, entry(t, "first tree")); err != nil {
		t.Fatal(err)
	}
	cosigned(a.Info().URL, logs[0])
	end()
	r, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", Name: "localhost"})
	if err != nil || !strings.HasPrefix(r.New.URL, "http://localhost:") || strings.Contains(strings.Join(r.Todo, "\n"), "without --witness") {
		t.Fatalf("%+v, %v", r, err)
	}
	known("localhost", "log-2.pem")
	watch()
	var named string
	for range 2 { // and after a restart
		a, end = up(t, cfg)
		base := a.Info().URL
		named = strings.Replace(base, "127.0.0.1", "localhost", 1) + "/log-2"
		if _, err := logged(base, entry(t, "first tree, again")); err != nil {
			t.Fatal(err)
		}
		if _, err := logged(named, entry(t, "second tree")); err != nil {
			t.Fatal(err)
		}
		cosigned(base, logs[0])
		cosigned(named, logs[1])
		if status, body := request(t, "GET", base+"/healthz", ""); status != http.StatusOK || !strings.Contains(body, "localhost: witness w1: ok") || !strings.Contains(body, "127.0.0.1: witness w1: ok") {
			t.Errorf("%d %s", status, body)
		}
		// Under a tree's name nothing answers but that tree, and no web page of others.
		for path, want := range map[string]int{"/": 421, "/healthz": 421, "/log-2": 421, "/log-22/api/v2/checkpoint": 421, "/api/v2/checkpoint": 421, "/v2/": 421, "/log-2/api/v2/checkpoint": 200} {
			if status, _ := request(t, "GET", strings.TrimSuffix(named, "/log-2")+path, ""); status != want {
				t.Errorf("%s: %d, want %d", path, status, want)
			}
		}
		if status, _ := request(t, "GET", base+"/log-2/api/v2/checkpoint", "evil.example"); status != 421 {
			t.Errorf("another host: %d", status)
		}
		if status, _ := request(t, "POST", named+"/api/v2/log/entries", "", "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"); status != 403 {
			t.Errorf("another page: %d", status)
		}
		end()
	}
	origins := map[string]bool{}
	for _, l := range rootOf(t, dir).TLogs {
		origins[l.Origin] = true
	}
	if !origins["127.0.0.1"] || !origins["localhost"] {
		t.Errorf("the trusted root has the origins %v", origins)
	}
	// A backup knows the names: it wants a checkpoint of each.
	var saved bytes.Buffer
	if _, err := authority.Backup(dir, &saved); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	if _, err := authority.Restore(bytes.NewReader(saved.Bytes()), restored, authority.RestoreOptions{NothingSince: true}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, restored} {
		if c, err := authority.Check(d); err != nil || len(c.Damage) > 0 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	// A later tree without a name has that of the first one: witnesses are over, and said to be.
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", Now: later}); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "--name HOST") {
		t.Errorf("%v", err)
	}
	if r, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", Now: later, EndWitness: true}); err != nil || !strings.Contains(strings.Join(r.Todo, "\n"), "without --witness") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", Witnesses: cfg.Witnesses}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "2 trees of the log have the name 127.0.0.1") {
		t.Errorf("%v", err)
	}
}
