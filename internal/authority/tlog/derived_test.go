package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// derivedLog is a folder of a closed log with n entries, most of which are covered by
// what is derived. Entries are named by their numbers.
func derivedLog(t testing.TB, n int) (dir string, cfg Config) {
	t.Helper()
	dir, cfg = t.TempDir(), Config{Origin: "127.0.0.1", Key: crashKey(), recent: 50}
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendForTest(n); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.derived.index.Wait(), l.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, cfg
}

// mustServe fails unless everything that the log says is what package merkle, which is
// not ours, makes of the entries.
func mustServe(t *testing.T, l *Log) {
	t.Helper()
	v := l.View()
	var leaves [][]byte
	for i := range v.Size() {
		e, err := v.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(e))
		if leaf, err := v.Leaf(i); err != nil || !bytes.Equal(leaf[:], leaves[i]) {
			t.Fatalf("leaf %d: %v", i, err)
		}
		at, found, err := v.Find(tlog.RecordHash(e))
		for errors.Is(err, postings.ErrUnmade) { // which says to try again
			time.Sleep(time.Millisecond)
			at, found, err = v.Find(tlog.RecordHash(e))
		}
		if err != nil || !found || at != i {
			t.Fatalf("entry %d found at %d: %v %v", i, at, found, err)
		}
		p, err := v.Inclusion(i)
		if err != nil {
			t.Fatal(err)
		}
		root := v.Root()
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(v.Size()), leaves[i], slicesOf(p), root[:]); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	roots := rootsOf(leaves)
	for from := int64(1); from <= v.Size(); from += 37 {
		for _, to := range []int64{from, min(from+1, v.Size()), (from + v.Size()) / 2, v.Size()} {
			p, err := v.Consistency(from, to)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(from), uint64(to), slicesOf(p), roots[from], roots[to]); err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
		}
	}
	for n := int64(0); n < v.Size(); n += 256 {
		w := int(min(256, v.Size()-n))
		tile, err := v.tree.tile(tlog.Tile{H: 8, L: 0, N: n / 256, W: w})
		if err != nil || !bytes.Equal(tile, bytes.Join(leaves[n:n+int64(w)], nil)) {
			t.Fatalf("tile %d: %v", n/256, err)
		}
	}
}

func slicesOf(hashes []tlog.Hash) [][]byte {
	var out [][]byte
	for _, h := range hashes {
		out = append(out, h[:])
	}
	return out
}

// rootsOf is the root over the first n leaves, for each n, as RFC 9162 defines it.
func rootsOf(leaves [][]byte) [][]byte {
	var mth func(d [][]byte) []byte
	mth = func(d [][]byte) []byte {
		switch len(d) {
		case 0:
			return rfc6962.DefaultHasher.EmptyRoot()
		case 1:
			return d[0]
		}
		k := 1
		for 2*k < len(d) {
			k *= 2
		}
		return rfc6962.DefaultHasher.HashChildren(mth(d[:k]), mth(d[k:]))
	}
	out := make([][]byte, len(leaves)+1)
	for n := range out {
		out[n] = mth(leaves[:n])
	}
	return out
}

func TestDerivedAndReadAgainAreOne(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 700)
	reopen := func(why string, change func(derived string) error) {
		t.Helper()
		if err := change(filepath.Join(dir, derivedName)); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, cfg)
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		mustServe(t, l)
		if _, _, err := l.append(context.Background(), []byte(why)); err != nil {
			t.Fatal(err)
		}
		if i, _, err := l.append(context.Background(), []byte("entry 5")); err != nil || i >= 700 {
			t.Errorf("%s: an entry that was there is now number %d: %v", why, i, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(dir, anyEntry(cfg), func(d durable.Damage) { t.Errorf("%s: %s", why, d) }); err != nil {
			t.Fatal(err)
		}
	}
	reopen("as it was", func(string) error { return nil })
	reopen("nothing is derived", os.RemoveAll)
	reopen("no hashes", func(d string) error { return os.Remove(filepath.Join(d, hashesName)) })
	reopen("no offsets", func(d string) error { return os.Remove(filepath.Join(d, offsetsName)) })
	reopen("no index", func(d string) error { return os.RemoveAll(filepath.Join(d, indexName)) })
	reopen("hashes cut", func(d string) error { return os.Truncate(filepath.Join(d, hashesName), 1000) })
	reopen("zeros for hashes", func(d string) error { return os.WriteFile(filepath.Join(d, hashesName), make([]byte, 1<<16), 0o600) })
	reopen("zeros for offsets", func(d string) error { return os.WriteFile(filepath.Join(d, offsetsName), make([]byte, 1<<16), 0o600) })
	other, _ := derivedLog(t, 500)
	reopen("another log's", func(d string) error {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
		l, err := Open(other, cfg) // the same entries in another order
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
		return os.CopyFS(d, os.DirFS(filepath.Join(other, derivedName)))
	})
}

