package witness_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

const origin = "log.example.com"

func logOf(t testing.TB, l *tilelog.Log) translog.Log {
	t.Helper()
	log, err := translog.ParseKey(l.VerifierKey(), "")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// running is a witness behind HTTP on loopback.
type running struct {
	*witness.Server
	url string
	dir string
}

func start(t testing.TB, dir, name string, logs ...translog.Log) running {
	t.Helper()
	s, err := witness.OpenServer(witness.ServerConfig{Dir: dir, Name: name, Logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() { server.Close(); _ = s.Close() })
	return running{s, server.URL, dir}
}

func (r running) key(t testing.TB) trust.Witness {
	t.Helper()
	w, err := trust.ParseWitness(r.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func body(old int64, proof tlog.TreeProof, note []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(h[:]))
	}
	return b.String() + "\n" + string(note)
}

func (r running) post(t testing.TB, body string) (int, string, string) {
	t.Helper()
	resp, err := http.Post(r.url+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(data)
}

// wants posts and checks the answer; of a 409 also its body.
func (r running) wants(t testing.TB, body string, status int, size string) {
	t.Helper()
	got, contentType, answer := r.post(t, body)
	if got != status || size != "" && (answer != size+"\n" || contentType != "text/x.tlog.size") {
		t.Errorf("%.40q: HTTP %d, %s, %q; want %d, %q", body, got, contentType, answer, status, size)
	}
}

// cosigned checks that an answer makes a checkpoint that a quorum of the witness holds.
func (r running) cosigned(t testing.TB, l *tilelog.Log, body string) {
	t.Helper()
	status, _, answer := r.post(t, body)
	if status != http.StatusOK {
		t.Fatalf("HTTP %d: %s", status, answer)
	}
	log := logOf(t, l)
	log.Witnesses = trust.Witnesses{Keys: []trust.Witness{r.key(t)}, Quorum: 1}
	if _, err := log.ParseCheckpoint(append(l.Checkpoint(), answer...), time.Now()); err != nil {
		t.Errorf("%v\n%s", err, answer)
	}
}

// The answers that c2sp.org/tlog-witness demands, one by one.
func TestAddCheckpoint(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w := start(t, t.TempDir(), "witness.example/w1", logOf(t, l))
	first := l.Checkpoint()
	empty := tilelog.New(origin)
	stranger := tilelog.New("other.example.com")
	stranger.Append([]byte("x"))
	thief := tilelog.New(origin)
	thief.Append([]byte("x"))

	w.wants(t, "nonsense", http.StatusBadRequest, "")
	w.wants(t, "old 00\n\n"+string(first), http.StatusBadRequest, "")
	w.wants(t, "old 0\nAAAA\n\n"+string(first), http.StatusBadRequest, "")
	w.wants(t, body(0, make(tlog.TreeProof, 64), first), http.StatusBadRequest, "")
	w.wants(t, body(0, nil, stranger.Checkpoint()), http.StatusNotFound, "")
	w.wants(t, body(0, nil, thief.Checkpoint()), http.StatusForbidden, "")
	w.wants(t, body(0, nil, empty.Checkpoint()), http.StatusForbidden, "")
	w.wants(t, body(11, nil, first), http.StatusBadRequest, "")
	w.wants(t, body(3, nil, first), http.StatusConflict, "0")
	w.wants(t, body(0, make(tlog.TreeProof, 1), first), http.StatusUnprocessableEntity, "")
	w.wants(t, strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge, "")
	w.cosigned(t, l, body(0, nil, first))

	w.cosigned(t, l, body(10, nil, first)) // the same again
	w.wants(t, body(0, nil, first), http.StatusConflict, "10")
	fork := l.ForkAt(9)
	fork.Append([]byte("other"))
	w.wants(t, body(10, nil, fork.Checkpoint()), http.StatusConflict, "10")
	fork.Append(tilelog.Texts(50, 20)...)
	w.wants(t, body(10, fork.Prove(10), fork.Checkpoint()), http.StatusUnprocessableEntity, "")
	l.Append(tilelog.Texts(10, 300)...)
	w.wants(t, body(10, nil, l.Checkpoint()), http.StatusUnprocessableEntity, "")
	w.wants(t, body(10, l.Prove(9), l.Checkpoint()), http.StatusUnprocessableEntity, "")
	w.cosigned(t, l, body(10, l.Prove(10), l.Checkpoint()))
	w.wants(t, body(10, nil, first), http.StatusConflict, "310") // back to where it was
	w.wants(t, body(310, nil, first), http.StatusBadRequest, "")
	if kept, err := filepath.Glob(filepath.Join(w.dir, "evidence", "*")); err != nil || len(kept) < 2 {
		t.Errorf("evidence of the forks: %v, %v", kept, err)
	}
	if resp, err := http.Get(w.url + "/add-checkpoint"); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", resp, err)
	}
}

// A witness remembers across restarts, under one key; one that lost a part of its
// folder does not cosign.
func TestRestart(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	dir := t.TempDir()
	w := start(t, dir, "w1", logOf(t, l))
	w.cosigned(t, l, body(0, nil, l.Checkpoint()))
	if _, err := witness.OpenServer(witness.ServerConfig{Dir: dir, Name: "w1", Logs: []translog.Log{logOf(t, l)}}); err == nil {
		t.Error("two processes have one folder")
	}
	key := w.VerifierKey()
	_ = w.Close()
	w = start(t, dir, "w1", logOf(t, l))
	if w.VerifierKey() != key {
		t.Error("it has another key")
	}
	w.wants(t, body(0, nil, l.Checkpoint()), http.StatusConflict, "10")
	_ = w.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*.sealed"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		good, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{good[:len(good)-1], bytes.Replace(good, []byte("1"), []byte("2"), 1), {}} {
			if err := os.WriteFile(f, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := witness.OpenServer(witness.ServerConfig{Dir: dir, Name: "w1", Logs: []translog.Log{logOf(t, l)}}); !errors.As(err, new(*durable.CorruptError)) {
				t.Errorf("%s damaged: %v", filepath.Base(f), err)
			}
		}
		if err := os.WriteFile(f, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "key.sealed")); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.OpenServer(witness.ServerConfig{Dir: dir, Name: "w1", Logs: []translog.Log{logOf(t, l)}}); !errors.As(err, new(*durable.CorruptError)) {
		t.Errorf("without its key: %v", err)
	}
}

// What is not on disk is not cosigned.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w := start(t, t.TempDir(), "w1", logOf(t, l))
	w.FailWrites(errors.New("no space left on device"))
	w.wants(t, body(0, nil, l.Checkpoint()), http.StatusInternalServerError, "")
	w.wants(t, body(10, nil, l.Checkpoint()), http.StatusConflict, "0")
}

