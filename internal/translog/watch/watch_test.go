package watch_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/watch"
)

type world struct {
	t      *testing.T
	log    *tilelog.Log
	forge  *forge.World
	folder *translog.Folder
	source translog.Source
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, log: tilelog.New("log.example.com"), forge: forge.New(forge.Options{})}
	server := httptest.NewServer(w.log)
	t.Cleanup(server.Close)
	var err error
	if w.source, err = translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{Wait: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	log, err := translog.ParseKey(w.log.VerifierKey(), "")
	if err != nil {
		t.Fatal(err)
	}
	if w.folder, err = translog.OpenFolder(t.TempDir(), log); err != nil {
		t.Fatal(err)
	}
	return w
}

// sign has somebody of an instance sign content and logs it.
func (w *world) sign(by *forge.World, who forge.LeafOptions, content string) *evidence.Claim {
	c := by.Claim(forge.ClaimOptions{Leaf: &who, Artifact: []byte(content)})
	w.log.Append(tilelog.HashedRekord([]byte(content), c.Signature(), c.Certificates[0], nil))
	return c
}

func (w *world) file(name string, data []byte) string {
	path := filepath.Join(w.t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) expected(sources ...string) *watch.Expected {
	w.t.Helper()
	e, err := watch.NewExpected(registry.NewClient(registry.Options{}), sources)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) look(e *watch.Expected) (*watch.Seen, error) {
	w.t.Helper()
	x, err := watch.Open(w.t.Context(), w.folder, watch.Config{Identity: forge.Alice().Email, Issuer: forge.Alice().IssuerV2, CAs: w.forge.Root.CAs, Expected: e})
	if err != nil {
		w.t.Fatal(err)
	}
	defer x.Close()
	v, err := w.folder.Advance(w.t.Context(), w.source)
	if err != nil {
		return nil, err
	}
	return x.Look(w.t.Context(), v.View, nil)
}

func (w *world) wants(e *watch.Expected, looked int64, explained, untrusted, unread int, open ...int64) {
	w.t.Helper()
	s, err := w.look(e)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []int64
	for _, e := range s.Unexplained {
		got = append(got, e.Index)
	}
	if s.Looked != looked || s.Explained != explained || s.Untrusted != untrusted || len(s.Unread) != unread || fmt.Sprint(got) != fmt.Sprint(open) {
		w.t.Errorf("looked at %d, explained %d, untrusted %d, unread %v, open %v; want %d, %d, %d, %d, %v",
			s.Looked, s.Explained, s.Untrusted, s.Unread, got, looked, explained, untrusted, unread, open)
	}
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine := w.sign(w.forge, forge.Alice(), "mine")
	w.sign(w.forge, forge.Workflow(), "somebody else's")
	w.sign(forge.New(forge.Options{}), forge.Alice(), "by an authority of the thief's own")
	w.log.Append([]byte("nonsense"))
	bundle := w.file("bundle.json", forge.Bundle(mine, "0.3"))
	e := w.expected(bundle)
	w.wants(e, 4, 1, 1, 1)
	w.wants(e, 0, 0, 0, 0)

	w.sign(w.forge, forge.Alice(), "stolen") // index 4
	w.sign(w.forge, forge.Alice(), "mine")   // index 5: what I signed, signed again by somebody
	other := forge.Alice()
	other.IssuerV2 = "https://other.example.com"
	w.sign(w.forge, other, "of another issuer")
	w.wants(e, 3, 0, 0, 0, 4, 5)
	w.wants(e, 0, 0, 0, 0, 4, 5) // it stays open, whoever looks
	listed := w.expected(bundle, w.file("digests", []byte("# mine\n"+digest("mine")+"  release.tar\n\n")))
	w.wants(listed, 0, 1, 0, 0, 4)
	w.wants(w.expected(bundle, w.file("digests", []byte(digest("stolen")))), 0, 1, 0, 0)
	w.wants(e, 0, 0, 0, 0) // and what was explained is done with
}

// A file with many bundles, and one that holds nothing.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var lines []byte
	for i := range 3 {
		lines = append(append(lines, forge.Bundle(w.sign(w.forge, forge.Alice(), fmt.Sprint(i)), "0.3")...), '\n')
	}
	w.wants(w.expected(w.file("none", []byte(" \n"))), 3, 0, 0, 0, 0, 1, 2)
	w.wants(w.expected(w.file("lines", lines)), 0, 3, 0, 0)
	for _, bad := range []string{"nonsense", "sha256:12", "{}", `{"mediaType": "x"}`} {
		w.sign(w.forge, forge.Alice(), bad)
		if _, err := w.look(w.expected(w.file("bad", []byte(bad)))); err == nil {
			t.Errorf("%q explained something", bad)
		}
	}
	for _, bad := range []string{"missing.txt", "missing/file.txt", "./missing.txt"} {
		if _, err := watch.NewExpected(registry.NewClient(registry.Options{}), []string{bad}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What cannot be reached explains nothing, and is an error: nothing is skipped.
func TestRepositoryIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sign(w.forge, forge.Alice(), "mine")
	gone := httptest.NewServer(nil)
	gone.Close()
	e := w.expected(gone.Listener.Addr().String() + "/app")
	for range 2 {
		if _, err := w.look(e); fault.KindOf(err) != fault.Unreachable {
			t.Fatalf("got %v", err)
		}
	}
	w.wants(w.expected(w.file("none", nil)), 1, 0, 0, 0, 0)
}

// A watch knows what it has looked at, even when the folder forgot what it saw.
func TestOtherLog(t *testing.T) {
	t.Parallel()
	for want, size := range map[string]int{translog.CodeShrunk: 2, translog.CodeForked: 20} {
		w := newWorld(t)
		w.log.Append(tilelog.Texts(0, 10)...)
		e := w.expected(w.file("none", nil))
		w.wants(e, 10, 0, 0, 10)
		if err := os.Remove(filepath.Join(w.folder.Dir(), "checkpoint")); err != nil {
			t.Fatal(err)
		}
		fork := w.log.ForkAt(1)
		fork.Append(tilelog.Texts(100, size-1)...)
		server := httptest.NewServer(fork)
		t.Cleanup(server.Close)
		w.source, _ = translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{})
		_, err := w.look(e)
		var r *translog.Refusal
		if !errors.As(err, &r) || r.Code != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// One watch of an identity in a folder at a time; a damaged state is named.
func TestState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := watch.Config{Identity: "alice", Expected: w.expected()}
	first, err := watch.Open(t.Context(), w.folder, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Open(t.Context(), w.folder, cfg); err == nil || fault.HintOf(err) == "" {
		t.Errorf("a second watch: %v", err)
	}
	w.log.Append([]byte("x"))
	v, err := w.folder.Advance(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Look(t.Context(), v.View, nil); err != nil {
		t.Fatal(err)
	}
	first.Close()
	files, err := filepath.Glob(filepath.Join(w.folder.Dir(), "watch-*.sealed"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Open(t.Context(), w.folder, cfg); err == nil || fault.HintOf(err) == "" {
		t.Errorf("a damaged state: %v", err)
	}
}
