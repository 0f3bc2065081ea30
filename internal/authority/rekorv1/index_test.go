package rekorv1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// The runs together hold every posting, in order, and there are few of them.
func TestRuns(t *testing.T) {
	t.Parallel()
	x := newIndex()
	rnd := rand.New(rand.NewPCG(1, 2))
	want := map[string][]uint32{}
	entry := int64(0)
	for range 300 {
		var run []posting
		for range 1 + rnd.IntN(40) {
			key := fmt.Sprint(rnd.IntN(200))
			run = append(run, post(key, entry))
			want[key] = append(want[key], uint32(entry))
			entry++
		}
		slices.SortFunc(run, compare)
		x.add(run)
	}
	if len(x.runs) > 12 {
		t.Errorf("%d runs of %d postings", len(x.runs), entry)
	}
	for _, run := range x.runs {
		if !slices.IsSortedFunc(run, compare) {
			t.Error("a run is not sorted")
		}
	}
	for key, entries := range want {
		got := x.find(key)
		slices.Sort(got)
		if !slices.Equal(got, entries) {
			t.Errorf("%s: %v, want %v", key, got, entries)
		}
	}
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