// Of two branches that arrive at the same time, over and over, one is cosigned.
func TestRaceOfTwoBranches(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w := start(t, t.TempDir(), "w1", logOf(t, l))
	w.cosigned(t, l, body(0, nil, l.Checkpoint()))
	var bodies []string
	for i := range 8 {
		fork := l.ForkAt(10)
		fork.Append(tilelog.Texts(100*i, 1+i)...)
		bodies = append(bodies, body(10, fork.Prove(10), fork.Checkpoint()))
	}
	var wg sync.WaitGroup
	statuses := make([]int, len(bodies))
	for i, b := range bodies {
		wg.Go(func() { statuses[i], _, _ = w.post(t, b) })
	}
	wg.Wait()
	good := 0
	for _, s := range statuses {
		if s == http.StatusOK {
			good++
		} else if s != http.StatusConflict {
			t.Errorf("HTTP %d", s)
		}
	}
	if good != 1 {
		t.Errorf("%d of the branches were cosigned: %v", good, statuses)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(body(3, make(tlog.TreeProof, 2), []byte("note\n"))))
	f.Add([]byte("old 0\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		again, err := witness.ParseRequest(data)
		if err == nil && !bytes.Equal(again, data) {
			t.Errorf("%q is read as %q", data, again)
		}
	})
}
