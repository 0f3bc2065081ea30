package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/folder"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// oldLog is the log of an authority, which is to be migrated.
type oldLog struct {
	*tlog.Log
	dir    string
	server *httptest.Server
	signer *entrySigner
	sent   [][]byte
}

func (s *site) oldLog(t *testing.T) *oldLog {
	t.Helper()
	old := &oldLog{dir: filepath.Join(t.TempDir(), "log"), signer: newEntrySigner(t)}
	var err error
	if old.Log, err = tlog.Open(old.dir, tlog.Config{Origin: testOrigin, Key: s.key}); err != nil {
		t.Fatal(err)
	}
	old.server = httptest.NewServer(old.Handler())
	t.Cleanup(func() { old.server.Close(); _ = old.Close() })
	return old
}

func (o *oldLog) add(t *testing.T, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		request := o.signer.request(t)
		o.sent = append(o.sent, request)
		all.Go(func() {
			if _, err := submit(t.Context(), o.server.URL, request); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// migrate runs hallmark-log migrate; what it said is in the error.
func (s *site) migrate(from string, args ...string) error {
	cmd := exec.Command(os.Args[0], append([]string{"migrate", "--config", s.path("log.yaml"), "--from", from}, args...)...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), s.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestMigrate is the move of docs/outgrown.md: a first copy while the old log runs, a
// second when it stands still, and then the new one goes on from exactly there.
func TestMigrate(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "mysql", "aws"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, driver, newKey(t))
			s.extend(t, "extends: last-checkpoint")
			old := s.oldLog(t)
			old.add(t, 270)
			if err := s.migrate(old.server.URL, "--while-running"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.path("last-checkpoint")); err == nil {
				t.Error("a checkpoint to go on from was written while the log is running")
			}
			s.refusedStart(t, "a log of which a part was copied", "last-checkpoint: no such file")
			old.add(t, 330) // 600: two full bundles and a partial one, which was partial before
			last := old.Checkpoint()
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.migrate(old.dir); err != nil {
				t.Fatal(err)
			}
			written, err := os.ReadFile(s.path("last-checkpoint"))
			if err != nil || !bytes.Equal(written, last) {
				t.Fatalf("the checkpoint to go on from is not the old log's last one: %v", err)
			}
			w := s.mustStart(t)
			c, entries := s.entries(t, w.url)
			before, err := s.known.ParseCheckpoint(last, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if !c.Same(before) {
				t.Fatalf("the tree of %d entries is not the old one of %d", c.Size, before.Size)
			}
			again, err := submit(t.Context(), w.url, old.sent[5])
			if err != nil {
				t.Fatal(err)
			}
			if again.LogIndex >= 600 || string(entries[again.LogIndex]) != string(again.CanonicalizedBody) {
				t.Errorf("an entry of the old log was taken again, as %d", again.LogIndex)
			}
			fresh, err := submit(t.Context(), w.url, old.signer.request(t))
			if err != nil {
				t.Fatal(err)
			}
			if fresh.LogIndex != 600 {
				t.Errorf("the first new entry has index %d", fresh.LogIndex)
			}
			if err := s.checkReceipt(fresh); err != nil {
				t.Error(err)
			}
			_, all := s.entries(t, w.url)
			if rootsOf(t, all)[600] != before.Root {
				t.Error("FORK: the new log does not extend the old one")
			}
			w.kill()
			why := "is a log already"
			if driver == "aws" { // a bucket is read by writers alone; the host's memory speaks
				why = "was signed before"
			}
			if err := s.migrate(old.dir); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("migrating over a log that runs: %v", err)
			}
		})
	}
}

