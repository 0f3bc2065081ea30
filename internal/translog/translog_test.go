package translog_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

const origin = "log.example.com"

// serve serves a log over HTTP on loopback until the test ends.
func serve(t testing.TB, h http.Handler) translog.Source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s, err := translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{Client: server.Client(), Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logOf(t testing.TB, l *tilelog.Log) translog.Log {
	t.Helper()
	log, err := translog.ParseKey(l.VerifierKey(), "")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func folderOf(t testing.TB, l *tilelog.Log) *translog.Folder {
	t.Helper()
	f, err := translog.OpenFolder(filepath.Join(t.TempDir(), "log"), logOf(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func advance(t testing.TB, f *translog.Folder, s translog.Source) *translog.Advanced {
	t.Helper()
	v, err := f.Advance(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refused wants a Refusal with a code.
func refused(t testing.TB, err error, code string) *translog.Refusal {
	t.Helper()
	var r *translog.Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want a refusal %s", err, code)
	}
	return r
}

// Every entry is read back by index and by scanning, at sizes around the borders
// of bundles and tiles, over HTTP and from files.
func TestReadsWhatTheLogHas(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 255, 256, 257, 511, 513, 1000} {
		l := tilelog.New(origin)
		l.Append(tilelog.Texts(0, size)...)
		dir := t.TempDir()
		if err := l.Files(dir); err != nil {
			t.Fatal(err)
		}
		for _, s := range []translog.Source{serve(t, l), translog.DirSource(dir)} {
			v := advance(t, folderOf(t, l), s)
			for _, i := range []int64{0, int64(size) / 2, int64(size) - 1} {
				got, err := v.Entry(t.Context(), i)
				if err != nil || string(got) != fmt.Sprintf("entry %d", i) {
					t.Errorf("size %d, entry %d: %q, %v", size, i, got, err)
				}
				p, err := v.ProveEntry(t.Context(), i)
				if err != nil || sumdb.CheckRecord(p, v.Size(), v.Checkpoint.Root, i, sumdb.RecordHash(got)) != nil {
					t.Errorf("size %d, proof of %d: %v", size, i, err)
				}
			}
			if got := scanAll(t, v.View, 0, v.Size()); len(got) != size || got[size-1] != fmt.Sprintf("entry %d", size-1) {
				t.Errorf("size %d: scanned %d entries", size, len(got))
			}
			if _, err := v.Entry(t.Context(), v.Size()); err == nil {
				t.Error("an entry beyond the end was given")
			}
		}
	}
}

func scanAll(t *testing.T, v *translog.View, first, end int64) []string {
	t.Helper()
	var got []string
	err := translog.Scan(t.Context(), v, first, end, func(b translog.Bundle) (translog.Bundle, error) { return b, nil }, func(b translog.Bundle) error {
		if b.First != first+int64(len(got)) {
			t.Errorf("a bundle begins at %d, want %d", b.First, first+int64(len(got)))
		}
		for _, e := range b.Entries {
			got = append(got, string(e))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestScanOfAPart(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 900)...)
	v := advance(t, folderOf(t, l), serve(t, l))
	for _, r := range [][2]int64{{0, 1}, {255, 257}, {300, 300}, {10, 899}, {768, 900}, {899, 900}} {
		got := scanAll(t, v.View, r[0], r[1])
		if int64(len(got)) != r[1]-r[0] || len(got) > 0 && got[0] != fmt.Sprintf("entry %d", r[0]) {
			t.Errorf("%v: %d entries", r, len(got))
		}
	}
}

// A log of 70,000 entries has three levels of tiles, with more than one tile in the
// second (c2sp.org/tlog-tiles has the same size as its example).
func TestManyLevels(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 70_000)...)
	v := advance(t, folderOf(t, l), serve(t, l))
	if got := scanAll(t, v.View, 65_000, 66_100); len(got) != 1100 || got[1099] != "entry 66099" {
		t.Errorf("%d entries", len(got))
	}
	if got, err := v.Entry(t.Context(), 69_999); err != nil || string(got) != "entry 69999" {
		t.Errorf("%q, %v", got, err)
	}
	for _, n := range []int64{1, 65_536, 69_999} {
		root, err := v.RootAt(t.Context(), n)
		p, perr := v.Prove(t.Context(), n)
		if err != nil || perr != nil || sumdb.CheckTree(p, v.Size(), v.Checkpoint.Root, n, root) != nil {
			t.Errorf("consistency from %d: %v, %v", n, err, perr)
		}
	}
}

// Each byte of every tile, bundle and checkpoint counts: whatever is changed is
// refused, and by the code that says what is wrong.
func TestDamageIsRefused(t *testing.T) {
	t.Parallel()
	flip := func(i int) func([]byte) []byte {
		return func(b []byte) []byte { b[(i+len(b))%len(b)] ^= 1; return b }
	}
	for _, c := range []struct {
		path string
		do   func([]byte) []byte
		code string // "": an error that is no refusal
	}{
		{"tile/entries/000", flip(5), translog.CodeTileBad},
		{"tile/entries/002.p/88", flip(-1), translog.CodeTileBad},
		{"tile/entries/001", func(b []byte) []byte { return append(b, 0, 1, 'x') }, translog.CodeTileBad},
		{"tile/entries/001", func(b []byte) []byte { return b[:len(b)-1] }, translog.CodeTileBad},
		{"tile/0/002.p/88", flip(0), translog.CodeTileBad},
		{"tile/1/000.p/2", flip(40), translog.CodeTileBad},
		{"tile/1/000.p/2", func(b []byte) []byte { return b[:32] }, ""},
		{"checkpoint", flip(20), translog.CodeProofBad},
		{"checkpoint", func(b []byte) []byte { return bytes.Replace(b, []byte("\n600\n"), []byte("\n601\n"), 1) }, translog.CodeProofBad},
		{"checkpoint", func([]byte) []byte { return []byte("<html>\n") }, ""},
		{"checkpoint", func(b []byte) []byte { return bytes.Repeat(b, 10_000) }, ""},
	} {
		l := tilelog.New(origin)
		l.Append(tilelog.Texts(0, 600)...)
		s := serve(t, l)
		l.Spoil(c.path, c.do)
		f := folderOf(t, l)
		v, err := f.Advance(t.Context(), s)
		if err == nil {
			err = translog.Scan(t.Context(), v.View, 0, v.Size(), func(translog.Bundle) (int, error) { return 0, nil }, func(int) error { return nil })
		}
		if c.code != "" {
			refused(t, err, c.code)
		} else if err == nil || errors.As(err, new(*translog.Refusal)) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

// Full finds what no entry shows: a tile of hashes that only proofs are made of.
func TestFull(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 700)...)
	s := serve(t, l)
	v := advance(t, folderOf(t, l), s)
	if err := translog.Full(t.Context(), v.Checkpoint, s, nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"tile/0/001", "tile/entries/000", "tile/0/002.p/188"} {
		l.Spoil(path, func(b []byte) []byte { b[50] ^= 1; return b })
		refused(t, translog.Full(t.Context(), v.Checkpoint, s, nil), translog.CodeTileBad)
		l.Spoil(path, nil)
	}
}

// The log of another key is refused, whatever its name.
func TestOtherKey(t *testing.T) {
	t.Parallel()
	l, other := tilelog.New(origin), tilelog.New(origin)
	l.Append([]byte("x"))
	_, err := folderOf(t, other).Advance(t.Context(), serve(t, l))
	refused(t, err, translog.CodeProofBad)
}

func TestGrowthForkAndShrink(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 300)...)
	f := folderOf(t, l)
	if v := advance(t, f, serve(t, l)); v.Before != nil {
		t.Error("there was a checkpoint before the first")
	}
	fork := l.ForkAt(290)
	l.Append(tilelog.Texts(300, 700)...)
	if v := advance(t, f, serve(t, l)); v.Before == nil || v.Before.Size != 300 || v.Size() != 1000 {
		t.Errorf("%+v", v)
	}

	fork.Append(tilelog.Texts(9000, 810)...) // 1,100: larger, and other
	_, err := f.Advance(t.Context(), serve(t, fork))
	r := refused(t, err, translog.CodeForked)
	if !strings.Contains(r.Message, "evidence") {
		t.Errorf("it does not say where the evidence is: %s", r.Message)
	}
	kept, err := filepath.Glob(filepath.Join(f.Dir(), "evidence", "checkpoint-*"))
	if err != nil || len(kept) != 2 {
		t.Errorf("evidence: %v, %v", kept, err)
	}
	same := l.ForkAt(999)
	same.Append([]byte("other")) // as large, and other
	_, err = f.Advance(t.Context(), serve(t, same))
	refused(t, err, translog.CodeForked)
	fork.ShrinkTo(500) // smaller, and other: what is served is not what was signed before
	_, err = f.Advance(t.Context(), serve(t, fork))
	refused(t, err, translog.CodeShrunk)

	l.ShrinkTo(900)
	_, err = f.Advance(t.Context(), serve(t, l))
	refused(t, err, translog.CodeShrunk)
	if c, err := f.Last(); err != nil || c.Size != 1000 {
		t.Errorf("what was believed is %v, %v", c, err)
	}
	l.ShrinkTo(1000)
	advance(t, f, serve(t, l))
}

// A smaller tree that is not the beginning of the one that was signed before is a
// fork, where the server still has the larger one's tiles to tell by.
func TestSmallerFork(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 600)...)
	f := folderOf(t, l)
	advance(t, f, serve(t, l))
	fork := l.ForkAt(100)
	fork.Append(tilelog.Texts(7000, 100)...)
	l.Spoil("checkpoint", func([]byte) []byte { return fork.Checkpoint() })
	_, err := f.Advance(t.Context(), serve(t, l))
	refused(t, err, translog.CodeForked)
}

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	f := folderOf(t, l)
	if v := advance(t, f, serve(t, l)); v.Size() != 0 {
		t.Errorf("size %d", v.Size())
	}
	l.Append([]byte("first"))
	if v := advance(t, f, serve(t, l)); v.Size() != 1 {
		t.Errorf("size %d", v.Size())
	}
	l.ShrinkTo(0)
	_, err := f.Advance(t.Context(), serve(t, l))
	refused(t, err, translog.CodeShrunk)
}

