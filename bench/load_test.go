package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rfc3161 "github.com/digitorus/timestamp"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
)

// newCaller is a client whose connections end with the test.
func newCaller(t *testing.T) *caller {
	t.Helper()
	c := &caller{conns: map[string]*connection{}}
	t.Cleanup(c.close)
	return c
}

func addressOf(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestPost: the client of the load reads answers of every kind to their end, on one
// connection, and takes no other status for success.
func TestPost(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("X-Test") != "yes" {
			w.WriteHeader(http.StatusBadRequest)
		}
		if r.URL.Path == "/chunked" {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(body)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c, at := newCaller(t), strings.TrimPrefix(s.URL, "http://")
	for _, path := range []string{"/sized", "/chunked"} {
		for _, n := range []int{0, 1, 4096, 4097, 100_000} {
			body := bytes.Repeat([]byte("x"), n)
			answer, err := c.post(at, path, "X-Test: yes\r\n", body, http.StatusOK)
			if err != nil || !bytes.Equal(answer, body) {
				t.Errorf("%s, %d bytes: %d bytes back, %v", path, n, len(answer), err)
			}
		}
	}
	if _, err := c.post(at, "/sized", "", nil, http.StatusOK); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a refusal was taken for an answer: %v", err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestRun: what ends in the time that counts is counted, whenever it began, and nothing
// else; an operation that fails ends the load with its error.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		each := 700 * time.Millisecond
		s := side{processes: []int{os.Getpid()}, do: func(*caller, int) error {
			time.Sleep(each)
			return nil
		}}
		// Of each client end 0.7; 1.4, 2.1, 2.8; 3.5.
		f, err := period{4, time.Second, 2 * time.Second, 1 << 30}.run(t.Context(), s)
		if err != nil || f.rate != 6 || f.p50 != 700 || f.p99 != 700 || f.memory < 1 {
			t.Errorf("%+v, %v", f, err)
		}
		// The operations are used up at 2.8.
		f, err = period{4, time.Second, time.Hour, 16}.run(t.Context(), s)
		if want := 12 / 1.8; err != nil || math.Abs(f.rate-want) > 1e-9 {
			t.Errorf("%+v, want %v, %v", f, want, err)
		}
		if _, err := (period{4, time.Hour, time.Hour, 100}).run(t.Context(), s); err == nil {
			t.Error("a load of which nothing was counted gave figures")
		}
		each = 5 * time.Second
		if _, err := (period{4, time.Second, 2 * time.Second, 100}).run(t.Context(), s); err == nil {
			t.Error("a load of which nothing ended in time gave figures")
		}
		broken := errors.New("broken")
		if _, err := (period{4, 0, time.Minute, 100}).run(t.Context(), side{do: func(_ *caller, i int) error {
			if i == 50 {
				return broken
			}
			return nil
		}}); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := (period{1, 0, time.Minute, 100}).run(ctx, s); err == nil {
			t.Error("a load that never ran gave figures")
		}
	})
}

// TestLog: requests are made as the log takes them, and what is checked of its answers
// is that a checkpoint of its key covers the entry.
func TestLog(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tlog.Open(t.TempDir(), tlog.Config{Origin: "127.0.0.1", Key: private})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	keys, err := newSigners()
	if err != nil {
		t.Fatal(err)
	}
	requests, err := entryRequests(checkEach+1, 1, keys)
	if err != nil {
		t.Fatal(err)
	}
	s := newLogSide(addressOf(t, l.Handler()), public, &requests)
	c := newCaller(t)
	for i := range requests {
		if err := s.do(c, i); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.answers) != 2 {
		t.Fatalf("%d answers were kept", len(s.answers))
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	good := s.answers
	other, _, _ := ed25519.GenerateKey(nil)
	for name, bad := range map[string]*logSide{
		"another key": {key: other, answers: good},
		"no answer":   {key: public},
		"another entry": {key: public, answers: [][]byte{changed(t, good[1], func(a map[string]any) {
			a["canonicalizedBody"] = "e30="
		})}},
		"another size": {key: public, answers: [][]byte{changed(t, good[1], func(a map[string]any) {
			a["inclusionProof"].(map[string]any)["treeSize"] = "3"
		})}},
		"another index": {key: public, answers: [][]byte{changed(t, good[1], func(a map[string]any) {
			a["inclusionProof"].(map[string]any)["logIndex"] = "1"
		})}},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func changed(t *testing.T, answer []byte, change func(map[string]any)) []byte {
	t.Helper()
	var a map[string]any
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatal(err)
	}
	change(a)
	out, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestQuery: a request for a timestamp is one, of SHA-256 and without more.
func TestQuery(t *testing.T) {
	t.Parallel()
	query, err := timestampQuery([]byte("signature"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := rfc3161.ParseRequest(query)
	if err != nil || r.HashAlgorithm.String() != "SHA-256" || len(r.HashedMessage) != 32 || r.Certificates || r.Nonce != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRatio: pairs are compared, not medians, and what was not measured has no ratio.
func TestRatio(t *testing.T) {
	t.Parallel()
	if got := ratio(sample{2, 30, 400}, sample{1, 10, 100}); got != "3.00" {
		t.Error(got)
	}
	for _, peer := range []sample{nil, {0, 0, 1}} {
		if got := ratio(sample{1, 2, 3}, peer); got != "-" {
			t.Error(got)
		}
	}
	if show(sample(nil).median(), "ms") != "-" || show(1.25, "ms") != "1.2 ms" {
		t.Error("what is shown")
	}
}

// TestAppends: as many entries as were asked for are in the log, and each was timed.
func TestAppends(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tlog.Open(t.TempDir(), tlog.Config{Origin: "127.0.0.1", Key: private})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		taken, err := appendMany(l, 100, shortLen, 8)
		if err != nil || len(taken) != 100 || slices.Min(taken) <= 0 || l.Size() != int64(round+1)*100 {
			t.Errorf("%d of %d entries, %v", len(taken), l.Size(), err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := appendMany(l, 1, shortLen, 1); err == nil {
		t.Error("appended to a log that is closed")
	}
}
