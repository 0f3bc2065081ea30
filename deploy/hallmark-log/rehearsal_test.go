package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/translog"
)

// rehearsal is what clients and watchers of one log saw.
type rehearsal struct {
	*site
	signer *entrySigner

	mu      sync.Mutex
	writers []*writer // whom clients may ask now
	seen    map[string]bool
	acked   []*receipt
	sent    [][]byte // the request of each of acked
	count   atomic.Int64
}

// address is a writer that is there now.
func (r *rehearsal) address() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.writers) == 0 {
		return ""
	}
	return r.writers[rand.IntN(len(r.writers))].url
}

func (r *rehearsal) use(ws ...*writer) {
	r.mu.Lock()
	r.writers = ws
	r.mu.Unlock()
}

func (r *rehearsal) sees(checkpoint []byte) {
	r.mu.Lock()
	r.seen[string(checkpoint)] = true
	r.mu.Unlock()
}

// clients submit entries until ctx ends, each until it is acknowledged.
func (r *rehearsal) clients(ctx context.Context, t *testing.T, n int) *sync.WaitGroup {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				request := r.signer.request(t)
				for ctx.Err() == nil {
					answer, err := submit(ctx, r.address(), request)
					if err != nil { // killed under it, or not there yet
						time.Sleep(5 * time.Millisecond)
						continue
					}
					r.mu.Lock()
					r.acked, r.sent = append(r.acked, answer), append(r.sent, request)
					r.seen[answer.InclusionProof.Checkpoint.Envelope] = true
					r.mu.Unlock()
					r.count.Add(1)
					break
				}
			}
		})
	}
	all.Go(func() { // a monitor
		for ctx.Err() == nil {
			if status, body, err := get(r.address() + "/api/v2/checkpoint"); err == nil && status == 200 {
				r.sees(body)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return &all
}

// more waits until so many more entries are acknowledged.
func (r *rehearsal) more(t *testing.T, n int64) {
	t.Helper()
	want := r.count.Load() + n
	for deadline := time.Now().Add(10 * time.Minute); r.count.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d entries were acknowledged, %d more are waited for", r.count.Load(), want-r.count.Load())
		}
	}
}

// judge holds all that anybody saw against what the log has at the end.
func (r *rehearsal) judge(t *testing.T, url string) {
	t.Helper()
	seen, largest := []*translog.Checkpoint{}, int64(0)
	for signed := range r.seen {
		c, err := r.known.ParseCheckpoint([]byte(signed), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		seen, largest = append(seen, c), max(largest, c.Size)
	}
	// A writer shows what it has read of the storage: of two each may lag behind the other.
	last, entries := r.entries(t, url)
	for deadline := time.Now().Add(2 * time.Minute); last.Size < largest && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		last, entries = r.entries(t, url)
	}
	roots := rootsOf(t, entries)
	for _, c := range seen {
		if c.Size > last.Size || roots[c.Size] != c.Root {
			t.Errorf("FORK: a checkpoint of %d entries was seen that the log of %d entries contradicts", c.Size, last.Size)
		}
	}
	at := map[string]int64{}
	for i, e := range entries {
		if _, twice := at[string(e)]; !twice {
			at[string(e)] = int64(i)
		}
	}
	for _, a := range r.acked {
		if err := r.checkReceipt(a); err != nil {
			t.Errorf("entry %d: %v", a.LogIndex, err)
		}
		if a.LogIndex >= last.Size || string(entries[a.LogIndex]) != string(a.CanonicalizedBody) {
			t.Errorf("LOST: entry %d was acknowledged and is not there", a.LogIndex)
		}
	}
	t.Logf("%d entries, %d acknowledged, %d checkpoints seen, %d entries twice", last.Size, len(r.acked), len(r.seen), int(last.Size)-len(at))
}

func newRehearsal(t *testing.T, driver string) *rehearsal {
	return &rehearsal{site: newSite(t, driver, newKey(t)), signer: newEntrySigner(t), seen: map[string]bool{}}
}

// TestWritersReplaceEachOther is the rehearsal of docs/outgrown.md: writers of one log
// are killed under load and replaced by others, and nothing that was acknowledged is
// missing and no checkpoint that was seen is contradicted.
func TestWritersReplaceEachOther(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "mysql", "aws"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			r := newRehearsal(t, driver)
			a := r.mustStart(t, "--create")
			r.use(a)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			clients := r.clients(ctx, t, 48)
			r.more(t, 60)

			// The first host dies in the middle, again and again, and the other takes over.
			for range 2 {
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
				a.kill()
				b := r.mustStart(t)
				r.use(b)
				r.more(t, 60)
				a = b
			}
			// A host is replaced in good order.
			a.stop(t)
			a = r.mustStart(t)
			r.use(a)
			r.more(t, 30)
			cancel()
			clients.Wait()
			r.duplicates(t, a)
			r.judge(t, a.url)
		})
	}
}

