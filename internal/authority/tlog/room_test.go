package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// fullAt has no room for one of a commit's writes, of which a part gets through: a disk
// that is full there.
type fullAt struct {
	disk
	*store
	write string // which one; empty for none
	part  int    // bytes of it that there was room for
	undos int
	undo1 error // of the next undo
}

func noSpace(op string) error { return &fs.PathError{Op: op, Path: "f", Err: syscall.ENOSPC} }

func (d *fullAt) cut(write string, f *os.File, data []byte, off int64) error {
	if d.write != write {
		return nil
	}
	_, _ = f.WriteAt(data[:min(d.part, len(data))], off)
	return noSpace("write")
}

func (d *fullAt) appendEntries(data []byte, off int64) error {
	if err := d.cut("entries", d.entries, data, off); err != nil {
		return err
	}
	return d.disk.appendEntries(data, off)
}

func (d *fullAt) appendTimes(data []byte, off int64) error {
	if err := d.cut("times", d.times, data, off); err != nil {
		return err
	}
	return d.disk.appendTimes(data, off)
}

func (d *fullAt) writeDerived(n int64, g grown) error {
	if err := d.cut("hashes", d.derived.hashes, g.hashes, hashesSize(n)); err != nil {
		return err
	}
	if d.write == "offsets" {
		_, _ = d.derived.hashes.WriteAt(g.hashes, hashesSize(n))
	}
	if err := d.cut("offsets", d.derived.offsets, g.offsets, n*offsetSize); err != nil {
		return err
	}
	return d.disk.writeDerived(n, g)
}

func (d *fullAt) publish(head []byte) error {
	switch d.write {
	case "checkpoint":
		return noSpace("open")
	case "rename":
		return &os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.ENOSPC}
	}
	return d.disk.publish(head)
}

func (d *fullAt) probe() error {
	if d.write != "" {
		return noSpace("write")
	}
	return d.disk.probe()
}

func (d *fullAt) undo(t *tree) error {
	d.undos++
	if d.undo1 != nil {
		return d.undo1
	}
	return d.disk.undo(t)
}

func (d *fullAt) syncDerived() error { return d.disk.syncDerived() }
func (d *fullAt) settle() error      { return d.disk.settle() }

func openFullAt(t *testing.T, dir string, cfg Config) (*Log, *fullAt) {
	t.Helper()
	d := &fullAt{}
	l, err := open(dir, cfg, func(inner disk) disk { d.disk, d.store = inner, inner.(*store); return d })
	if err != nil {
		t.Fatal(err)
	}
	return l, d
}

// logFiles are a log's files by name, but for those of the index.
func logFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{entriesName, timesName, headName, filepath.Join(derivedName, hashesName), filepath.Join(derivedName, offsetsName)} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out[name] = string(data)
	}
	return out
}

// TestFullDiskIsNotTheEnd has no room for each write of a commit, after each part of it, at
// several sizes of the log. Who asks is refused; entries, times and what is derived of them
// are then byte for byte what they were; with room the same log goes on, and what was
// refused is in it once.
func TestFullDiskIsNotTheEnd(t *testing.T) {
	t.Parallel()
	writes := []string{"entries", "hashes", "offsets", "times", "checkpoint", "rename"}
	cfg := anyEntry(timedConfig())
	cfg.recent, cfg.askAgain = 50, time.Hour
	dir := t.TempDir()
	l, d := openFullAt(t, dir, cfg)
	var promises []promise
	add := func(entry string) {
		t.Helper()
		index, tree, err := l.append(context.Background(), []byte(entry))
		if err != nil {
			t.Fatal(err)
		}
		promises = append(promises, promise{index, tree.size(), tlog.RecordHash([]byte(entry)), tree.root, timeOf(l, tree, index)})
	}
	n, known := 0, ""
	for _, size := range []int{0, 1, 2, 7, 255, 256, 257, 511, 513, 600} {
		for ; int(l.Size()) < size; n++ {
			add(fmt.Sprintf("filler %d %0*d", n, n%99, 0))
		}
		for _, write := range writes {
			for _, part := range []int{0, 1, 7, 33, 1 << 20} {
				n++
				entry := fmt.Sprintf("%s at %d, %d %d %0*d", write, size, part, n, n%99, 0)
				before, size := logFiles(t, dir), l.Size()
				d.write, d.part = write, part
				for range 2 { // nothing piles up
					_, _, err := l.append(context.Background(), []byte(entry))
					if !errors.As(err, new(*RoomError)) || l.failed() != nil || l.Full() == nil {
						t.Fatalf("%v; stopped: %v; full: %v", err, l.failed(), l.Full())
					}
				}
				after := logFiles(t, dir)
				if write == "checkpoint" || write == "rename" {
					// The tree is signed and stays; what is published is what was.
					before, after = map[string]string{headName: before[headName]}, map[string]string{headName: after[headName]}
				}
				if !maps.Equal(before, after) {
					t.Fatalf("%s, %d bytes: the files are not what they were", write, part)
				}
				if l.Size() != size {
					t.Fatalf("%d entries are shown", l.Size())
				}
				if n > 1 { // what is in the log is found on a full disk
					if _, _, err := l.append(context.Background(), []byte(known)); err != nil {
						t.Fatal(err)
					}
				}
				d.write, known = "", entry
				add(entry)
				add(entry) // and once more
				if l.Size() != size+1 || l.Full() != nil {
					t.Fatalf("%d entries, full: %v", l.Size(), l.Full())
				}
			}
		}
	}
	mustKeep(t, l, promises)
	// Closed while a tree waits for room: what was acknowledged is there.
	d.write = "checkpoint"
	if _, _, err := l.append(context.Background(), []byte("never acknowledged")); !errors.As(err, new(*RoomError)) {
		t.Fatal(err)
	}
	size := l.Size()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustKeep(t, l, promises)
	if l.Size() != size {
		t.Errorf("%d entries after a restart", l.Size())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, cfg, func(d durable.Damage) { t.Error(d) }); err != nil {
		t.Error(err)
	}
}