// Full tiles are fetched once; a cache that rotted is fetched again, and what it
// holds is never believed.
func TestCache(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 600)...)
	s, f := serve(t, l), folderOf(t, l)
	read := func() {
		t.Helper()
		v := advance(t, f, s)
		if got, err := v.Entry(t.Context(), 3); err != nil || string(got) != "entry 3" {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := v.ProveEntry(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	read()
	read()
	for _, path := range []string{"tile/entries/000", "tile/0/000"} {
		if n := l.Asked(path); n != 1 {
			t.Errorf("%s was fetched %d times", path, n)
		}
		file := filepath.Join(f.Dir(), filepath.FromSlash(path))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[7] ^= 1
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read()
	for _, path := range []string{"tile/entries/000", "tile/0/000"} {
		if n := l.Asked(path); n != 2 {
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
}

// A partial tile that is gone because the log has grown is read from the full one.
func TestPartialTileIsGone(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 300)...)
	s := serve(t, l)
	v := advance(t, folderOf(t, l), s)
	l.Append(tilelog.Texts(300, 300)...)
	l.Remove("tile/entries/001.p/44")
	l.Remove("tile/0/001.p/44")
	if got := scanAll(t, v.View, 0, 300); len(got) != 300 || got[299] != "entry 299" {
		t.Errorf("%d entries", len(got))
	}
	l.Remove("tile/entries/001")
	if _, err := v.Entry(t.Context(), 299); err == nil || errors.As(err, new(*translog.Refusal)) {
		t.Errorf("a bundle that is nowhere: %v", err)
	}
}

// flaky answers with an error a few times before it serves: an overloaded server.
type flaky struct {
	http.Handler
	left   atomic.Int64
	status int
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.left.Add(-1) >= 0 {
		w.WriteHeader(f.status)
		return
	}
	f.Handler.ServeHTTP(w, r)
}

func TestOverloadedServer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 503} {
		l := tilelog.New(origin)
		l.Append([]byte("x"))
		f := &flaky{Handler: l, status: status}
		s := serve(t, f)
		f.left.Store(3)
		advance(t, folderOf(t, l), s)
		f.left.Store(1000)
		if _, err := folderOf(t, l).Advance(t.Context(), s); fault.KindOf(err) != fault.Unreachable {
			t.Errorf("HTTP %d: %v", status, err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	_, err := translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{Wait: time.Millisecond})
	if err == nil || fault.HintOf(err) == "" {
		t.Errorf("not a log: %v", err)
	}
	server.Close()
	if _, err := translog.HTTPSource(t.Context(), server.URL, translog.HTTPOptions{Wait: time.Millisecond}); fault.KindOf(err) != fault.Unreachable {
		t.Errorf("closed: %v", err)
	}
	if _, err := translog.HTTPSource(t.Context(), "http://log.example.com", translog.HTTPOptions{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("plain HTTP elsewhere: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := translog.HTTPSource(ctx, server.URL, translog.HTTPOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	good := l.VerifierKey()
	der, err := x509.MarshalPKIXPublicKey(l.Public())
	if err != nil {
		t.Fatal(err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for _, c := range []struct{ text, origin string }{{good, ""}, {good + "\n", origin}, {block, origin}} {
		if got, err := translog.ParseKey(c.text, c.origin); err != nil || got.Origin != origin {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for _, c := range []struct{ text, origin string }{
		{"", ""}, {good, "other"}, {block, ""}, {good[:len(good)-4], ""}, {strings.Replace(good, "+", "+0", 1), ""},
		{strings.Replace(good, origin, "log.example.org", 1), ""}, {strings.Replace(block, "PUBLIC", "PRIVATE", 2), origin},
	} {
		if _, err := translog.ParseKey(c.text, c.origin); err == nil {
			t.Errorf("%q was taken", c.text)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := translog.NewLog(origin, ec.Public()); err != nil {
		t.Error(err)
	}
}

// What is remembered is not believed when it is not what the log signed.
func TestRememberedCheckpointIsDamaged(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append([]byte("x"))
	s, f := serve(t, l), folderOf(t, l)
	advance(t, f, s)
	if err := os.WriteFile(filepath.Join(f.Dir(), "checkpoint"), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Advance(t.Context(), s); !errors.As(err, new(*durable.CorruptError)) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	l := tilelog.New(origin)
	l.Append([]byte("x"))
	f.Add(l.Checkpoint())
	log, err := translog.ParseKey(l.VerifierKey(), "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := log.ParseCheckpoint(data, time.Now())
		if err == nil && (c.Origin != origin || c.Size < 0) {
			t.Errorf("%+v", c)
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0}, uint8(2))
	f.Add([]byte{0, 9, 'a'}, uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, w uint8) {
		entries, err := translog.CheckBundle(raw, int(w))
		if err != nil {
			return
		}
		n := 0
		for _, e := range entries {
			n += 2 + len(e)
		}
		if len(entries) != int(w) || n > len(raw) {
			t.Errorf("%d entries of %d bytes in %d", len(entries), n, len(raw))
		}
	})
}
