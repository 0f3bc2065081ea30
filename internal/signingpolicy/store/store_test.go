package store_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/store"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// world is a store in a folder, with a clock alone unless witnesses are added.
type world struct {
	*policyforge.World
	keys   *policyforge.Operator // for its keys
	t      testing.TB
	cfg    store.Config
	trust  string
	people record.RawJSON
	cache  *translog.Cache // of clients

	mu  sync.Mutex
	now time.Time // witnesses ask for it, too
}

func newWorld(t testing.TB) *world {
	w := &world{World: policyforge.New(start), keys: policyforge.NewOperator(), t: t, now: start}
	w.people = w.Authority(policyforge.Role{Threshold: 2, People: []string{"alice", "bob", "carol"}})
	rules, err := chain.PrepareRules(w.Rules(w.clock))
	if err != nil {
		t.Fatal(err)
	}
	public := func(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
	w.trust = fmt.Sprintf("log %s\nwitness clock %s\nquorum clock\n", ledger.VerifierKey(policyforge.Origin, public(w.keys.Log)), ledger.CosignerKey("clock.example", public(w.keys.Clock)))
	w.cfg = store.Config{Dir: filepath.Join(t.TempDir(), "store"), Origin: policyforge.Origin, Key: w.keys.Log, ClockName: "clock.example", Clock: w.keys.Clock,
		Rules: rules, Now: w.clock}
	w.quorum(w.trust)
	return w
}

func (w *world) quorum(trust string) {
	w.t.Helper()
	_, q, _, err := ledger.ParseTrust([]byte(trust))
	if err != nil {
		w.t.Fatal(err)
	}
	w.trust, w.cfg.Quorum = trust, q
}

func (w *world) init() *store.Store {
	w.t.Helper()
	if err := store.Init(w.t.Context(), w.cfg); err != nil {
		w.t.Fatal(err)
	}
	return w.open()
}

func (w *world) open() *store.Store {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func submission(s *policyforge.Signed) store.Submission {
	return store.Submission{Record: s.File, Evidence: s.Evidence, Policy: s.Text}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// at sets the time, in hours.
func (w *world) at(h float64) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = start.Add(time.Duration(h * float64(time.Hour)))
	return w.now
}

func (w *world) append(s *store.Store, r *policyforge.Signed) {
	w.t.Helper()
	if _, err := s.Append(w.t.Context(), submission(r)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(s *store.Store) *ledger.Head {
	w.t.Helper()
	h, err := s.Publish(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) client(source translog.Source) *chain.Client {
	w.t.Helper()
	log, quorum, _, err := ledger.ParseTrust([]byte(w.trust))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := chain.New(chain.Config{Rules: w.Rules(w.cfg.Now), Log: log, Quorum: quorum, Source: source, Cache: w.cache, Now: w.cfg.Now, Blinding: w.cfg.Blinding})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

var repo = chain.Repository{Key: policyforge.Key, Name: policyforge.Name, OwnerID: policyforge.OwnerID}

// wants asks a folder which version is in force.
func (w *world) wants(dir string, version int64) *chain.Result {
	w.t.Helper()
	r, err := w.client(ledger.Folder(dir)).PolicyFor(w.t.Context(), repo)
	if err != nil {
		w.t.Fatal(err)
	}
	if version == 0 != (r.Policy == nil) || r.Policy != nil && r.Policy.Version != version {
		w.t.Fatalf("got %+v, want version %d", r.Policy, version)
	}
	return r
}

func code(err error) string {
	var r *ledger.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return fmt.Sprint(err)
}

func TestStoreOverItsLife(t *testing.T) {
	for _, blind := range []string{"", "a secret"} {
		w := newWorld(t)
		w.cfg.Blinding = repokey.Blinding(blind)
		s := w.init()
		w.wants(w.cfg.Dir, 0)
		v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
		w.append(s, v1)
		w.wants(w.cfg.Dir, 0) // not in a head yet
		w.append(s, v1)       // again is nothing new
		w.at(0.5)
		if h := w.publish(s); h.Size != 3 {
			t.Fatalf("%d leaves", h.Size)
		}
		if r := w.wants(w.cfg.Dir, 0); len(r.Pending) != 1 {
			t.Errorf("%+v", r)
		}
		w.at(26)
		if h := w.publish(s); h.Size != 3 { // cosigned anew
			t.Fatalf("%d leaves", h.Size)
		}
		w.wants(w.cfg.Dir, 1)
		v2 := w.Sign(w.Next(w.now, v1, w.people, "bob", "carol"))
		w.append(s, v2)
		reject := w.Approve(v2.Predicate, policyforge.Version{At: w.now, Prev: v2}, policyforge.Approval{By: "carol", Change: func(st *approval.Statement) { st.Decision = approval.Reject }})
		for range 2 {
			if err := s.Notice(t.Context(), policyforge.Key, reject); err != nil {
				t.Fatal(err)
			}
		}
		w.publish(s)
		if r := w.wants(w.cfg.Dir, 2); len(r.Notices) != 1 || !bytes.Equal(r.Notices[0], reject) {
			t.Errorf("%d notices", len(r.Notices))
		}
		if text, err := w.client(ledger.Folder(w.cfg.Dir)).Bundle(t.Context(), w.wants(w.cfg.Dir, 2).Policy); err != nil || string(text) != policyforge.Text {
			t.Errorf("%q, %v", text, err)
		}
		if blind != "" {
			for _, part := range []string{"map", "tile"} {
				if err := filepath.WalkDir(filepath.Join(w.cfg.Dir, part), func(path string, d os.DirEntry, err error) error {
					if data, rerr := os.ReadFile(path); rerr == nil && (bytes.Contains(data, []byte("123456")) || bytes.Contains(data, []byte("org/app"))) {
						t.Errorf("%s shows the repository", path)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Close()
		w.publish(w.open()) // the same after it was opened again
		w.wants(w.cfg.Dir, 2)

		web := httptest.NewServer(http.StripPrefix("/p", http.FileServer(http.Dir(w.cfg.Dir))))
		source, err := ledger.HTTP(web.URL+"/p", ledger.HTTPOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.client(source).PolicyFor(t.Context(), repo)
		if err != nil || r.Policy.Version != 2 {
			t.Errorf("over HTTP: %+v, %v", r, err)
		}
		web.Close()
	}
}

func TestWhatIsNotAdmitted(t *testing.T) {
	w := newWorld(t)
	s := w.init()
	v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	tooSoon := w.First(w.now, w.people, "alice", "bob")
	tooSoon.Effective = w.now
	other := w.Sign(w.First(w.now, w.people, "alice", "carol"))
	refused := func(why, want string, sub store.Submission) {
		t.Helper()
		if _, err := s.Append(t.Context(), sub); code(err) != want && !(want == "" && err != nil && !errors.As(err, new(*ledger.Refusal))) {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("by one", chain.CodeNotApproved, submission(w.Sign(w.First(w.now, w.people, "alice"))))
	refused("at once", chain.CodeFirstTooSoon, submission(w.Sign(tooSoon)))
	refused("second without first", ledger.CodeConflict, submission(w.Sign(w.Next(w.now, v1, w.people, "alice", "bob"))))
	refused("no policy", "", store.Submission{Record: v1.File, Evidence: v1.Evidence})
	refused("other policy", "", store.Submission{Record: v1.File, Evidence: v1.Evidence, Policy: []byte("package x")})
	refused("approval missing", "", store.Submission{Record: v1.File, Evidence: v1.Evidence[:1], Policy: v1.Text})
	refused("approval of another", "", store.Submission{Record: v1.File, Evidence: other.Evidence, Policy: v1.Text})
	refused("approval twice", "", store.Submission{Record: v1.File, Evidence: append(v1.Evidence[:2:2], v1.Evidence[0]), Policy: v1.Text})
	refused("garbage for an approval", approval.CodeMalformed, store.Submission{Record: v1.File, Evidence: [][]byte{[]byte("{}")}, Policy: v1.Text})
	refused("no bundle", "", store.Submission{Record: []byte("{}")})
	refused("nothing", "", store.Submission{})
	w.append(s, v1)
	refused("another first", ledger.CodeConflict, submission(other))

	notice := func(by string, change func(*approval.Statement)) []byte {
		return w.Approve(v1.Predicate, policyforge.Version{At: w.now, Prev: v1}, policyforge.Approval{By: by, Change: func(st *approval.Statement) { st.Decision = approval.Reject; change(st) }})
	}
	nothing := func(*approval.Statement) {}
	for why, c := range map[string]struct {
		key  string
		data []byte
		want string
	}{
		"stranger":           {policyforge.Key, notice("mallory", nothing), approval.CodeNotNamed},
		"in alice's name":    {policyforge.Key, notice("alice=mallory", nothing), approval.CodeKeyNotOfPrincipal},
		"an approval":        {policyforge.Key, notice("alice", func(st *approval.Statement) { st.Decision = approval.Approve }), approval.CodeOtherAction},
		"another repository": {policyforge.Key, notice("alice", func(st *approval.Statement) { st.Repository.Key = "github.com/id/777" }), approval.CodeOtherAction},
		"garbage":            {policyforge.Key, []byte("{}"), approval.CodeMalformed},
		"no policy":          {"github.com/id/777", notice("alice", nothing), "policy store: github.com/id/777 has no policy"},
	} {
		if err := s.Notice(t.Context(), c.key, c.data); code(err) != c.want {
			t.Errorf("notice, %s: %v", why, err)
		}
	}
	w.at(0.5)
	w.publish(s)
	w.at(20)
	w.publish(s)
	w.wants(w.cfg.Dir, 0) // nothing of all that is in the way
}

// TestConcurrentUpdates: of two updates from one version, one is taken, and the other must look again.
func TestConcurrentUpdates(t *testing.T) { // 78
	w := newWorld(t)
	s := w.init()
	v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	w.append(s, v1)
	w.at(0.5)
	w.publish(s)
	w.at(30)
	w.publish(s)
	pairs := [][]string{{"alice", "bob"}, {"bob", "carol"}, {"alice", "carol"}}
	errs := make([]error, len(pairs))
	var wg sync.WaitGroup
	for i, people := range pairs {
		sub := submission(w.Sign(w.Next(w.now, v1, w.people, people...)))
		wg.Go(func() { _, errs[i] = s.Append(context.Background(), sub) })
	}
	wg.Wait()
	taken := 0
	for _, err := range errs {
		var r *ledger.Refusal
		switch {
		case err == nil:
			taken++
		case !errors.As(err, &r) || r.Code != ledger.CodeConflict || !strings.Contains(r.Hint, "again"):
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("%d were taken", taken)
	}
	w.publish(s)
	w.wants(w.cfg.Dir, 2)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestEndsInBetween: the store is opened again as it was at each point at which an end leaves
// something to do, with a witness that remembers every head that it was shown.
func TestEndsInBetween(t *testing.T) {
	w := newWorld(t)
	log, _, _, err := ledger.ParseTrust([]byte(w.trust))
	if err != nil {
		t.Fatal(err)
	}
	server, err := witness.OpenServer(witness.ServerConfig{Dir: t.TempDir(), Name: "a.example", Logs: []translog.Log{log}, Now: w.cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	web := httptest.NewServer(server)
	defer web.Close()
	target, err := witness.ParseTarget(server.VerifierKey()+" "+web.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	group, err := witness.NewGroup(witness.GroupConfig{Targets: []witness.Target{target}, Wait: time.Minute, Now: w.cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	w.cfg.Witnesses = group
	w.quorum(strings.Replace(w.trust, "quorum clock", "witness a "+server.VerifierKey()+"\ngroup both all clock a\nquorum both", 1))

	s := w.init()
	v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	w.append(s, v1)
	w.at(0.5)
	dir := w.cfg.Dir
	appended := filepath.Join(t.TempDir(), "appended")
	copyTree(t, dir, appended)
	if err := s.Integrate(); err != nil {
		t.Fatal(err)
	}
	signed := filepath.Join(t.TempDir(), "signed")
	copyTree(t, dir, signed) // the head is signed, the queue not empty, nobody saw it
	want := w.publish(s)
	s.Close()
	reopen := func(why, dir string) *ledger.Head {
		t.Helper()
		w.cfg.Dir = dir
		s := w.open()
		defer s.Close()
		h := w.publish(s)
		if w.at(20); h.Size != want.Size || h.Root != want.Root {
			t.Errorf("%s: %d leaves, root %v; want %d, %v", why, h.Size, h.Root, want.Size, want.Root)
		}
		w.publish(s)
		w.wants(dir, 0)
		w.at(0.5)
		return h
	}
	reopen("signed, not shown", signed)
	reopen("shown", dir)
	// What was appended is there when the process ends before it is published, with the rest of a
	// map that was begun.
	if err := os.MkdirAll(filepath.Join(appended, "map/.made/proof"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(appended, "state/queue/.tmp-1"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	reopen("appended", appended)
	w.cfg.Dir = appended
	w.at(26)
	w.publish(w.open())
	w.wants(appended, 1)
}

func TestWithoutTheQuorumTheOldHeadStays(t *testing.T) {
	w := newWorld(t)
	w.init().Close()
	before, err := os.ReadFile(filepath.Join(w.cfg.Dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	w.quorum(w.keys.Trust()) // which wants a witness
	s := w.open()
	if err := s.Enqueue(ledger.Leaf{Kind: ledger.KindRecord, Key: "github.com/id/1", Name: "github.com/name/o/r", Version: 1, Action: "set", Digest: string(evidence.SHA256(nil))}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Publish(t.Context()); code(err) != ledger.CodeNoQuorum {
			t.Error(err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(w.cfg.Dir, "checkpoint")); err != nil || !bytes.Equal(after, before) {
		t.Errorf("%s, %v", after, err)
	}
	if _, err := os.Stat(filepath.Join(w.cfg.Dir, "head/3")); err == nil {
		t.Error("a head without its quorum is shown")
	}
	s.Close()
	w.quorum(strings.Replace(w.trust, "quorum both", "quorum clock", 1))
	if h := w.publish(w.open()); h.Size != 3 {
		t.Errorf("%d leaves", h.Size)
	}
}

// TestMapOnDiskIsTheReplayedLog with more leaves than a bundle holds and more than one shard.
func TestMapOnDiskIsTheReplayedLog(t *testing.T) {
	w := newWorld(t)
	s := w.init()
	for batch := range 3 {
		var leaves []ledger.Leaf
		for i := range 150 + 100*batch {
			n := 1000*batch + i + 1
			leaves = append(leaves, ledger.Leaf{Kind: ledger.KindRecord, Key: fmt.Sprintf("github.com/id/%d", n), Name: fmt.Sprintf("github.com/name/o/r%d", n), Version: 1, Action: "set",
				Digest: string(evidence.SHA256(fmt.Append(nil, n)))})
		}
		if err := s.Enqueue(leaves...); err != nil {
			t.Fatal(err)
		}
		h := w.publish(s)
		view := translog.NewView(h.Checkpoint, ledger.Folder(w.cfg.Dir), nil)
		var state ledger.State
		var last ledger.Leaf
		if err := translog.Scan(t.Context(), view, 0, h.Size-1, func(b translog.Bundle) (translog.Bundle, error) { return b, nil }, func(b translog.Bundle) error {
			for _, data := range b.Entries {
				l, err := ledger.ParseLeaf(data)
				if err != nil {
					return err
				}
				if err := state.Apply(l); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		data, err := view.Entry(t.Context(), h.Size-1)
		if err != nil {
			t.Fatal(err)
		}
		if last, err = ledger.ParseLeaf(data); err != nil {
			t.Fatal(err)
		}
		m := state.Map(state.ShardBits())
		if m.Leaf(state.Size()) != last || batch > 0 && m.Bits == 0 {
			t.Fatalf("%+v is published, %+v is replayed", last, m.Leaf(state.Size()))
		}
		for i, shard := range m.Shards {
			have, err := os.ReadFile(filepath.Join(w.cfg.Dir, ledger.ShardPath(last.Size, i)))
			if err != nil || !bytes.Equal(have, shard) {
				t.Errorf("shard %d: %v", i, err)
			}
			have, err = os.ReadFile(filepath.Join(w.cfg.Dir, ledger.ProofPath(last.Size, i)))
			if err != nil || !bytes.Equal(have, m.Proof(i)) {
				t.Errorf("proof %d: %v", i, err)
			}
		}
		s.Close()
		s = w.open()
		if s.State().Map(3).Root() != state.Map(3).Root() {
			t.Error("the store is opened in another state")
		}
	}
	r, err := w.client(ledger.Folder(w.cfg.Dir)).PolicyFor(t.Context(), chain.Repository{Key: "github.com/id/9999", Name: "github.com/o/none", OwnerID: "1"})
	if err != nil || r.Policy != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDamagedFoldersStayShut(t *testing.T) {
	w := newWorld(t)
	s := w.init()
	w.append(s, w.Sign(w.First(w.now, w.people, "alice", "bob")))
	s.Close()
	whole := w.cfg.Dir
	for _, name := range []string{"state/head", "state/queue/000000000000", "tile/entries/000.p/1"} {
		data, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(data); i += 1 + len(data)/20 {
			w.cfg.Dir = filepath.Join(t.TempDir(), "damaged")
			copyTree(t, whole, w.cfg.Dir)
			bad := bytes.Clone(data)
			bad[i] ^= 1
			if err := os.WriteFile(filepath.Join(w.cfg.Dir, name), bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if s, err := store.Open(t.Context(), w.cfg); err == nil {
				s.Close()
				t.Fatalf("%s with another byte %d is opened", name, i)
			} else if name != "tile/entries/000.p/1" && !errors.As(err, new(*durable.CorruptError)) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	w.cfg.Dir = whole
	if err := store.Init(t.Context(), w.cfg); err == nil {
		t.Error("a store is made where one is")
	}
	w.cfg.Dir = t.TempDir()
	if _, err := store.Open(t.Context(), w.cfg); err == nil {
		t.Error("a store is opened where none is")
	}
	w.cfg.Dir = whole
	s = w.open()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Open(done, w.cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("a second process opens it: %v", err)
	}
	s.Close()
	if _, err := s.Publish(t.Context()); err == nil {
		t.Error("a closed store publishes")
	}
	for why, change := range map[string]func(*store.Config){
		"no folder": func(c *store.Config) { c.Dir = "" }, "no key": func(c *store.Config) { c.Key = nil }, "no clock": func(c *store.Config) { c.Clock = nil },
		"one key": func(c *store.Config) { c.Clock = c.Key }, "no quorum": func(c *store.Config) { c.Quorum = ledger.Quorum{} }, "origin": func(c *store.Config) { c.Origin = "a b" },
		"other key": func(c *store.Config) { c.Key = w.keys.Witnesses["a.example"] },
	} {
		cfg := w.cfg
		change(&cfg)
		if s, err := store.Open(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("%s is taken", why)
		}
	}
}

// TestCheck: a monitor notices each file that is gone or changed.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	s := w.init()
	v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	w.append(s, v1)
	w.publish(s)
	reject := w.Approve(v1.Predicate, policyforge.Version{At: w.now, Prev: v1}, policyforge.Approval{By: "carol", Change: func(st *approval.Statement) { st.Decision = approval.Reject }})
	if err := s.Notice(t.Context(), policyforge.Key, reject); err != nil {
		t.Fatal(err)
	}
	w.publish(s)
	s.Close()
	log, quorum, _, err := ledger.ParseTrust([]byte(w.trust))
	if err != nil {
		t.Fatal(err)
	}
	whole := w.cfg.Dir
	c, err := store.Check(t.Context(), ledger.Folder(whole), log, quorum)
	if err != nil || c.Head.Size != 5 || c.Records != 1 || c.Notices != 1 || c.Maps != 3 || !c.HeadTime.Equal(start) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, path := range []string{"tile/0/000.p/5", "tile/entries/000.p/5", "map/4/0", "map/4/proof/0", ledger.FilePath("record", string(v1.Digest)), ledger.FilePath("evidence", string(v1.Record.Evidence[0])),
		ledger.FilePath("bundle", string(v1.Policy.Bundle)), ledger.FilePath("notice", ledger.DigestOf(payloadOf(t, reject)))} {
		for _, spoil := range []func(path string) error{os.Remove, func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, append([]byte{'!'}, data...), 0o644)
		}} {
			dir := filepath.Join(t.TempDir(), "copy")
			copyTree(t, whole, dir)
			if err := spoil(filepath.Join(dir, path)); err != nil {
				t.Fatal(err)
			}
			// Tiles may have more than is asked for; and what is gone is an error there.
			if _, err := store.Check(t.Context(), ledger.Folder(dir), log, quorum); err == nil && !strings.HasPrefix(path, "tile/") {
				t.Errorf("%s is not looked at", path)
			}
		}
	}
}

func payloadOf(t *testing.T, envelope []byte) []byte {
	t.Helper()
	e, why := approval.Parse(envelope)
	if why != nil {
		t.Fatal(why)
	}
	return e.Payload
}