// TestFullDiskWithoutClients: what waits for room is published, and a disk that was full is
// called well again, also when nobody asks.
func TestFullDiskWithoutClients(t *testing.T) {
	t.Parallel()
	for _, write := range []string{"entries", "checkpoint"} {
		t.Run(write, func(t *testing.T) {
			t.Parallel()
			shown := make(chan int64, 1) // when there is said to be room again
			var log *Log
			told := onMessage{"has room again", func() { shown <- log.Size() }}
			cfg := Config{Origin: "127.0.0.1", Key: crashKey(), askAgain: time.Millisecond, Log: slog.New(told)}
			l, d := openFullAt(t, t.TempDir(), cfg)
			defer l.Close()
			fails := &sometimes{disk: d}
			log, l.disk = l, fails // before anything is asked of it
			fails.full(write)
			if _, _, err := l.append(context.Background(), []byte("entry")); !errors.As(err, new(*RoomError)) {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			backend{l}.Refuse(w, l.Full())
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "disk is full") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			w = httptest.NewRecorder()
			l.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v2/checkpoint", nil))
			if w.Code != http.StatusOK {
				t.Errorf("reading: %d %s", w.Code, w.Body)
			}
			fails.full("")
			if want, got := map[string]int64{"checkpoint": 1}[write], <-shown; got != want {
				t.Errorf("%d entries", got)
			}
			if err := l.Full(); err != nil {
				t.Error(err)
			}
		})
	}
}

// onMessage calls do when something is logged that ends so.
type onMessage struct {
	end string
	do  func()
}

func (o onMessage) Enabled(context.Context, slog.Level) bool { return true }
func (o onMessage) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o onMessage) WithGroup(string) slog.Handler            { return o }
func (o onMessage) Handle(_ context.Context, r slog.Record) error {
	if strings.HasSuffix(r.Message, o.end) {
		o.do()
	}
	return nil
}

// sometimes is a disk that a test makes full while the log runs.
type sometimes struct {
	disk
	mu     sync.Mutex
	write  string
	probed chan struct{} // nil: nobody waits for it
}

func (s *sometimes) full(write string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write = write
}

func (s *sometimes) no(write string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write != "" && (write == "" || s.write == write) {
		return noSpace("write")
	}
	return nil
}

func (s *sometimes) appendEntries(data []byte, off int64) error {
	if err := s.no("entries"); err != nil {
		return err
	}
	return s.disk.appendEntries(data, off)
}

func (s *sometimes) publish(head []byte) error {
	if err := s.no("checkpoint"); err != nil {
		return err
	}
	return s.disk.publish(head)
}

func (s *sometimes) probe() error {
	if s.probed != nil {
		s.probed <- struct{}{}
		return s.disk.probe()
	}
	if err := s.no(""); err != nil {
		return err
	}
	return s.disk.probe()
}

// The index writes a run when this has worked.
func (s *sometimes) syncDerived() error {
	if err := s.no("index"); err != nil {
		return err
	}
	return s.disk.syncDerived()
}

// TestFullDiskOfTheIndex: while the index waits for room and takes no more, the log is not
// called well because a probe finds room for a little.
func TestFullDiskOfTheIndex(t *testing.T) {
	t.Parallel()
	room, probed := make(chan struct{}, 9), make(chan struct{})
	cfg := Config{Origin: "127.0.0.1", Key: crashKey(), askAgain: time.Millisecond, recent: 5,
		Log: slog.New(onMessage{"has room again", func() { room <- struct{}{} }})}
	l, d := openFullAt(t, t.TempDir(), cfg)
	defer l.Close()
	fails := &sometimes{disk: d, probed: probed}
	l.disk = fails // before anything is asked of it
	fails.full("index")
	taken, err := 0, error(nil)
	for ; err == nil && taken < 1000; taken++ {
		_, _, err = l.append(context.Background(), fmt.Append(nil, taken))
	}
	if !errors.As(err, new(*RoomError)) {
		t.Fatalf("%d entries: %v", taken, err)
	}
	for range 3 {
		select {
		case <-probed:
		case <-room:
			t.Fatal("it is called well")
		}
	}
	fails.full("")
	for well := false; !well; {
		select {
		case <-probed:
		case <-room:
			well = true
		}
	}
	if _, _, err := l.append(context.Background(), []byte("with room")); err != nil {
		t.Error(err)
	}
}