// duplicates sends some of what was acknowledged again: the answer is the first index.
func (r *rehearsal) duplicates(t *testing.T, w *writer) {
	t.Helper()
	for _, i := range []int{0, len(r.acked) / 2, len(r.acked) - 1} {
		again, err := submit(t.Context(), w.url, r.sent[i])
		if err != nil {
			t.Fatal(err)
		}
		if again.LogIndex != r.acked[i].LogIndex {
			t.Errorf("an entry that has index %d was answered with %d", r.acked[i].LogIndex, again.LogIndex)
		}
		if err := r.checkReceipt(again); err != nil {
			t.Error(err)
		}
	}
}

// TestTwoWritersAtOnce: the second writer of a POSIX log is refused while the first
// lives. On MySQL, and in a bucket with MySQL beside it, both write, and one tree comes of it.
func TestTwoWritersAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("posix", func(t *testing.T) {
		t.Parallel()
		r := newRehearsal(t, "posix")
		a := r.mustStart(t, "--create")
		if _, err := r.start(); err == nil || !strings.Contains(err.Error(), "is in use by another hallmark-log") {
			t.Fatalf("a second writer: %v", err)
		}
		if _, err := submit(t.Context(), a.url, r.signer.request(t)); err != nil {
			t.Error(err)
		}
	})
	for _, driver := range []string{"mysql", "aws"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			r := newRehearsal(t, driver)
			a := r.mustStart(t, "--create")
			b := r.mustStart(t)
			r.use(a, b)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			clients := r.clients(ctx, t, 48)
			r.more(t, 120)
			a.kill()
			r.use(b)
			r.more(t, 40)
			a = r.mustStart(t)
			r.use(a, b)
			r.more(t, 60)
			cancel()
			clients.Wait()
			r.judge(t, b.url)
		})
	}
}

// TestReads: the log is read as any other, by the program and from posix' folder alone.
func TestReads(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	w := s.mustStart(t, "--create")
	signer := newEntrySigner(t)
	var all sync.WaitGroup
	for range 300 { // one full tile and a partial one
		request := signer.request(t)
		all.Go(func() {
			if _, err := submit(t.Context(), w.url, request); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c, entries := s.entries(t, w.url)
	if c.Size != 300 || len(entries) != 300 {
		t.Fatalf("the log has %d entries", c.Size)
	}
	for path, want := range map[string]int{
		"/api/v2/tile/0/000": 200, "/api/v2/tile/0/001.p/44": 200, "/api/v2/tile/0/001.p/7": 200, "/api/v2/tile/1/000.p/1": 200,
		"/api/v2/tile/entries/000": 200, "/api/v2/tile/entries/001.p/44": 200, "/api/v2/tile/entries/000.p/3": 200,
		"/api/v2/tile/0/001": 404, "/api/v2/tile/0/001.p/45": 404, "/api/v2/tile/2/000.p/1": 404, "/api/v2/tile/entries/001.p/45": 404,
		"/api/v2/tile/9/000": 404, "/api/v2/tile/63/x999/x999/x999/999": 404, "/api/v2/tile/entries/x999/999.p/1": 404,
		"/api/v2/tile/data/000": 400, "/api/v2/tile/0/1": 400, "/api/v2/tile/64/000": 400, "/api/v2/tile/0/000.p/256": 400,
		"/healthz": 200, "/metrics": 200, "/": 404, "/api/v2/": 404, "/api/v2/log/entries": 405,
	} {
		status, body, err := get(w.url + path)
		if err != nil || status != want {
			t.Errorf("%s: %d %v, want %d", path, status, err, want)
		}
		if width := map[string]int{"/api/v2/tile/0/000": 256, "/api/v2/tile/0/001.p/7": 7, "/api/v2/tile/1/000.p/1": 1}[path]; width != 0 && len(body) != width*32 {
			t.Errorf("%s has %d bytes", path, len(body))
		}
	}
	w.stop(t)
	// A web server on the folder shows the same log.
	if err := translog.Full(t.Context(), c, translog.DirSource(s.path("data")), func(int64, int64) {}); err != nil {
		t.Error(err)
	}
}