// TestDerivedDamageIsNotServed: each hash and each offset, damaged while the log is
// open, is noticed before it gets out, or healed by then.
func TestDerivedDamageIsNotServed(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 300)
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := l.Handler()
	paths := []string{"/api/v2/tile/0/000", "/api/v2/tile/0/001.p/44", "/api/v2/tile/1/000.p/1", "/api/v2/tile/entries/000", "/api/v2/tile/entries/001.p/44"}
	want := map[string]string{}
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, p := range paths {
		code, body := get(p)
		if code != http.StatusOK {
			t.Fatalf("%s: %d", p, code)
		}
		want[p] = body
	}
	var proofs [][]tlog.Hash
	v := l.View()
	for i := range v.Size() {
		p, err := v.Inclusion(i)
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, p)
	}
	covered, _ := l.derived.index.Covered()
	noticed := 0
	for name, f := range map[string]*os.File{hashesName: l.derived.hashes, offsetsName: l.derived.offsets} {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(5); at < st.Size(); at += 97 {
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{b[0] ^ 4}, at); err != nil {
				t.Fatal(err)
			}
			for _, p := range paths {
				switch code, body := get(p); {
				case code == http.StatusInternalServerError:
					noticed++
				case code != http.StatusOK || body != want[p]:
					t.Errorf("%s, byte %d: %s: %d", name, at, p, code)
				}
			}
			for i := range v.Size() {
				p, err := v.Inclusion(i)
				if errors.As(err, new(*durable.CorruptError)) {
					noticed++
				} else if err != nil || fmt.Sprint(p) != fmt.Sprint(proofs[i]) {
					t.Errorf("%s, byte %d: proof of %d: %v", name, at, i, err)
				}
			}
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 1000 { // the last damage heals beside us
		if code, body := get(paths[0]); code == http.StatusOK && body == want[paths[0]] {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	mustServe(t, l)
	if covered < 250 || noticed < 100 {
		t.Errorf("covered %d, noticed %d: the test tests little", covered, noticed)
	}
}

// TestCheckNamesTheDerivedByte: each hash and each offset, damaged.
func TestCheckNamesTheDerivedByte(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 300)
	covered, _, _, err := postings.Check(filepath.Join(dir, derivedName, indexName), func(d durable.Damage) { t.Error(d) })
	if err != nil || covered < 250 {
		t.Fatal(covered, err)
	}
	for name, size := range map[string]int64{hashesName: hashesSize(covered), offsetsName: covered * offsetSize} {
		path := filepath.Join(dir, derivedName, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < size; at += 61 {
			bad := bytes.Clone(good)
			bad[at] ^= 4
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			var found []durable.Damage
			if _, err := Check(dir, anyEntry(cfg), func(d durable.Damage) { found = append(found, d) }); err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || found[0].Path != path || found[0].Offset != at {
				t.Errorf("%s, byte %d is said to be %v", name, at, found)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckComparesTheIndex: one that names what is not there is noticed.
func TestCheckComparesTheIndex(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 300)
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.derived.index.Add([12]byte{1}, 7)
	for i := range 60 {
		if _, _, err := l.append(context.Background(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.derived.index.Wait(), l.Close()); err != nil {
		t.Fatal(err)
	}
	found := 0
	if _, err := Check(dir, anyEntry(cfg), func(durable.Damage) { found++ }); err != nil || found != 1 {
		t.Errorf("%d, %v", found, err)
	}
}

// TestDamagedIndexIsMadeAgain: a block of the index that was damaged while the log is
// open neither stops it nor lets an entry in twice.
func TestDamagedIndexIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 300)
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, path := range mustGlob(t, filepath.Join(dir, derivedName, indexName, "run-*")) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("damage"), 100); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	size := l.Size()
	if _, _, err := l.View().Find(tlog.RecordHash([]byte("entry 5"))); !errors.As(err, new(*durable.CorruptError)) {
		t.Fatalf("the test tests nothing: %v", err)
	}
	for i := range 300 {
		if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "entry %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if l.Size() != size {
		t.Errorf("%d entries, then %d", size, l.Size())
	}
	mustServe(t, l)
	if err := l.derived.index.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, anyEntry(cfg), func(d durable.Damage) { t.Error(d) }); err != nil {
		t.Fatal(err)
	}
	// Where it cannot be made again, the log stops.
	if _, err := l.store.entries.WriteAt([]byte("?"), 3); err != nil {
		t.Fatal(err)
	}
	for _, r := range mustGlob(t, filepath.Join(dir, derivedName, indexName, "run-*")) {
		data, err := os.ReadFile(r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(r, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, len(data)), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := l.append(context.Background(), []byte("entry 5")); err == nil || l.Err() == nil {
		t.Errorf("entries and index are damaged, and the log goes on: %v", err)
	}
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names
}

// TestDamagedLeafIsNoNewEntry: an entry whose hash on disk is damaged is still found
// when it comes again, and the hash is healed.
func TestDamagedLeafIsNoNewEntry(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 300)
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	where, _, err := l.append(context.Background(), []byte("entry 5"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.derived.hashes.WriteAt([]byte{0, 1, 2, 3}, tlog.StoredHashIndex(0, where)*tlog.HashSize+20); err != nil {
		t.Fatal(err)
	}
	again, _, err := l.append(context.Background(), []byte("entry 5"))
	if err != nil || again != where || l.Size() != 300 {
		t.Errorf("entry %d came again as %d, of %d: %v", where, again, l.Size(), err)
	}
	mustServe(t, l)
}

// TestIndexIsMergedOverDamage: the log goes on, and its index is whole afterwards.
func TestIndexIsMergedOverDamage(t *testing.T) {
	t.Parallel()
	dir, cfg := derivedLog(t, 60)
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, path := range mustGlob(t, filepath.Join(dir, derivedName, indexName, "run-*")) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("damage"), 100); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 { // new ones: nothing of them is in the damaged block
		if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "new %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.derived.index.Wait(); err != nil {
		t.Fatal(err)
	}
	mustServe(t, l)
}
