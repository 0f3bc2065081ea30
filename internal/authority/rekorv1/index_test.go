package rekorv1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

func searched(t *testing.T, l *Log, query object) []string {
	t.Helper()
	w := ask(l, http.MethodPost, "/api/v1/index/retrieve", must(json.Marshal(query)))
	var ids []string
	if err := json.Unmarshal(w.Body.Bytes(), &ids); err != nil || w.Code != http.StatusOK || ids == nil {
		t.Fatalf("%v: %d %s", query, w.Code, w.Body)
	}
	return ids
}

func TestSearch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	alice, bob := p256(), p256()
	cert := certificateFor(alice, "Alice@Example.com")
	env := envelopeOf(`{"payload":1}`, alice)
	ids := []string{}
	for _, body := range [][]byte{
		hashedrekord(alice, cert, "one"),
		hashedrekord(bob, keyPEM(bob.Public()), "one"),
		dsse(env, cert),
		hashedrekord(bob, keyPEM(bob.Public()), "two"),
	} {
		id, _ := added(t, l, body)
		ids = append(ids, id)
	}
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	key := func(text []byte) object { return object{"format": "x509", "content": b64(text)} }
	check := func() {
		t.Helper()
		for _, c := range []struct {
			query object
			want  []string // newest first
		}{
			{object{"hash": "sha256:" + hash("one")}, []string{ids[1], ids[0]}},
			{object{"hash": hash("two")}, []string{ids[3]}},
			{object{"hash": hash(env)}, []string{ids[2]}},
			{object{"hash": hash(`{"payload":1}`)}, []string{ids[2]}},
			{object{"hash": hash("never")}, []string{}},
			{object{"email": "alice@example.com"}, []string{ids[2], ids[0]}},
			{object{"email": "https://example.com/Workflow.yml"}, []string{ids[2], ids[0]}},
			{object{"email": "example.com"}, []string{}},
			{object{"publicKey": key(keyPEM(bob.Public()))}, []string{ids[3], ids[1]}},
			{object{"publicKey": key(cert)}, []string{ids[2], ids[0]}},
			{object{"email": "alice@example.com", "hash": hash("one"), "operator": "and"}, []string{ids[0]}},
			{object{"email": "alice@example.com", "hash": hash("two"), "operator": "and"}, []string{}},
			{object{"email": "alice@example.com", "hash": hash("two")}, []string{ids[3], ids[2], ids[0]}},
			{object{"email": nil, "publicKey": nil}, []string{}},
		} {
			if diff := cmp.Diff(c.want, searched(t, l, c.query)); diff != "" {
				t.Errorf("%v: %s", c.query, diff)
			}
		}
	}
	check()
	id, _ := added(t, l, hashedrekord(alice, cert, "later"))
	if got := searched(t, l, object{"hash": hash("later")}); !slices.Equal(got, []string{id}) {
		t.Errorf("an entry that came after the first search: %v", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	ids2 := searched(t, l, object{"email": "alice@example.com"})
	if !slices.Equal(ids2, []string{id, ids[2], ids[0]}) {
		t.Errorf("after opening again: %v", ids2)
	}
}

// TestIndexStays: what is on disk of the index is taken up when the log is opened, and
// made again when it is another log's, damaged or gone. Check notices.
func TestIndexStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	key := p256()
	id, _ := added(t, l, hashedrekord(key, keyPEM(key.Public()), "a"))
	query := object{"publicKey": object{"format": "x509", "content": b64(keyPEM(key.Public()))}}
	found := func(want ...string) {
		t.Helper()
		if got := searched(t, l, query); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	found(id)
	// As if 32,768 keys had come.
	keep := func() {
		t.Helper()
		err := l.index.locked(t.Context(), func() error {
			root, err := l.log.View().RootAt(l.index.done)
			if err != nil {
				return err
			}
			return errors.Join(l.index.m.Flush(l.index.done, root[:], nil), l.index.m.Wait())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	keep()
	id2, _ := added(t, l, hashedrekord(key, keyPEM(key.Public()), "b"))
	check := func(want int) {
		t.Helper()
		n := 0
		if _, err := Check(dir, testConfig(), func(d durable.Damage) { n++ }); err != nil || n != want {
			t.Errorf("Check found %d, want %d: %v", n, want, err)
		}
	}
	reopen := func(covered int64) {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, dir)
		if got, _ := l.index.m.Covered(); got != covered {
			t.Errorf("%d entries are covered, want %d", got, covered)
		}
		found(id2, id)
	}
	reopen(1)
	keep()
	check(0)
	reopen(2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := postings.Open(filepath.Join(dir, searchDir), postings.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.Add(postings.Key{1}, 1) // what is not there
	_, mark := m.Covered()
	if err := errors.Join(m.Flush(2, mark, nil), m.Wait()); err != nil {
		t.Fatal(err)
	}
	check(1)
	if err := errors.Join(m.Flush(2, make([]byte, 32), nil), m.Wait(), m.Close()); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	found(id2, id)
	if got, _ := l.index.m.Covered(); got != 0 {
		t.Errorf("another log's index is taken up: %d", got)
	}
	keep()
	runs, err := filepath.Glob(filepath.Join(dir, searchDir, "run-*"))
	if err != nil || len(runs) != 1 {
		t.Fatal(runs, err)
	}
	data, err := os.ReadFile(runs[0])
	if err != nil {
		t.Fatal(err)
	}
	data[20] ^= 1
	if err := os.WriteFile(runs[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	check(1)
	found(id2, id) // made again
}

func TestSearchThatIsGivenUp(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	key := p256()
	added(t, l, hashedrekord(key, keyPEM(key.Public()), "x"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.index.search(ctx, l.log.View(), nil, false, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	l.index.busy <- struct{}{} // somebody else searches
	if _, err := l.index.search(ctx, l.log.View(), nil, false, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-l.index.busy
	if got := searched(t, l, object{"publicKey": object{"format": "x509", "content": b64(keyPEM(key.Public()))}}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}
