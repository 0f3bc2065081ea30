package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	sumtlog "golang.org/x/mod/sumdb/tlog"
)

// impatient is for answers that must not come.
const impatient = 3 * time.Second

// refusedEntry demands that a writer acknowledges nothing.
func (s *site) refusedEntry(t *testing.T, name string, w *writer, request []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), impatient)
	defer cancel()
	if r, err := submit(ctx, w.url, request); err == nil {
		t.Errorf("%s: an entry was acknowledged as %d", name, r.LogIndex)
	}
}

// refusedStart demands that a writer does not start, and says why.
func (s *site) refusedStart(t *testing.T, name, want string, args ...string) {
	t.Helper()
	w, err := s.start(args...)
	if err == nil {
		w.kill()
		t.Errorf("%s: the writer started", name)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v\nwant %q", name, err, want)
	}
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestForksAreTried puts the storage into every state that would make a log fork, and
// the log signs nothing.
func TestForksAreTried(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	signer := newEntrySigner(t)
	s.refusedStart(t, "an empty storage without --create", "start once with --create")
	w := s.mustStart(t, "--create")
	empty := t.TempDir()
	copyFolder(t, s.path("data"), empty)
	emptyCheckpoint, err := os.ReadFile(s.path("data/checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	add := func(w *writer, n int) {
		t.Helper()
		for range n {
			if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(w, 3)
	w.stop(t)
	older := t.TempDir()
	copyFolder(t, s.path("data"), older)
	w = s.mustStart(t)
	add(w, 3)
	w.stop(t)
	last, err := os.ReadFile(s.path("data/checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "last", last)
	s.extend(t, "extends: last")
	newest := t.TempDir()
	copyFolder(t, s.path("data"), newest)
	put := func(from string) {
		t.Helper()
		if err := os.RemoveAll(s.path("data")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(s.path("data"), 0o755); err != nil {
			t.Fatal(err)
		}
		copyFolder(t, from, s.path("data"))
		// Another host, which knows only what extends says.
		if err := os.RemoveAll(s.path("newest")); err != nil {
			t.Fatal(err)
		}
	}

	put(older)
	s.refusedStart(t, "an older copy of the storage", "does not extend the one of 6")
	put(t.TempDir())
	s.refusedStart(t, "an empty storage, created anew", "does not extend the one of 6", "--create")

	put(newest)
	if err := os.Remove(s.path("data/checkpoint")); err != nil {
		t.Fatal(err)
	}
	w, err = s.start() // the tree is there and is what was signed: it is signed again
	if err != nil {
		t.Fatal(err)
	}
	add(w, 1)
	w.kill()

	put(newest)
	state := s.path("data/.state/treeState")
	for name, c := range map[string]struct{ text, want string }{
		"a lost tree":    {"", "does not extend"},
		"another root":   {`{"size":7,"root":"` + strings.Repeat("A", 43) + `="}`, "no checkpoint is signed"},
		"a smaller tree": {`{"size":2,"root":"` + strings.Repeat("A", 43) + `="}`, "no checkpoint is signed"},
	} {
		put(newest)
		if c.text == "" {
			err = os.Remove(state)
		} else {
			err = os.WriteFile(state, []byte(c.text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.start()
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v\nwant %q", name, err, c.want)
			}
			continue
		}
		// It shows what was signed, and signs nothing on top of what is wrong.
		s.refusedEntry(t, name, w, signer.request(t))
		w.kill()
		if shown, err := os.ReadFile(s.path("data/checkpoint")); err != nil || string(shown) != string(last) {
			t.Errorf("%s: the checkpoint was replaced", name)
		}
	}

	// A tree that is none, on top of an empty one.
	put(empty)
	s.write(t, "last", emptyCheckpoint)
	if err := os.WriteFile(state, []byte(`{"size":7,"root":"`+strings.Repeat("A", 43)+`="}`), 0o644); err != nil {
		t.Fatal(err)
	}
	s.refusedStart(t, "a tree without tiles", "no checkpoint is signed")
	s.write(t, "last", last)

	// Another log's storage, and this one's under another key or origin.
	put(newest)
	stranger := newSite(t, "posix", newKey(t))
	copyFolder(t, newest, mkdir(t, stranger.path("data")))
	stranger.refusedStart(t, "another key", "not signed by the log")
	s.write(t, "last", s.sign(t, 6, sumtlog.Hash(sha256.Sum256(nil))))
	s.refusedStart(t, "a log that was continued otherwise", "its entries are others")
	s.write(t, "last", []byte("no checkpoint\n"))
	s.refusedStart(t, "extends is no checkpoint", "extends")
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStorageGoesBackUnderAWriter: what a writer has shown it holds its storage to,
// also while it runs.
func TestStorageGoesBackUnderAWriter(t *testing.T) {
	t.Parallel()
	s := newSite(t, "mysql", newKey(t))
	signer := newEntrySigner(t)
	w := s.mustStart(t, "--create")
	for range 2 {
		if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
			t.Fatal(err)
		}
	}
	db := s.database(t)
	var size int
	var root []byte
	if err := db.QueryRow("SELECT size, root FROM TreeState").Scan(&size, &root); err != nil || size != 2 {
		t.Fatalf("%d %v", size, err)
	}
	_, shown, err := get(w.url + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	// Somebody restores the database of before: no tree, no checkpoint, no entries.
	for _, table := range []string{"TreeState", "Checkpoint", "Subtree", "TiledLeaves", "AntispamIDSeq"} {
		if _, err := db.Exec("DELETE FROM " + table); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("INSERT INTO TreeState VALUES (0, 0, ?)", sha256.New().Sum(nil)); err != nil {
		t.Fatal(err)
	}
	s.refusedEntry(t, "a log that went back", w, signer.request(t))
	var published int
	if err := db.QueryRow("SELECT COUNT(*) FROM Checkpoint").Scan(&published); err != nil || published != 0 {
		t.Errorf("FORK: a checkpoint of the tree that went back was published (%v)", err)
	}
	if _, after, err := get(w.url + "/api/v2/checkpoint"); err != nil || string(after) != string(shown) {
		t.Errorf("the checkpoint that is shown went back: %v", err)
	}
	w.kill()
	for _, args := range [][]string{nil, {"--create"}} {
		s.refusedStart(t, "started again", "2 were signed: entries are missing", args...)
	}
}

// replaced puts the content of a folder where the storage is.
func (s *site) replaced(t *testing.T, from string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(s.path("data")), os.Mkdir(s.path("data"), 0o755)); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, from, s.path("data"))
}

// TestARestartForgetsNothing: a storage that goes back stops the log, and starting it
// again, as whatever watches it does, does not make it sign another tree.
func TestARestartForgetsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	signer := newEntrySigner(t)
	add := func(w *writer, n int) {
		t.Helper()
		for range n {
			if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := s.mustStart(t, "--create")
	add(w, 2)
	w.stop(t)
	older, last := t.TempDir(), readFile(t, s.path("data/checkpoint"))
	copyFolder(t, s.path("data"), older)
	s.write(t, "last", last)
	s.extend(t, "extends: last")
	w = s.mustStart(t)
	add(w, 3)

	s.replaced(t, older)
	s.refusedEntry(t, "a storage that went back", w, signer.request(t))
	for path, want := range map[string]int{"/healthz": 503, "/livez": 200} { // nothing starts it anew for that
		if status, _, err := get(w.url + path); err != nil || status != want {
			t.Errorf("%s of a log that has stopped: %d %v, want %d", path, status, err, want)
		}
	}
	w.kill()
	for range 2 {
		s.refusedStart(t, "the older storage, started again", "5 were signed: entries are missing")
	}
	s.replaced(t, t.TempDir())
	s.refusedStart(t, "an empty storage, started again", "does not extend the one of 5", "--create")
	// Other entries to the same number, from a host that remembers nothing.
	newest := readFile(t, s.path("newest"))
	s.replaced(t, older)
	if err := os.Remove(s.path("newest")); err != nil {
		t.Fatal(err)
	}
	w = s.mustStart(t)
	add(w, 4)
	w.stop(t)
	s.write(t, "newest", newest)
	s.refusedStart(t, "another continuation", "its entries are others")
}

// TestWhatIsRemembered is about the file newest: it is ahead of the storage when a writer
// dies at the wrong moment, a new host does not have it, and it may be damaged.
func TestWhatIsRemembered(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	signer := newEntrySigner(t)
	w := s.mustStart(t, "--create")
	begun := readFile(t, s.path("data/checkpoint"))
	for range 3 {
		if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
			t.Fatal(err)
		}
	}
	w.kill()
	newest := readFile(t, s.path("newest"))
	if c, err := s.known.ParseCheckpoint(newest, time.Now()); err != nil || c.Size != 3 {
		t.Fatalf("3 entries were acknowledged and this is remembered: %q %v", newest, err)
	}
	// It was signed and not published: the tree is there, and is published now.
	s.write(t, "data/checkpoint", begun)
	w = s.mustStart(t)
	if _, body, err := get(w.url + "/api/v2/checkpoint"); err != nil || !strings.HasPrefix(string(body), testOrigin+"\n3\n") {
		t.Errorf("after a writer died before it published: %q %v", body, err)
	}
	w.stop(t)

	if err := os.Remove(s.path("newest")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"--create"}} {
		s.refusedStart(t, "a new host", "nothing on this host says that no more were signed", args...)
	}
	s.write(t, "last", newest)
	good := readFile(t, s.path("log.yaml"))
	s.extend(t, "extends: last")
	s.mustStart(t).stop(t)
	s.write(t, "log.yaml", good)
	s.mustStart(t).stop(t) // it remembers now

	s.write(t, "newest", newest[:len(newest)-3])
	s.refusedStart(t, "a file that was cut", s.path("newest"))
	stranger := newSite(t, "posix", newKey(t))
	s.write(t, "newest", stranger.sign(t, 1, sumtlog.Hash(sha256.Sum256(nil))))
	s.refusedStart(t, "another log's", "not signed by the log")
	s.write(t, "log.yaml", []byte(strings.Replace(string(good), "newest: newest", "newest: missing/newest", 1)))
	s.refusedStart(t, "a folder that is not there", "missing/newest")
}

// TestServerMayLoseNothing: a database that acknowledges what it may still lose is
// refused. (Not beside others: the setting is the server's.)
func TestServerMayLoseNothing(t *testing.T) {
	s := newSite(t, "mysql", newKey(t))
	db := s.database(t)
	if _, err := db.Exec("SET GLOBAL innodb_flush_log_at_trx_commit = 2"); err != nil {
		t.Fatal(err)
	}
	s.refusedStart(t, "a server that may lose commits", "innodb_flush_log_at_trx_commit=2", "--create")
	if _, err := db.Exec("SET GLOBAL innodb_flush_log_at_trx_commit = 1"); err != nil {
		t.Fatal(err)
	}
}

// TestUnbegunMemtable: a writer that was killed just when it had made a file of its index of
// duplicates starts again.
func TestUnbegunMemtable(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	signer := newEntrySigner(t)
	w := s.mustStart(t, "--create")
	if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
		t.Fatal(err)
	}
	w.stop(t)
	if err := os.WriteFile(s.path("data/"+duplicatesDir+"/00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w = s.mustStart(t)
	if _, err := submit(t.Context(), w.url, signer.request(t)); err != nil {
		t.Fatal(err)
	}
	w.stop(t)
}