// TestMigrateWaits: the last copy of a log in a data folder begins when nobody writes to
// the folder any more, so that it has everything that was acknowledged, and nobody begins
// to write before it ends. What has moved on is not copied at all.
func TestMigrateWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	s.extend(t, "extends: last-checkpoint")
	old := s.oldLog(t)
	old.add(t, 3)
	data := filepath.Dir(old.dir)
	state := func(text string) {
		t.Helper()
		if err := durable.WriteSealed(filepath.Join(data, folder.StateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state(`{"version":3}`)
	held, err := folder.Lock(data) // as hallmark up does until it has ended
	if err != nil {
		t.Fatal(err)
	}
	if err := s.migrate(old.dir, "--while-running"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.migrate(old.dir) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(2 * time.Second):
	}
	old.add(t, 4) // a request that was under way
	last := old.Checkpoint()
	if err := errors.Join(old.Close(), held.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if written := readFile(t, s.path("last-checkpoint")); !bytes.Equal(written, last) {
		t.Errorf("the last copy ends with %q, the log with %q", written, last)
	}
	if again, err := folder.Lock(data); err != nil {
		t.Errorf("the folder is not given back: %v", err)
	} else {
		_ = again.Close()
	}

	// It is taken over and goes on; the folder is an older copy of it from now on.
	w := s.mustStart(t)
	if _, err := submit(t.Context(), w.url, old.signer.request(t)); err != nil {
		t.Fatal(err)
	}
	w.kill()
	if err := os.RemoveAll(s.path("data")); err != nil {
		t.Fatal(err)
	}
	if err := s.migrate(old.dir); err == nil || !strings.Contains(err.Error(), "remembers what was signed since") {
		t.Errorf("migrating an older copy: %v", err)
	}
	state(`{"version":3,"moved":{"shard":1,"url":"http://127.0.0.1:9","seen":"x"}}`)
	fresh := newSite(t, "posix", s.key)
	fresh.extend(t, "extends: last-checkpoint")
	for _, args := range [][]string{nil, {"--while-running"}} {
		if err := fresh.migrate(old.dir, args...); err == nil || !strings.Contains(err.Error(), "is written to at http://127.0.0.1:9 since it was moved there") {
			t.Errorf("migrating a log that has moved on: %v", err)
		}
	}
}

// TestMigrateFromAWriter: nothing is taken from under a hallmark-log that writes.
func TestMigrateFromAWriter(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	w := s.mustStart(t, "--create")
	to := newSite(t, "posix", s.key)
	to.extend(t, "extends: last-checkpoint")
	done := make(chan error, 1)
	go func() { done <- to.migrate(s.path("data")) }()
	signer := newEntrySigner(t)
	for range 3 {
		if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
			t.Fatal(err)
		}
	}
	w.stop(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if c, err := to.known.ParseCheckpoint(readFile(t, to.path("last-checkpoint")), time.Now()); err != nil || c.Size != 3 {
		t.Errorf("%+v %v", c, err)
	}
}

// TestMigrateRefuses: what is not the log that its key signed is not taken over.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, "mysql", newKey(t))
	old := s.oldLog(t)
	old.add(t, 20)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, s *site, from, want string) {
		t.Helper()
		if err := s.migrate(from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if _, err := os.Stat(s.path("last-checkpoint")); err == nil {
			t.Errorf("%s: a checkpoint to go on from was written", name)
		}
	}
	refused("no extends", s, old.dir, "names no file as extends")
	s.extend(t, "extends: last-checkpoint")
	refused("no log", s, t.TempDir(), "no such file")

	other := newSite(t, "mysql", newKey(t))
	other.extend(t, "extends: last-checkpoint")
	refused("another key", other, old.dir, "not signed by the log")

	entries := filepath.Join(old.dir, "entries")
	data, err := os.ReadFile(entries)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(data)
	changed[len(changed)-1] ^= 1
	for name, bad := range map[string][]byte{"a flipped bit": changed, "cut off": data[:len(data)-1]} {
		if err := os.WriteFile(entries, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		fresh := newSite(t, "mysql", s.key)
		fresh.extend(t, "extends: last-checkpoint")
		want := map[string]string{"a flipped bit": "nothing is signed", "cut off": "is cut off"}[name]
		refused(name, fresh, old.dir, want)
		if name == "a flipped bit" { // and the tree that came of it is not gone on from
			if _, err := fresh.start(); err == nil {
				t.Error("a log that was migrated wrongly was started")
			}
		}
	}
}
