package translog_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// A mirror is a log: any file server that serves the folder serves the log, whole
// and at every size that it had.
func TestMirror(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 700)...)
	f, s := folderOf(t, l), serve(t, l)
	m, err := translog.Mirror(t.Context(), f, s, nil)
	if err != nil || m.Size != 700 || m.Fetched != 3 || m.Kept != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	files := httptest.NewServer(http.FileServer(http.Dir(f.Dir())))
	t.Cleanup(files.Close)
	check := func(size int64) {
		t.Helper()
		s, err := translog.HTTPSource(t.Context(), files.URL, translog.HTTPOptions{Wait: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		v := advance(t, folderOf(t, l), s)
		if got := scanAll(t, v.View, 0, v.Size()); v.Size() != size || int64(len(got)) != size {
			t.Errorf("the mirror has %d of %d entries", len(got), size)
		}
		for _, i := range []int64{0, size - 1} {
			if _, err := v.ProveEntry(t.Context(), i); err != nil {
				t.Errorf("size %d, entry %d: %v", size, i, err)
			}
		}
	}
	check(700)
	l.Append(tilelog.Texts(700, 400)...)
	if m, err = translog.Mirror(t.Context(), f, s, nil); err != nil || m.Kept != 2 || m.Fetched != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
	check(1100)

	// What rotted is fetched again.
	path := filepath.Join(f.Dir(), "tile", "entries", "001")
	if err := os.WriteFile(path, []byte("rot"), 0o644); err != nil {
		t.Fatal(err)
	}
	tile := filepath.Join(f.Dir(), "tile", "0", "001")
	if err := os.WriteFile(tile, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err = translog.Mirror(t.Context(), f, s, nil); err != nil || m.Kept != 3 || m.Fetched != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	check(1100)
}

// A mirror that was interrupted serves what it had, goes on where it stopped, and
// never takes what the log did not sign.
func TestMirrorInterruptedAndLiedTo(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 20_000)...)
	f, s := folderOf(t, l), serve(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := translog.Mirror(ctx, f, s, func(done, _ int64) {
		if done >= 512 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if c, err := f.Last(); err != nil || c != nil {
		t.Errorf("half a mirror has a checkpoint: %v, %v", c, err)
	}
	l.Spoil("tile/entries/070", func(b []byte) []byte { b[9] ^= 1; return b })
	_, err = translog.Mirror(t.Context(), f, s, nil)
	refused(t, err, translog.CodeTileBad)
	l.Spoil("tile/entries/070", nil)
	m, err := translog.Mirror(t.Context(), f, s, nil)
	if err != nil || m.Kept < 2 || m.Kept+m.Fetched != 79 {
		t.Fatalf("%+v, %v", m, err)
	}
	fork := l.ForkAt(10_000)
	fork.Append(tilelog.Texts(50_000, 11_000)...)
	_, err = translog.Mirror(t.Context(), f, serve(t, fork), nil)
	refused(t, err, translog.CodeForked)
	if c, err := f.Last(); err != nil || c.Size != 20_000 {
		t.Errorf("%v, %v", c, err)
	}
}

// A folder that cannot be written is an error, not a mirror.
func TestMirrorCannotWrite(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	f := folderOf(t, l)
	if err := os.WriteFile(filepath.Join(f.Dir(), "tile"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := translog.Mirror(t.Context(), f, serve(t, l), nil); err == nil {
		t.Error("it was mirrored into a file")
	}
}
