package tlog_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// witnessed is a log with one witness, both behind HTTP on loopback.
type witnessed struct {
	signer *ecdsa.PrivateKey
	known  translog.Log // as one who demands the witness knows it
	log    *tlog.Log
	group  *witness.Group
	url    string
	down   atomic.Bool // the witness answers 503
	close  func()
}

func startWitnessed(t *testing.T) (*witnessed, func()) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &witnessed{signer: signer}
	key := newKey(t)
	known, err := translog.NewLog(origin, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	server, err := witness.OpenServer(witness.ServerConfig{Dir: t.TempDir(), Name: "w1", Logs: []translog.Log{known}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		server.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() { front.Close(); _ = server.Close() })
	target, err := witness.ParseTarget(server.VerifierKey()+" "+front.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	known.Witnesses = trust.Witnesses{Keys: []trust.Witness{target.Witness}, Quorum: 1}
	w.known = known
	dir := filepath.Join(t.TempDir(), "log")
	start := func() {
		if w.group, err = witness.NewGroup(witness.GroupConfig{Targets: []witness.Target{target}, Wait: time.Minute, Backoff: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if w.log, err = tlog.Open(dir, tlog.Config{Origin: origin, Key: key, Witnesses: w.group}); err != nil {
			t.Fatal(err)
		}
		served := httptest.NewServer(w.log.Handler())
		w.url = served.URL
		w.close = sync.OnceFunc(func() { served.Close(); _ = w.log.Close(); w.group.Close() })
	}
	start()
	t.Cleanup(func() { w.close() })
	return w, start
}

// add logs an entry and returns the checkpoint of its answer.
func (w *witnessed) add(t *testing.T, message string) []byte {
	t.Helper()
	status, body := post(t, w.url, signP256(t, w.signer, message).json())
	var answer struct {
		InclusionProof struct {
			Checkpoint struct{ Envelope string }
		}
	}
	if err := json.Unmarshal(body, &answer); status != http.StatusCreated || err != nil {
		t.Errorf("HTTP %d: %s (%v)", status, body, err)
	}
	return []byte(answer.InclusionProof.Checkpoint.Envelope)
}

func (w *witnessed) shown(t *testing.T) []byte {
	t.Helper()
	resp, err := http.Get(w.url + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (w *witnessed) cosigned(note []byte) bool {
	_, err := w.known.ParseCheckpoint(note, time.Now())
	return err == nil
}

// With 32 clients at once every answer's checkpoint is cosigned.
func TestAnswersAreCosigned(t *testing.T) {
	t.Parallel()
	w, _ := startWitnessed(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if note := w.add(t, fmt.Sprint(i)); !w.cosigned(note) {
				t.Errorf("entry %d: %s", i, note)
			}
		})
	}
	wg.Wait()
	if !w.cosigned(w.shown(t)) || w.log.Size() != 32 {
		t.Errorf("size %d: %s", w.log.Size(), w.shown(t))
	}
}

// Without its witness the log goes on, says so, and shows the cosignature that comes
// late; after a restart it asks for what it had.
func TestWitnessIsDown(t *testing.T) {
	t.Parallel()
	w, restart := startWitnessed(t)
	w.add(t, "before")
	w.down.Store(true)
	for i := range 20 {
		if w.cosigned(w.add(t, fmt.Sprint(i))) {
			t.Error("a witness that is down cosigned")
		}
	}
	if w.log.Size() != 21 || w.cosigned(w.shown(t)) {
		t.Errorf("size %d", w.log.Size())
	}
	if d := w.group.Describe(); !strings.Contains(d, "w1: since ") || !strings.Contains(d, "too few witnesses") {
		t.Errorf("health: %s", d)
	}
	w.down.Store(false)
	for deadline := time.Now().Add(time.Minute); !w.cosigned(w.shown(t)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the late cosignature is not shown")
		}
	}
	if d := w.group.Describe(); d != "witness w1: ok\n" {
		t.Errorf("health: %s", d)
	}
	w.close()
	restart()
	for deadline := time.Now().Add(time.Minute); !w.cosigned(w.shown(t)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("after a restart the checkpoint is not cosigned")
		}
	}
	if !w.cosigned(w.add(t, "after")) {
		t.Error("after a restart an answer is not cosigned")
	}
}
