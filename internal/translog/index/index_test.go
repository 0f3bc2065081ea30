package index_test

import (
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/index"
)

// world is a log with three signers and its folder.
type world struct {
	log               *tilelog.Log
	alice, bob, carol []byte // certificates of the first two, carol's key
	folder            *translog.Folder
	source            translog.Source
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{log: tilelog.New("log.example.com")}
	f := forge.New(forge.Options{})
	leaf := func(o forge.LeafOptions) []byte {
		o.Key = forge.NewKey(elliptic.P256()).Public()
		return f.Leaf(o).Raw
	}
	w.alice, w.bob = leaf(forge.Alice()), leaf(forge.Workflow())
	w.carol = forge.Must(x509.MarshalPKIXPublicKey(forge.NewKey(elliptic.P256()).Public()))
	server := httptest.NewServer(w.log)
	t.Cleanup(server.Close)
	var err error
	w.source, err = translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{Wait: time.Millisecond})
	if err != nil {
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

// add logs n entries, by alice, bob and carol in turn, and every seventh nonsense.
func (w *world) add(n int) {
	var all [][]byte
	for i := int(w.log.Size()); n > 0; i, n = i+1, n-1 {
		content := fmt.Appendf(nil, "content %d", i)
		switch {
		case i%7 == 6:
			all = append(all, content)
		case i%3 == 0:
			all = append(all, tilelog.HashedRekord(content, []byte("s"), w.alice, nil))
		case i%3 == 1:
			all = append(all, tilelog.DSSE(content, []byte("s"), w.bob, nil))
		default:
			all = append(all, tilelog.HashedRekord(content, []byte("s"), nil, w.carol))
		}
	}
	w.log.Append(all...)
}

func (w *world) view(t testing.TB) *translog.View {
	t.Helper()
	v, err := w.folder.Advance(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	return v.View
}

func (w *world) indexDir() string { return filepath.Join(w.folder.Dir(), "index") }

func open(t testing.TB, dir string) *index.Index {
	t.Helper()
	x, err := index.OpenSmall(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func which(n int64, is func(i int64) bool) []int64 {
	var out []int64
	for i := range n {
		if is(i) {
			out = append(out, i)
		}
	}
	return out
}

// check compares what an index finds with what is in the log.
func (w *world) check(t *testing.T, x *index.Index, v *translog.View) {
	t.Helper()
	sum := sha256.Sum256(w.carol)
	content := sha256.Sum256([]byte("content 4"))
	for name, c := range map[string]struct {
		key  index.Key
		want []int64
	}{
		"alice":   {index.Identity(forge.Alice().Email), which(v.Size(), func(i int64) bool { return i%7 != 6 && i%3 == 0 })},
		"bob":     {index.Identity(forge.Workflow().URI), which(v.Size(), func(i int64) bool { return i%7 != 6 && i%3 == 1 })},
		"carol":   {index.PublicKey("sha256:" + hex.EncodeToString(sum[:])), which(v.Size(), func(i int64) bool { return i%7 != 6 && i%3 == 2 })},
		"unread":  {index.Unread(), which(v.Size(), func(i int64) bool { return i%7 == 6 })},
		"digest":  {index.Digest(evidence.Digest("sha256:" + hex.EncodeToString(content[:]))), []int64{4}},
		"nothing": {index.Identity("nobody"), nil},
	} {
		got, err := x.Search(t.Context(), v, c.key, nil)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %d entries, want %d (%v)", name, len(got), len(c.want), err)
		}
	}
	if x.Size() != v.Size() {
		t.Errorf("the index has %d of %d entries", x.Size(), v.Size())
	}
}

func TestGrowsWithTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, n := range []int{5, 1, 300, 700} {
		w.add(n)
		x := open(t, w.indexDir())
		w.check(t, x, w.view(t))
		x.Close()
	}
}

// An index goes over into a second segment, and whatever is damaged of it is made
// again.
func TestSegmentsAndDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(1024 + 200)
	v := w.view(t)
	x := open(t, w.indexDir())
	w.check(t, x, v)
	x.Close()
	for _, name := range []string{"segment-000000", "tail", "state.sealed"} {
		path := filepath.Join(w.indexDir(), name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bad[len(bad)/2] ^= 1
		for _, data := range [][]byte{bad, good[:len(good)-16], nil} {
			if data == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			x := open(t, w.indexDir())
			w.check(t, x, v)
			x.Close()
		}
	}
}

// What a crash left behind the end of the tail does not count.
func TestCrashBeforeTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(100)
	x := open(t, w.indexDir())
	w.check(t, x, w.view(t))
	x.Close()
	old, err := os.ReadFile(filepath.Join(w.indexDir(), "state.sealed"))
	if err != nil {
		t.Fatal(err)
	}
	w.add(100)
	x = open(t, w.indexDir())
	w.check(t, x, w.view(t))
	x.Close()
	if err := os.WriteFile(filepath.Join(w.indexDir(), "state.sealed"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	x = open(t, w.indexDir())
	if x.Size() != 100 {
		t.Errorf("the index has %d entries", x.Size())
	}
	w.check(t, x, w.view(t))
}

// An index of one tree is not used for another.
func TestOtherTree(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	w.add(50)
	x := open(t, w.indexDir())
	w.check(t, x, w.view(t))
	other.add(300)
	other.check(t, x, other.view(t))
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(1024 + 100)
	v := w.view(t)
	x := open(t, w.indexDir())
	ctx, cancel := context.WithCancel(t.Context())
	if err := x.Extend(ctx, v, func(done, _ int64) {
		if done == 1024 {
			cancel()
		}
	}); err == nil {
		t.Fatal("it was not interrupted")
	}
	x.Close()
	x = open(t, w.indexDir())
	if x.Size() != 1024 {
		t.Errorf("the index has %d entries", x.Size())
	}
	w.check(t, x, v)
}
