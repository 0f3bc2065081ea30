package tlog

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

var errPower = errors.New("power cut")

// crashKey is the same in parent and child.
func crashKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

// powerCut loses the power in the middle of write number `after`: of an append
// any part may be on disk, with any garbage for what is not; of a publish the
// old or the new checkpoint, with or without the temporary file.
type powerCut struct {
	disk
	store *store
	rnd   *rand.Rand
	after int
	kept  *durableSizes
}

// durableSizes are how much of the derived files is on disk for certain.
type durableSizes struct {
	mu              sync.Mutex
	hashes, offsets int64
}

// syncDerived keeps what was written before it was called, and nothing else does.
func (d *powerCut) syncDerived() error {
	hashes, err := d.store.derived.hashes.Stat()
	if err != nil {
		return err
	}
	offsets, err := d.store.derived.offsets.Stat()
	if err != nil {
		return err
	}
	if err := d.disk.syncDerived(); err != nil {
		return err
	}
	d.kept.mu.Lock()
	defer d.kept.mu.Unlock()
	d.kept.hashes, d.kept.offsets = hashes.Size(), offsets.Size()
	return nil
}

func (d *powerCut) appendEntries(data []byte, off int64) error {
	return d.cut(d.store.entries, data, off, d.disk.appendEntries)
}

func (d *powerCut) appendTimes(data []byte, off int64) error {
	return d.cut(d.store.times, data, off, d.disk.appendTimes)
}

func (d *powerCut) cut(f *os.File, data []byte, off int64, appendTo func([]byte, int64) error) error {
	if d.after--; d.after > 0 {
		return appendTo(data, off)
	} else if d.after < 0 {
		return errPower
	}
	torn := append([]byte(nil), data...)
	for i := range torn {
		if d.rnd.IntN(3) == 0 {
			torn[i] = byte(d.rnd.Uint32())
		}
	}
	_, _ = f.WriteAt(torn[:d.rnd.IntN(len(torn)+1)], off)
	return errPower
}

func (d *powerCut) publish(head []byte) error {
	if d.after--; d.after > 0 {
		return d.disk.publish(head)
	} else if d.after < 0 {
		return errPower
	}
	if d.rnd.IntN(2) == 0 {
		_ = d.disk.publish(head)
	} else {
		_ = os.WriteFile(filepath.Join(d.store.dir, tempPrefix+"lost"), head[:d.rnd.IntN(len(head))], 0o600)
	}
	return errPower
}

// promise is what somebody outside has seen.
type promise struct {
	index, size int64
	leaf, root  tlog.Hash
	at          int64 // when it was integrated, 0 in a log without times
}

// mustKeep fails unless the log still holds everything that was promised.
func mustKeep(t *testing.T, l *Log, promises []promise) {
	t.Helper()
	tree := l.published.Load()
	for _, p := range promises {
		if p.size > tree.size() {
			t.Fatalf("a checkpoint of size %d was published, the log has %d", p.size, tree.size())
		}
		root, err := tree.rootAt(p.size)
		if err != nil {
			t.Fatal(err)
		}
		if root != p.root {
			t.Fatalf("the published checkpoint of size %d is contradicted", p.size)
		}
		if leaf, err := tree.leaf(p.index); err != nil || leaf != p.leaf {
			t.Fatalf("entry %d is not the one that was acknowledged (%v)", p.index, err)
		}
		if index, found, err := tree.find(p.leaf); err != nil || !found || index != p.index {
			t.Fatalf("entry %d is found as %d: %v, %v", p.index, index, found, err)
		}
		if got := timeOf(l, tree, p.index); p.at != got {
			t.Fatalf("entry %d was integrated at %d, and now at %d", p.index, p.at, got)
		}
	}
}

func timeOf(l *Log, t *tree, index int64) int64 {
	if !l.cfg.Timed {
		return 0
	}
	at, err := l.store.time(t.times, index)
	if err != nil {
		panic(err)
	}
	return at
}

// appendMany adds entries from several goroutines until one fails.
func appendMany(l *Log, name string, n int, saw func(promise)) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range n {
				entry := fmt.Appendf(nil, "%s %d %d %0*d", name, g, i, i%200, 0)
				index, tree, err := l.append(context.Background(), entry)
				if err != nil {
					return
				}
				saw(promise{index, tree.size(), tlog.RecordHash(entry), tree.root, timeOf(l, tree, index)})
			}
		})
	}
	wg.Wait()
}

func TestPowerCutKeepsWhatWasPublished(t *testing.T) {
	t.Parallel()
	t.Run("entries", func(t *testing.T) { t.Parallel(); powerCuts(t, Config{Origin: "127.0.0.1", Key: crashKey()}) })
	t.Run("entries and times", func(t *testing.T) { t.Parallel(); powerCuts(t, timedConfig()) })
}

