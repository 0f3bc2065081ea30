package witness_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

func group(t testing.TB, cfg witness.GroupConfig) *witness.Group {
	t.Helper()
	cfg.Backoff = time.Millisecond
	g, err := witness.NewGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func checkpointOf(l *tilelog.Log) witness.Checkpoint {
	return witness.Checkpoint{Note: l.Checkpoint(), Size: l.Size(), Prove: func(old int64) (tlog.TreeProof, error) { return l.Prove(old), nil }}
}

func cosigners(t testing.TB, l *tilelog.Log, lines []byte, keys ...trust.Witness) int {
	t.Helper()
	log := logOf(t, l)
	log.Witnesses.Keys = keys
	c, err := log.ParseCheckpoint(append(l.Checkpoint(), lines...), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return len(c.Cosigned)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w1, w2 := start(t, t.TempDir(), "w1", logOf(t, l)), start(t, t.TempDir(), "w2", logOf(t, l))
	targets := []witness.Target{{Witness: w1.key(t), URL: w1.url}, {Witness: w2.key(t), URL: w2.url}}
	g := group(t, witness.GroupConfig{Targets: targets, Wait: time.Minute})
	for _, n := range []int{0, 1, 300} {
		l.Append(tilelog.Texts(int(l.Size()), n)...)
		if got := cosigners(t, l, g.Cosign(checkpointOf(l)), w1.key(t), w2.key(t)); got != 2 {
			t.Errorf("size %d: %d cosigned", l.Size(), got)
		}
	}
	// Another process goes on where the witnesses are: they say where that is.
	l.Append([]byte("more"))
	again := group(t, witness.GroupConfig{Targets: targets, Wait: time.Minute})
	if got := cosigners(t, l, again.Cosign(checkpointOf(l)), w1.key(t), w2.key(t)); got != 2 {
		t.Errorf("%d cosigned", got)
	}
	for _, h := range again.Health() {
		if h.Problem != "" {
			t.Errorf("%+v", h)
		}
	}
}

// gate is a witness that can be made to hang: a network that swallows packets.
type gate struct {
	http.Handler
	shut atomic.Pointer[chan struct{}]
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := g.shut.Load(); c != nil {
		select {
		case <-*c:
		case <-r.Context().Done():
			return
		}
	}
	g.Handler.ServeHTTP(w, r)
}

// A witness that hangs is waited for once, then asked without waiting, and its
// cosignature is taken when it comes after all.
func TestHangingWitness(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w := start(t, t.TempDir(), "w1", logOf(t, l))
	open := make(chan struct{})
	hanging := &gate{Handler: w}
	hanging.shut.Store(&open)
	server := httptest.NewServer(hanging)
	t.Cleanup(server.Close)
	g := group(t, witness.GroupConfig{Targets: []witness.Target{{Witness: w.key(t), URL: server.URL}}, Wait: 10 * time.Millisecond})
	if lines := g.Cosign(checkpointOf(l)); len(lines) != 0 {
		t.Error("it cosigned")
	}
	if h := g.Health()[0]; h.Problem == "" || h.Since.IsZero() {
		t.Errorf("%+v", h)
	}
	late := make(chan []byte, 10)
	c := checkpointOf(l)
	c.Late = func(lines []byte) { late <- lines }
	if lines := g.Cosign(c); len(lines) != 0 {
		t.Error("it cosigned")
	}
	close(open)
	if got := cosigners(t, l, <-late, w.key(t)); got != 1 {
		t.Errorf("%d cosigned", got)
	}
}

// A witness that comes back is waited for again, without anybody's doing.
func TestWitnessComesBack(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	w := start(t, t.TempDir(), "w1", logOf(t, l))
	var down atomic.Bool
	down.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(rw, "not now", http.StatusServiceUnavailable)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	g := group(t, witness.GroupConfig{Targets: []witness.Target{{Witness: w.key(t), URL: server.URL}}, Wait: time.Minute})
	if lines := g.Cosign(checkpointOf(l)); len(lines) != 0 {
		t.Error("it cosigned")
	}
	down.Store(false)
	eventually(t, "the witness is well again", func() bool { return g.Health()[0].Problem == "" })
	l.Append([]byte("more"))
	if got := cosigners(t, l, g.Cosign(checkpointOf(l)), w.key(t)); got != 1 {
		t.Errorf("%d cosigned", got)
	}
}

// Each way in which a witness does not cosign is told apart.
func TestRefusals(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	l.Append(tilelog.Texts(0, 10)...)
	fork := l.ForkAt(5)
	fork.Append(tilelog.Texts(40, 20)...)
	forked := start(t, t.TempDir(), "w1", logOf(t, l))
	forked.cosigned(t, l, body(0, nil, l.Checkpoint()))
	ahead := start(t, t.TempDir(), "w1", logOf(t, l))
	longer := l.ForkAt(10)
	longer.Append(tilelog.Texts(60, 100)...)
	ahead.cosigned(t, longer, body(0, nil, longer.Checkpoint()))
	stranger := start(t, t.TempDir(), "w1", logOf(t, tilelog.New("other.example.com")))
	thief := start(t, t.TempDir(), "w1", logOf(t, tilelog.New(origin)))
	liar := start(t, t.TempDir(), "w1", logOf(t, l))
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, c := range map[string]struct {
		w    running
		url  string
		key  trust.Witness
		log  *tilelog.Log
		want string
	}{
		"fork":      {forked, forked.url, forked.key(t), fork, "another tree"},
		"rollback":  {ahead, ahead.url, ahead.key(t), l, "older copy"},
		"unknown":   {stranger, stranger.url, stranger.key(t), l, "does not watch"},
		"wrong key": {thief, thief.url, thief.key(t), l, "does not trust"},
		"other key": {liar, liar.url, forked.key(t), l, "good cosignature"},
		"gone":      {liar, gone.URL, liar.key(t), l, "does not answer"},
	} {
		g := group(t, witness.GroupConfig{Targets: []witness.Target{{Witness: c.key, URL: c.url}}, Wait: time.Minute})
		if lines := g.Cosign(checkpointOf(c.log)); len(lines) != 0 {
			t.Errorf("%s: it cosigned", name)
		}
		if h := g.Health()[0]; !strings.Contains(h.Problem, c.want) {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	l := tilelog.New(origin)
	w := start(t, t.TempDir(), "w1", logOf(t, l))
	if got, err := witness.ParseTarget(w.VerifierKey()+" "+w.url+"/", false); err != nil || got.URL != w.url || got.Witness.Name != "w1" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", w.VerifierKey(), w.url, "w1+x+y " + w.url, w.VerifierKey() + " http://witness.example.com", l.VerifierKey() + " " + w.url} {
		if _, err := witness.ParseTarget(bad, false); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	twice := witness.Target{Witness: w.key(t), URL: w.url}
	for _, cfg := range []witness.GroupConfig{{Targets: []witness.Target{twice, twice}}, {Targets: []witness.Target{twice}, Quorum: 2}, {Quorum: -1}} {
		if _, err := witness.NewGroup(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\n"} {
		if _, err := witness.OpenServer(witness.ServerConfig{Dir: t.TempDir(), Name: name, Logs: nil}); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
}
