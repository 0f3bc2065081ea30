package tlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

var errAway = errors.New("the token was pulled out")

// awaySigner is a signer that fails every third time for a while: before it signs, or
// after it has signed, when only the answer is lost.
type awaySigner struct {
	Signer
	t     *testing.T
	away  atomic.Bool // until somebody says otherwise
	calls atomic.Int64

	mu     sync.Mutex
	signed map[string]string // by origin and size
}

func (s *awaySigner) Sign(msg []byte) ([]byte, error) {
	n := s.calls.Add(1)
	if s.away.Load() || n%3 == 0 && n%2 == 0 {
		return nil, errAway
	}
	sig, err := s.Signer.Sign(msg)
	lines := strings.SplitN(string(msg), "\n", 3)
	if len(lines) == 3 && lines[0] != "hallmark integration times" {
		s.mu.Lock()
		at := lines[0] + " " + lines[1]
		if was, ok := s.signed[at]; ok && was != lines[2] {
			s.t.Errorf("two trees of one size were signed: %s", at)
		}
		s.signed[at] = lines[2]
		s.mu.Unlock()
	}
	if n%3 == 0 {
		return nil, errAway // it has signed
	}
	return sig, err
}

func newAwaySigner(t *testing.T) *awaySigner {
	return &awaySigner{Signer: newNoteSigner("127.0.0.1", crashKey()), t: t, signed: map[string]string{}}
}

// TestSignerThatComesAndGoes: who asks again gets every entry in, once; what was
// acknowledged stays, and no size was ever signed for two trees.
func TestSignerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"untimed": {Origin: "127.0.0.1"}, "timed": timedConfig()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signer := newAwaySigner(t)
			cfg.Key, cfg.Signer, cfg.askAgain = nil, signer, 5*time.Millisecond
			cfg = anyEntry(cfg)
			dir := t.TempDir()
			l, err := Open(dir, cfg)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var promises []promise
			refused := 0
			const clients, each = 8, 25
			var wg sync.WaitGroup
			for g := range clients {
				wg.Go(func() {
					for i := range each {
						entry := fmt.Appendf(nil, "entry %d of %d", i, g)
						for {
							index, tree, err := l.append(context.Background(), entry)
							mu.Lock()
							if err == nil {
								promises = append(promises, promise{index, tree.size(), tlog.RecordHash(entry), tree.root, timeOf(l, tree, index)})
								mu.Unlock()
								break
							}
							refused++
							mu.Unlock()
							if !errors.As(err, new(*SignerError)) || !errors.Is(err, errAway) {
								t.Errorf("refused with %v", err)
								return
							}
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			wg.Wait()
			if l.Size() != clients*each || refused == 0 || len(promises) != clients*each {
				t.Errorf("%d entries, %d acknowledged, %d refused", l.Size(), len(promises), refused)
			}
			mustKeep(t, l, promises)
			// Closed while a tree waits: what was acknowledged is there, and the rest not.
			signer.away.Store(true)
			if _, _, err := l.append(context.Background(), []byte("never acknowledged")); !errors.Is(err, errAway) {
				t.Fatal(err)
			}
			if l.Away() == nil || l.Err() != nil {
				t.Errorf("away %v, stopped %v", l.Away(), l.Err())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			signer.away.Store(false)
			cfg.Signer = signer.Signer
			if l, err = Open(dir, cfg); err != nil {
				t.Fatal(err)
			}
			mustKeep(t, l, promises)
			if l.Size() != clients*each {
				t.Errorf("%d entries after a restart", l.Size())
			}
			if index, _, err := l.append(context.Background(), []byte("never acknowledged")); err != nil || index != clients*each {
				t.Errorf("%d, %v", index, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if n, err := Check(dir, cfg, nil); err != nil || n != clients*each+1 {
				t.Errorf("check: %d, %v", n, err)
			}
		})
	}
}

// TestSignerAwayIs503: clients are told to come again, reading goes on, and when the key
// is back what waits is published without anybody asking.
func TestSignerAwayIs503(t *testing.T) {
	t.Parallel()
	signer := newAwaySigner(t)
	var log output.Buffer
	l, err := Open(t.TempDir(), Config{Origin: "127.0.0.1", Signer: steadySigner{signer}, askAgain: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck
	server := httptest.NewServer(l.Handler())
	defer server.Close()
	before := l.Size()
	signer.away.Store(true)
	if _, err := l.Append(context.Background(), []byte("waits")); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	resp, err := http.Get(server.URL + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || l.Size() != before {
		t.Errorf("reading answers %d, size %d", resp.StatusCode, l.Size())
	}
	w := httptest.NewRecorder()
	backend{l}.Refuse(w, l.Away())
	var said struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != 503 || w.Header().Get("Retry-After") == "" || said.Message != SignerAway {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	// A signer that does not answer is not asked for each client.
	calls := signer.calls.Load()
	for range 20 {
		if _, err := l.Append(context.Background(), []byte("other")); !errors.Is(err, errAway) {
			t.Fatal(err)
		}
	}
	if n := signer.calls.Load() - calls; n > 10 {
		t.Errorf("asked %d times", n)
	}
	signer.away.Store(false)
	for start := time.Now(); l.Size() == before; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("what waited was never published")
		}
	}
	if l.Away() != nil {
		t.Errorf("away: %v", l.Away())
	}
	added, err := l.Append(context.Background(), []byte("waits"))
	if err != nil || added.Index != before || added.New {
		t.Errorf("%+v, %v", added, err)
	}
	if text := log.String(); strings.Count(text, "takes no entries") != 1 || strings.Count(text, "key signs again\"\n") != 1 {
		t.Errorf("the operator reads: %s", text)
	}
}

// steadySigner fails only while its signer is away.
type steadySigner struct{ *awaySigner }

func (s steadySigner) Sign(msg []byte) ([]byte, error) {
	s.calls.Add(1)
	if s.away.Load() {
		return nil, errAway
	}
	return s.Signer.Sign(msg)
}

// failingDiskLater fails to write once the signer is back: a tree that waited for its
// signature must not make a broken disk look like a signer.
type failingDiskLater struct {
	disk
	fails *atomic.Bool
}

func (d failingDiskLater) publish(head []byte) error {
	if d.fails.Load() {
		return errors.New("input/output error")
	}
	return d.disk.publish(head)
}

func TestDiskThatFailsAfterTheSignerStopsTheLog(t *testing.T) {
	t.Parallel()
	signer := newAwaySigner(t)
	var fails atomic.Bool
	l, err := open(t.TempDir(), Config{Origin: "127.0.0.1", Signer: steadySigner{signer}, askAgain: 5 * time.Millisecond},
		func(d disk) disk { return failingDiskLater{d, &fails} })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck
	signer.away.Store(true)
	if _, err := l.Append(context.Background(), []byte("a")); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	fails.Store(true)
	signer.away.Store(false)
	for start := time.Now(); l.Err() == nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the log did not stop")
		}
	}
	if _, err := l.Append(context.Background(), []byte("b")); err == nil || errors.As(err, new(*SignerError)) {
		t.Errorf("after that: %v", err)
	}
}