func powerCuts(t *testing.T, cfg Config) {
	dir := t.TempDir()
	var mu sync.Mutex
	var promises []promise
	cfg.recent = 23 // what is derived becomes durable again and again
	kept := new(durableSizes)
	var said output.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for round := range 60 {
		rnd := rand.New(rand.NewPCG(uint64(round), 1))
		loseDerived(t, dir, rnd, kept)
		l, err := open(dir, cfg, func(d disk) disk {
			return &powerCut{disk: d, store: d.(*store), rnd: rnd, after: 1 + rnd.IntN(12), kept: kept}
		})
		if round == 0 && errors.Is(err, errPower) {
			continue // the very first checkpoint was lost
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		mustKeep(t, l, promises)
		appendMany(l, fmt.Sprint("round ", round), 30, func(p promise) {
			mu.Lock()
			defer mu.Unlock()
			promises = append(promises, p)
		})
		if l.failed() == nil {
			t.Fatalf("round %d: the power was never cut", round)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustKeep(t, l, promises)
	if len(promises) < 60 {
		t.Errorf("only %d entries were acknowledged; the test tests little", len(promises))
	}
	if _, err := Check(dir, anyEntry(cfg), func(d durable.Damage) { t.Error(d) }); err != nil {
		t.Error(err)
	}
	// What the index says that it covers was durable: it never had to be derived again.
	if strings.Contains(said.String(), "again") {
		t.Error(said.String())
	}
	if covered, _ := l.derived.index.Covered(); covered < 23 {
		t.Errorf("the index covers %d entries; the test tests little", covered)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// loseDerived does to what was written without fsync what a power cut can do to it.
func loseDerived(t *testing.T, dir string, rnd *rand.Rand, kept *durableSizes) {
	t.Helper()
	for name, kept := range map[string]*int64{hashesName: &kept.hashes, offsetsName: &kept.offsets} {
		f, err := os.OpenFile(filepath.Join(dir, derivedName, name), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if lost := st.Size() - *kept; lost > 0 && rnd.IntN(2) == 0 {
			err = f.Truncate(*kept + rnd.Int64N(lost))
		} else if lost > 0 {
			_, err = f.WriteAt(make([]byte, rnd.Int64N(lost)), *kept)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// anyEntry is the configuration of a log whose entries have no form.
func anyEntry(cfg Config) Config {
	cfg.CheckEntry = func([]byte) (int, string) { return 0, "" }
	return cfg
}

// killedInRename kills the process after the rename of a checkpoint and before
// the sync of the folder: everybody sees the new one, the disk has the old one.
type killedInRename struct {
	disk
	path     string
	volatile *[]byte // what the disk has, nil when it has what the folder shows
}

func (d *killedInRename) publish(head []byte) error {
	old, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.disk.publish(head) // the very first
	} else if err != nil {
		return err
	}
	if err := d.disk.publish(head); err != nil {
		return err
	}
	*d.volatile = old
	return errors.New("killed")
}

func (d *killedInRename) settle() error {
	*d.volatile = nil
	return d.disk.settle()
}

func TestCheckpointFoundAtOpenIsDurableBeforeItIsShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Config{Origin: "127.0.0.1", Key: crashKey()}
	var volatile []byte
	path := filepath.Join(dir, headName)
	wrap := func(d disk) disk { return &killedInRename{disk: d, path: path, volatile: &volatile} }
	l, err := open(dir, cfg, wrap)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.append(context.Background(), []byte("entry")); err == nil || volatile == nil {
		t.Fatalf("not killed: %v", err)
	}
	_ = l.Close()
	if l, err = open(dir, cfg, wrap); err != nil {
		t.Fatal(err)
	}
	shown := l.Size() // a client may have this checkpoint now
	_ = l.Close()
	if volatile != nil { // the power is cut
		if err := os.WriteFile(path, volatile, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if l, err = Open(dir, cfg); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Size() < shown {
		t.Errorf("a checkpoint of size %d was shown, the log has %d", shown, l.Size())
	}
}

const (
	childEnv = "HALLMARK_TLOG_TEST_CHILD"
	timedEnv = "HALLMARK_TLOG_TEST_TIMED"
)

// TestMain makes the test binary usable as a log process that can be killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	l, err := Open(dir, Config{Origin: "127.0.0.1", Key: crashKey(), Timed: os.Getenv(timedEnv) != "", recent: 50})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	appendMany(l, fmt.Sprint("pid ", os.Getpid()), 1<<20, func(p promise) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%d %d %x %x %d\n", p.index, p.size, p.leaf[:], p.root[:], p.at)
	})
}

func TestKillKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	t.Run("entries", func(t *testing.T) { t.Parallel(); kills(t, false) })
	t.Run("entries and times", func(t *testing.T) { t.Parallel(); kills(t, true) })
}

func kills(t *testing.T, timed bool) {
	dir := t.TempDir()
	var promises []promise
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		if timed {
			cmd.Env = append(cmd.Env, timedEnv+"=1")
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var timer *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var p promise
			var leaf, root string
			if n, _ := fmt.Sscan(lines.Text(), &p.index, &p.size, &leaf, &root, &p.at); n != 5 || len(root) != 64 {
				continue // cut off by the kill
			}
			if timed && p.at < 1e9 {
				continue // so is this time
			}
			_, _ = hex.Decode(p.leaf[:], []byte(leaf))
			_, _ = hex.Decode(p.root[:], []byte(root))
			promises = append(promises, p)
			if timer == nil { // in the midst of many more, however slow the machine is
				timer = time.AfterFunc(time.Duration(rand.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		l, err := Open(dir, Config{Origin: "127.0.0.1", Key: crashKey(), Timed: timed, recent: 50})
		if err != nil {
			t.Fatal(err)
		}
		mustKeep(t, l, promises)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(promises) == 0 {
		t.Error("nothing was acknowledged; the test tests nothing")
	}
}

// A process that is being started has copies of our files until it runs.
func TestCloseUnlocksBesideAChild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Config{Origin: "127.0.0.1", Key: crashKey()}
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(l.store.entries.Fd(), unix.F_DUPFD_CLOEXEC, 0) // as in a child
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, cfg); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// failingFsync reports an error once, as a kernel that has dropped dirty pages does.
type failingFsync struct {
	disk
	once sync.Once
}

func (d *failingFsync) appendEntries(data []byte, off int64) error {
	err := d.disk.appendEntries(data, off)
	d.once.Do(func() { err = errors.New("input/output error") })
	return err
}

func TestFsyncErrorStopsTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := open(dir, Config{Origin: "127.0.0.1", Key: crashKey()}, func(d disk) disk { return &failingFsync{disk: d} })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 { // the second fsync would succeed; it must not be tried
		if _, _, err := l.append(context.Background(), []byte("entry")); err == nil || !strings.Contains(err.Error(), "has stopped") {
			t.Errorf("append: %v", err)
		}
	}
	for _, path := range []string{"/api/v2/checkpoint", "/api/v2/tile/0/000", "/api/v2/log/entries"} {
		w := httptest.NewRecorder()
		l.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "has stopped") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), dir) {
			t.Errorf("%s tells clients where the folder is", path)
		}
	}
}

// noFiles has too many files open for the first publications.
type noFiles struct {
	disk
	times int
}

func (d *noFiles) publish(head []byte) error {
	if d.times--; d.times >= 0 {
		return &fs.PathError{Op: "open", Path: "checkpoint", Err: unix.EMFILE}
	}
	return d.disk.publish(head)
}

// TestTooManyFilesIsNotTheEnd: nothing was written, so nothing is unknown.
func TestTooManyFilesIsNotTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short := &noFiles{}
	l, err := open(dir, Config{Origin: "127.0.0.1", Key: crashKey()}, func(d disk) disk { short.disk = d; return short })
	if err != nil {
		t.Fatal(err)
	}
	short.times = 3
	if index, tree, err := l.append(context.Background(), []byte("entry")); err != nil || index != 0 || tree.size() != 1 {
		t.Errorf("append: %d, %v", index, err)
	}
	short.times = 1 << 30 // it never gets better: Close still ends
	done := make(chan error, 1)
	go func() { _, _, err := l.append(context.Background(), []byte("another")); done <- err }()
	time.Sleep(100 * time.Millisecond)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("what was not published was acknowledged")
	}
	if l, err = Open(dir, Config{Origin: "127.0.0.1", Key: crashKey()}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n := l.Size(); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// heldFsync lets no append finish before it is released.
type heldFsync struct {
	disk
	entered, release chan struct{}
	appends          int
}

func (d *heldFsync) appendEntries(data []byte, off int64) error {
	d.appends++
	if d.appends == 1 {
		close(d.entered)
		<-d.release
	}
	return d.disk.appendEntries(data, off)
}

func TestConcurrentClientsShareACommit(t *testing.T) {
	t.Parallel()
	held := &heldFsync{entered: make(chan struct{}), release: make(chan struct{})}
	l, err := open(t.TempDir(), Config{Origin: "127.0.0.1", Key: crashKey()}, func(d disk) disk { held.disk = d; return held })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	add := func(i int) {
		if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "entry %d", i)); err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { add(0) })
	<-held.entered
	for i := range 63 {
		wg.Go(func() { add(i%60 + 1) }) // with three duplicates in the same batch
	}
	for len(l.queue) < 63 {
		time.Sleep(time.Millisecond)
	}
	close(held.release)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if held.appends != 2 || l.Size() != 61 {
		t.Errorf("64 clients made %d commits and %d entries, want 2 and 61", held.appends, l.Size())
	}
	if _, _, err := l.append(context.Background(), []byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestEntryDamagedWhileOpenIsNotServed(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), Config{Origin: "127.0.0.1", Key: crashKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, _, err := l.append(context.Background(), []byte("entry")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.store.entries.WriteAt([]byte("E"), 2); err != nil {
		t.Fatal(err)
	}
	var damaged *durable.CorruptError
	if _, err := l.published.Load().bundle(l.store, tlog.Tile{H: 8, L: -1, W: 1}); !errors.As(err, &damaged) {
		t.Errorf("read: %v", err)
	}
	w := httptest.NewRecorder()
	l.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v2/tile/entries/000.p/1", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