// fullSync is a sync that says that there is no room, as one of a file system may that
// finds its place late: what it has left is unknown.
type fullSync struct{ disk }

func (d *fullSync) appendEntries(data []byte, off int64) error {
	if err := d.disk.appendEntries(data, off); err != nil {
		return err
	}
	return noSpace("fdatasync")
}

// What cannot be proven ends the log: a sync that failed, whatever its reason, what cannot be
// taken back, and files that are then not what was published.
func TestFullDiskThatIsTheEnd(t *testing.T) {
	t.Parallel()
	cfg := anyEntry(timedConfig())
	stops := func(t *testing.T, l *Log) {
		t.Helper()
		for range 2 {
			if _, _, err := l.append(context.Background(), []byte("another")); err == nil || errors.As(err, new(*RoomError)) || !strings.Contains(err.Error(), "has stopped") {
				t.Errorf("append: %v", err)
			}
		}
		if l.failed() == nil {
			t.Error("it goes on")
		}
	}
	t.Run("sync", func(t *testing.T) {
		t.Parallel()
		l, err := open(t.TempDir(), cfg, func(d disk) disk { return &fullSync{d} })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		stops(t, l)
	})
	t.Run("cannot be cut", func(t *testing.T) {
		t.Parallel()
		l, d := openFullAt(t, t.TempDir(), cfg)
		defer l.Close()
		d.write, d.part, d.undo1 = "entries", 9, noSpace("truncate")
		stops(t, l)
	})
	for name, harm := range map[string]func(d *fullAt){
		"entry": func(d *fullAt) { _, _ = d.entries.WriteAt([]byte("X"), 3) },
		"hash":  func(d *fullAt) { _, _ = d.derived.hashes.WriteAt([]byte("X"), 3) },
		"place": func(d *fullAt) { _, _ = d.derived.offsets.WriteAt([]byte("X"), 3*offsetSize-1) },
		"time":  func(d *fullAt) { _, _ = d.times.WriteAt([]byte("X"), 3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, d := openFullAt(t, t.TempDir(), cfg)
			defer l.Close()
			for n := range 3 {
				if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "entry %d", n)); err != nil {
					t.Fatal(err)
				}
			}
			d.write = "times"
			harm(d)
			stops(t, l)
		})
	}
}

// TestFullDiskAgainAndAgain fills a disk that is really full with clients, gives it a little
// more room, and so on, without a restart; the index is written meanwhile. What was
// acknowledged and seen holds, then and after a restart.
func TestFullDiskAgainAndAgain(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	for name, cfg := range map[string]Config{"untimed": {Origin: "127.0.0.1", Key: crashKey()}, "timed": timedConfig()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := smalldisk.Mount(t, 40, 100)
			cfg.recent = 60
			cfg = anyEntry(cfg)
			l, err := Open(filepath.Join(dir, "log"), cfg)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var promises []promise
			full := 0
			pages, inodes := 40, 100
			for round := range 40 {
				before := len(promises)
				appendMany(l, fmt.Sprint("round ", round), 100, func(p promise) {
					mu.Lock()
					defer mu.Unlock()
					promises = append(promises, p)
				})
				if err := l.failed(); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if l.Full() != nil {
					full++
				}
				if round > 0 && round%5 == 0 && len(promises) == before {
					t.Errorf("round %d: nothing was acknowledged", round)
				}
				mustKeep(t, l, promises)
				usedPages, usedInodes := smalldisk.Used(t, dir)
				switch {
				case round%5 == 4: // plenty
					pages, inodes = usedPages+500, usedInodes+100
				case round%2 == 0:
					pages, inodes = usedPages+1+round%7, usedInodes+100
				default:
					pages, inodes = usedPages+100, usedInodes+round%4
				}
				smalldisk.Resize(t, dir, pages, inodes)
			}
			if full < 10 || len(promises) < 1000 {
				t.Errorf("full %d times, %d entries: this says too little", full, len(promises))
			}
			t.Logf("full %d times, %d entries", full, len(promises))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			smalldisk.Resize(t, dir, 4000, 1000)
			if l, err = Open(filepath.Join(dir, "log"), cfg); err != nil {
				t.Fatal(err)
			}
			mustKeep(t, l, promises)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(filepath.Join(dir, "log"), cfg, func(d durable.Damage) { t.Error(d) }); err != nil {
				t.Error(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "log", "*", "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			more, _ := filepath.Glob(filepath.Join(dir, "log", tempPrefix+"*"))
			for _, f := range slices.Concat(files, more) {
				if bytes.Contains([]byte(filepath.Base(f)), []byte(tempPrefix)) {
					t.Errorf("left behind: %s", f)
				}
			}
		})
	}
}
