package chain_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// logged appends a record and shows a head at an hour, which is now.
func (w *world) logged(s *policyforge.Signed, h float64) *policyforge.Signed {
	w.Append(s)
	w.now = w.at(h)
	w.Publish(w.now)
	return s
}

// look shows the present head at an hour, which is now.
func (w *world) look(h float64) {
	w.now = w.at(h)
	w.Show(w.now)
}

func TestFirstRecord(t *testing.T) {
	first := func(w *world, change func(v *policyforge.Version)) *policyforge.Signed {
		v := w.First(w.at(0), w.people, "alice", "bob")
		if change != nil {
			change(&v)
		}
		return w.Sign(v)
	}
	w := empty(t)
	w.logged(first(w, nil), 0.5)
	if r := w.wants(0, ""); len(r.Pending) != 1 || !warned(r, chain.CodeNone) {
		t.Errorf("a first record waits without a word: %v", r.Warnings)
	}
	w.set(func(c *chain.Config) { c.RequirePolicy = true })
	w.wants(0, chain.CodeRequired)
	w.look(25.5)
	w.wants(1, "")

	for why, c := range map[string]struct { // 75
		change func(v *policyforge.Version)
		logged float64
		code   string
	}{
		"at once":                  {func(v *policyforge.Version) { v.Effective = v.At }, 0.5, chain.CodeFirstTooSoon},
		"a second too soon":        {func(v *policyforge.Version) { v.Effective = v.At.Add(24*hour + 30*time.Minute - time.Second) }, 0.5, chain.CodeFirstTooSoon},
		"signed quietly, and late": {nil, 30, chain.CodeFirstTooSoon},
		"by one":                   {func(v *policyforge.Version) { v.Approvals = v.Approvals[:1] }, 0.5, chain.CodeNotApproved},
	} {
		t.Run(why, func(t *testing.T) {
			w := empty(t)
			w.logged(first(w, c.change), c.logged)
			w.wants(0, c.code)
			w.look(200) // nor later
			w.wants(0, c.code)
		})
	}
	t.Run("private store", func(t *testing.T) {
		w := empty(t)
		w.set(func(c *chain.Config) { c.FirstDelay = -1 })
		w.logged(first(w, func(v *policyforge.Version) { v.Effective = v.At }), 0.5)
		w.wants(1, "")
	})
	t.Run("taken over while it waits", func(t *testing.T) {
		w := empty(t)
		v1 := w.logged(first(w, nil), 0.5)
		v := w.Next(w.at(1), v1, w.Authority(policyforge.Role{Threshold: 1, People: []string{"mallory"}}), "mallory")
		v.Effective = w.at(40)
		w.logged(w.Sign(v), 2)
		w.wants(0, chain.CodeNotApproved)
	})
	t.Run("mended while it waits", func(t *testing.T) {
		w := empty(t)
		v1 := w.logged(first(w, nil), 0.5)
		v := w.Next(w.at(1), v1, w.people, "alice", "bob")
		v.Effective = w.at(20)
		w.logged(w.Sign(v), 2)
		w.wants(0, chain.CodeFirstTooSoon) // the wait begins anew
	})
	t.Run("head that covered it is gone", func(t *testing.T) {
		w := empty(t)
		w.logged(first(w, nil), 0.5)
		delete(w.Files, ledger.HeadPath(2))
		w.look(30) // the record looks as young as the present head, which is never too early
		w.wants(0, chain.CodeFirstTooSoon)
	})
	t.Run("head that covered it is of another log", func(t *testing.T) {
		w := empty(t)
		w.logged(first(w, nil), 0.5)
		f := w.Fork()
		f.Spoil([]byte("x"))
		w.Files[ledger.HeadPath(2)] = f.Head(w.at(0.1))
		w.look(30)
		w.wants(0, ledger.CodeForked)
	})
}

// recover is a recovery of the second version by cold keys.
func (w *world) recovery(at float64, people ...string) policyforge.Version {
	v := w.Next(w.at(at), w.v2, w.Authority(policyforge.Role{Threshold: 1, People: []string{"dave"}}), people...)
	inner := v.Change
	v.Change = func(p *record.Predicate) { inner(p); p.Action = record.Recover }
	v.Effective = v.At.Add(73 * hour)
	return v
}

func TestRecovery(t *testing.T) { // 73
	w := newWorld(t)
	w.logged(w.Sign(w.recovery(100, "cold-1", "cold-3")), 100.5)
	if r := w.wants(2, ""); len(r.Pending) != 1 {
		t.Errorf("a recovery waits without a word: %v", r.Pending)
	}
	w.look(172)
	w.wants(2, "")
	w.look(173.5)
	w.wants(3, "")

	for why, c := range map[string]struct {
		v    func(w *world) policyforge.Version
		at   float64
		code string
	}{
		"too soon": {func(w *world) policyforge.Version {
			v := w.recovery(100, "cold-1", "cold-2")
			v.Effective = w.at(150)
			return v
		}, 100.5, chain.CodeRecoverSoon},
		"at once": {func(w *world) policyforge.Version {
			v := w.recovery(100, "cold-1", "cold-2")
			v.Effective = v.At
			return v
		}, 100.5, chain.CodeRecoverSoon},
		"quietly": {func(w *world) policyforge.Version {
			v := w.recovery(100, "cold-1", "cold-2")
			v.Effective = w.at(180)
			return v
		}, 110, chain.CodeRecoverSoon},
		"by update keys":  {func(w *world) policyforge.Version { return w.recovery(100, "alice", "bob") }, 100.5, chain.CodeNotApproved},
		"by one":          {func(w *world) policyforge.Version { return w.recovery(100, "cold-1", "cold-1") }, 100.5, chain.CodeNotApproved},
		"by the new keys": {func(w *world) policyforge.Version { return w.recovery(100, "dave") }, 100.5, chain.CodeNotApproved},
		"names of cold keys, other keys": {func(w *world) policyforge.Version {
			v := w.recovery(100, "cold-1=mallory", "cold-2=eve")
			inner := v.Change
			v.Change = func(p *record.Predicate) {
				inner(p)
				p.Authority = w.Authority(policyforge.Role{Threshold: 1, People: []string{"dave"}}, w.WithRole("recover", policyforge.Role{Threshold: 2, People: []string{"cold-1=mallory", "cold-2=eve"}}))
			}
			return v
		}, 100.5, chain.CodeNotApproved},
		"with approvals of an update": {func(w *world) policyforge.Version {
			v := w.recovery(100, "cold-1", "cold-2")
			v.Approvals[0].Action = approval.ActionUpdate
			return v
		}, 100.5, chain.CodeNotApproved},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			w.logged(w.Sign(c.v(w)), c.at)
			w.look(200)
			w.wants(0, c.code)
		})
	}
	t.Run("superseded while it waits", func(t *testing.T) {
		w := newWorld(t)
		v3 := w.logged(w.Sign(w.recovery(100, "cold-1", "cold-2")), 100.5)
		v := w.Next(w.at(110), v3, w.people, "alice", "bob")
		v.InForce = w.v2
		w.logged(w.Sign(v), 110.5)
		w.wants(4, "")
		w.look(200)
		if r := w.wants(4, ""); r.Policy.Doc.Roles["update"].Threshold != 2 {
			t.Error("the people of the recovery are in force")
		}
	})
	t.Run("not superseded by a stranger", func(t *testing.T) {
		w := newWorld(t)
		v3 := w.logged(w.Sign(w.recovery(100, "cold-1", "cold-2")), 100.5)
		v := w.Next(w.at(110), v3, v3.Authority, "dave") // whom the recovery would make
		v.InForce = w.v2
		w.logged(w.Sign(v), 110.5)
		w.wants(0, chain.CodeNotApproved)
	})
}

func (w *world) operators() record.RawJSON {
	return w.Authority(policyforge.Role{Threshold: 1, People: []string{"op"}}, w.WithRole("recover", policyforge.Role{Threshold: 2, People: []string{"cold-op-1", "cold-op-2"}}))
}

func (w *world) reset(at float64, prev *policyforge.Signed, people ...string) policyforge.Version {
	v := w.Next(w.at(at), prev, w.Authority(policyforge.Role{Threshold: 1, People: []string{"dave"}}), "dave")
	for _, p := range people {
		v.Approvals = append(v.Approvals, policyforge.Approval{By: p, Action: approval.ActionRecover})
	}
	inner := v.Change
	v.Change = func(p *record.Predicate) { inner(p); p.Action, p.Root = record.Reset, "" }
	v.Effective = v.At.Add(14*24*hour + hour)
	return v
}

func TestReset(t *testing.T) { // 74
	operator := func(w *world) {
		doc, reasons := authority.Parse(w.operators())
		if doc == nil {
			t.Fatal(reasons)
		}
		w.set(func(c *chain.Config) { c.Operator = doc })
	}
	w := newWorld(t)
	operator(w)
	v3 := w.logged(w.Sign(w.reset(100, w.v2, "cold-op-1", "cold-op-2")), 100.5)
	w.look(100 + 14*24)
	w.wants(2, "")
	w.look(102 + 14*24)
	r := w.wants(3, "")
	if r.Policy.Resets != 1 || r.Policy.Root != v3.Digest || len(r.Policy.PreviousRoots) != 1 || r.Policy.PreviousRoots[0] != w.v1.Digest {
		t.Errorf("%+v", r.Policy)
	}
	v4 := w.Next(w.at(103+14*24), v3, v3.Authority, "dave")
	v4.Root = v3
	v4.Approvals[0].Change = func(s *approval.Statement) { s.Policy.Root = string(v3.Digest) }
	w.logged(w.Sign(v4), 104+14*24)
	if r := w.wants(4, ""); r.Policy.Resets != 1 || r.Policy.Root != v3.Digest {
		t.Errorf("%+v", r.Policy)
	}

	for why, c := range map[string]struct {
		v    func(w *world) policyforge.Version
		set  func(w *world)
		code string
	}{
		"nobody may":          {func(w *world) policyforge.Version { return w.reset(100, w.v2, "cold-op-1", "cold-op-2") }, func(*world) {}, chain.CodeNotApproved},
		"by one operator":     {func(w *world) policyforge.Version { return w.reset(100, w.v2, "cold-op-1") }, operator, chain.CodeNotApproved},
		"by their old people": {func(w *world) policyforge.Version { return w.reset(100, w.v2, "alice", "bob") }, operator, chain.CodeNotApproved},
		"without the new people": {func(w *world) policyforge.Version {
			v := w.reset(100, w.v2, "cold-op-1", "cold-op-2")
			v.Approvals = v.Approvals[1:]
			return v
		}, operator, chain.CodeNotApproved},
		"too soon": {func(w *world) policyforge.Version {
			v := w.reset(100, w.v2, "cold-op-1", "cold-op-2")
			v.Effective = w.at(100 + 13*24)
			return v
		}, operator, chain.CodeRecoverSoon},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			c.set(w)
			w.logged(w.Sign(c.v(w)), 100.5)
			w.look(600)
			w.wants(0, c.code)
		})
	}
	t.Run("leads out of a broken chain, in time", func(t *testing.T) {
		w := newWorld(t)
		operator(w)
		bad := w.logged(w.Sign(w.Next(w.at(99), w.v2, w.people, "alice")), 99.5)
		w.wants(0, chain.CodeNotApproved)
		v := w.reset(100, bad, "cold-op-1", "cold-op-2")
		v.InForce = w.v2
		w.logged(w.Sign(v), 100.5)
		w.wants(0, chain.CodeNotApproved) // until it is in effect nothing is believed
		w.look(102 + 14*24)
		w.wants(4, "")
	})
	t.Run("vetoed by the people", func(t *testing.T) {
		w := newWorld(t)
		operator(w)
		v3 := w.logged(w.Sign(w.reset(100, w.v2, "cold-op-1", "cold-op-2")), 100.5)
		v := w.Next(w.at(110), v3, w.people, "alice", "bob")
		v.InForce, v.Root = w.v2, w.v1
		w.logged(w.Sign(v), 110.5)
		w.look(102 + 14*24)
		if r := w.wants(4, ""); r.Policy.Resets != 0 || r.Policy.Root != w.v1.Digest {
			t.Errorf("%+v", r.Policy)
		}
	})
}

func TestTombstone(t *testing.T) {
	w := newWorld(t)
	v := w.Next(w.at(100), w.v2, w.people, "alice", "bob")
	v.Change = func(p *record.Predicate) { tombstone(w, p) }
	v.Effective = w.at(102)
	v3 := w.logged(w.Sign(v), 100.5)
	w.wants(2, "") // until then
	w.look(103)
	w.wants(0, "")
	w.set(func(c *chain.Config) { c.RequirePolicy = true })
	w.wants(0, chain.CodeRequired)
	// Who may set one again are the people that were.
	again := func(people ...string) *policyforge.Signed {
		n := w.Next(w.at(104), v3, w.people, people...)
		n.Change = func(p *record.Predicate) { p.Policy = w.v2.Policy }
		return w.Sign(n)
	}
	f := w.Operator
	w.Operator = f.Fork()
	w.logged(again("alice"), 104.5)
	w.wants(0, chain.CodeNotApproved)
	w.Operator = f
	w.logged(again("alice", "carol"), 104.5)
	w.wants(4, "")
}

func (w *world) owner(o *record.Owner) policyforge.Version {
	v := w.First(w.at(-100), w.Authority(policyforge.Role{Threshold: 2, People: []string{"ann", "otto"}}), "ann", "otto")
	inner := v.Change
	v.Change = func(p *record.Predicate) {
		inner(p)
		p.Key, p.Name, p.Policy, p.Owner = "github.com/owner/42", "github.com/org", nil, o
	}
	return v
}

func TestOwners(t *testing.T) {
	t.Run("54 require", func(t *testing.T) {
		w := empty(t)
		w.logged(w.Sign(w.owner(&record.Owner{Require: true})), -99.5)
		w.wants(0, "") // while the owner's record waits
		w.look(0)
		w.wants(0, chain.CodeRequired)
		w.logged(w.Sign(w.First(w.at(0), w.people, "alice", "bob")), 0.5)
		w.look(30)
		if r := w.wants(1, ""); r.Owner == nil || !r.Owner.Owner.Require {
			t.Errorf("%+v", r.Owner)
		}
		w.repo = chain.Repository{Key: "github.com/id/5", Name: "github.com/elsewhere/x", OwnerID: "43"}
		w.wants(0, "")
	})
	t.Run("75 reserve", func(t *testing.T) {
		w := empty(t)
		w.logged(w.Sign(w.owner(&record.Owner{Reserve: true})), -99.5)
		f := w.Operator
		for _, c := range []struct {
			people []string
			code   string
		}{{[]string{"alice", "bob"}, chain.CodeReserved}, {[]string{"alice", "bob", "ann"}, chain.CodeReserved}, {[]string{"ann", "otto"}, chain.CodeNotApproved},
			{[]string{"alice", "bob", "ann", "otto"}, ""}} {
			w.Operator = f.Fork()
			w.logged(w.Sign(w.First(w.at(0), w.people, c.people...)), 0.5)
			w.look(30)
			w.wants(1, c.code)
		}
		// Transferred to who reserves: they must agree, too.
		w.Operator = f.Fork()
		from := w.First(w.at(0), w.people, "alice", "bob")
		inner := from.Change
		from.Change = func(p *record.Predicate) { inner(p); p.Name, p.OwnerID = "github.com/evil/app", "666" }
		v1 := w.logged(w.Sign(from), 0.5)
		move := w.Next(w.at(40), v1, w.people, "alice", "bob")
		move.Change = func(p *record.Predicate) { p.Action, p.Name, p.OwnerID = record.Rebind, policyforge.Name, "42" }
		w.logged(w.Sign(move), 40.5)
		w.wants(0, chain.CodeReserved)
	})
	t.Run("by another owner's repository", func(t *testing.T) {
		w := empty(t)
		v := w.owner(&record.Owner{Require: true})
		v.Leaf = policyforge.Extension(17, "43")
		w.logged(w.Sign(v), -99.5)
		w.wants(0, chain.CodeOtherRepo)
	})
}

func (w *world) rejection(by string) []byte {
	p := w.v2.Predicate
	return w.Approve(p, policyforge.Version{At: w.at(98), Prev: w.v2}, policyforge.Approval{By: by, Change: func(s *approval.Statement) { s.Decision = approval.Reject }})
}

func TestNotices(t *testing.T) { // 46
	w := newWorld(t)
	first, second := w.rejection("alice"), w.rejection("bob")
	w.Notice(policyforge.Key, first)
	w.Notice(policyforge.Key, second)
	w.show()
	if r := w.wants(2, ""); len(r.Notices) != 2 || !bytes.Equal(r.Notices[0], first) || !bytes.Equal(r.Notices[1], second) {
		t.Errorf("%d notices", len(r.Notices))
	}
	whole := w.Operator
	for path := range whole.Files {
		if !strings.HasPrefix(path, "notice") {
			continue
		}
		listed := strings.HasPrefix(path, "notices/") && !bytes.Contains(whole.Files[path], []byte("\nsha256:"))
		if listed {
			continue // an earlier list, which nobody asks for
		}
		w.Operator = whole.Fork()
		delete(w.Files, path)
		w.wants(0, chain.CodeNoNotices)
		w.Operator = whole.Fork()
		w.Files[path] = whole.Files[path][:len(whole.Files[path])-1]
		w.wants(0, chain.CodeNoNotices)
	}
	// A map that hides one.
	w.Operator = whole.Fork()
	e := ledger.Entry{Key: w.v2.Key, Version: 2, Record: string(w.v2.Digest), Index: 2, Status: "active"}
	w.Map = func(lines []string) []string { return []string{e.Line() + "\n", lines[1]} }
	w.show()
	w.wants(0, ledger.CodeMapOld)
	// The same after a floor, which has the records.
	root := w.Root(4)
	w.set(func(c *chain.Config) { c.Floor = chain.Point{Size: 4, Root: root} })
	w.wants(0, ledger.CodeMapOld)
}

// TestFloor: what is before the floor is believed to be what it was; when it was logged the store
// says, and a lie makes records only younger.
func TestFloor(t *testing.T) {
	w := newWorld(t)
	w.floor(4)
	w.wants(2, "")
	for why, c := range map[string]struct {
		logged []byte
		code   string
	}{
		"later head":     {ledger.Logged(2, 4), ""},
		"another leaf":   {ledger.Logged(0, 2), ledger.CodeBadLog},
		"head before it": {ledger.Logged(2, 2), ledger.CodeBadLog},
		"head to come":   {ledger.Logged(2, 5), ledger.CodeBadLog},
		"map leaf":       {ledger.Logged(1, 4), ledger.CodeBadLog},
		"garbage":        {[]byte("2 4"), ledger.CodeBadLog},
		"missing":        {nil, ""}, // as young as the present head
	} {
		t.Run(why, func(t *testing.T) {
			v := *w
			v.t = t
			v.Operator = w.Fork()
			if v.Files[ledger.LoggedPath(string(v.v2.Digest))] = c.logged; c.logged == nil {
				delete(v.Files, ledger.LoggedPath(string(v.v2.Digest)))
			}
			v.wants(2, c.code)
		})
	}
}

func TestMemory(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "deep", "memory")
	remembered := func() {
		m, err := chain.OpenMemory(path, policyforge.Origin)
		if err != nil {
			t.Fatal(err)
		}
		w.settings = []func(*chain.Config){func(c *chain.Config) { c.Memory = m }}
	}
	remembered()
	first := w.Fork()
	w.wants(2, "")
	w.logged(w.Sign(w.Next(w.at(101), w.v2, w.people, "alice", "bob")), 101)
	remembered()
	w.wants(3, "")
	remembered()
	whole := w.Operator
	w.Operator = first
	w.look(101.5)
	w.wants(0, ledger.CodeRollback)
	w.logged(w.Sign(w.Next(w.at(102), w.v2, w.people, "alice", "carol")), 102) // another third version
	w.wants(0, ledger.CodeForked)
	w.Operator = whole
	w.look(103)
	w.wants(3, "")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := chain.OpenMemory(path, policyforge.Origin); err == nil {
			t.Fatalf("byte %d is free", i)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := chain.OpenMemory(path, "another"); err == nil {
		t.Error("another log's memory is taken")
	}
}

// outage is a store that does not answer for some files: nothing is concluded from that.
type outage struct {
	*policyforge.Operator
	prefix string
}

func (o outage) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	if strings.HasPrefix(path, o.prefix) {
		return nil, fault.Unreachablef("no answer")
	}
	return o.Operator.Get(ctx, path, limit)
}

func TestAnOutageIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	w.Notice(policyforge.Key, w.rejection("alice"))
	w.show()
	for _, prefix := range []string{"checkpoint", "head/", "tile/", "map/", "map/5/proof/", "record/", "evidence/", "notice/", "notices/"} {
		cfg := w.config()
		cfg.Source = outage{w.Operator, prefix}
		c, err := chain.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.PolicyFor(t.Context(), w.repo)
		if r != nil || err == nil || errors.As(err, new(*ledger.Refusal)) || fault.KindOf(err) != fault.Unreachable {
			t.Errorf("%s: %v, %v", prefix, r, err)
		}
	}
}

// TestEveryFileCounts: with one file gone, or one byte of one changed, nothing is believed that the
// whole store would not say.
func TestEveryFileCounts(t *testing.T) {
	w := newWorld(t)
	w.Notice(policyforge.Key, w.rejection("alice"))
	w.show()
	w.Cosign = nil
	w.wants(2, "")
	whole := w.Operator
	used := &reads{Operator: whole}
	cfg := w.config()
	cfg.Source = used
	c, err := chain.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PolicyFor(t.Context(), w.repo); err != nil {
		t.Fatal(err)
	}
	if len(used.paths) < 15 {
		t.Fatalf("only %v were read", used.paths)
	}
	flips, free := 0, map[string]int{}
	for path := range used.paths {
		data := whole.Files[path]
		if !strings.HasPrefix(path, "head/") { // one that is missing makes records younger
			w.Operator = whole.Fork()
			delete(w.Files, path)
			if _, err := w.ask(); !errors.As(err, new(*ledger.Refusal)) {
				t.Errorf("without %s: %v", path, err)
			}
		}
		step := 1 + len(data)/40 // each byte of small files, some of large ones
		for i := 0; i < len(data); i += step {
			w.Operator = whole.Fork()
			bad := bytes.Clone(data)
			bad[i] ^= 1
			w.Files[path] = bad
			flips++
			_, err := w.ask()
			if err == nil {
				free[path]++
				t.Errorf("byte %d of %s is free: %q", i, path, data[max(0, i-30):min(len(data), i+30)])
			} else if !errors.As(err, new(*ledger.Refusal)) {
				t.Errorf("byte %d of %s: %v", i, path, err)
			}
		}
	}
	t.Logf("%d bytes changed in %d files", flips, len(used.paths))
}

// reads notes which files were read.
type reads struct {
	*policyforge.Operator
	paths map[string]bool
}

func (r *reads) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	data, err := r.Operator.Get(ctx, path, limit)
	if !errors.Is(err, fs.ErrNotExist) {
		readsLock <- struct{}{}
		if r.paths == nil {
			r.paths = map[string]bool{}
		}
		r.paths[path] = true
		<-readsLock
	}
	return data, err
}

var readsLock = make(chan struct{}, 1)

var _ translog.Source = (*reads)(nil)

func TestRecordsThatAreNotThere(t *testing.T) { // 65
	path := func(s *policyforge.Signed) string { return ledger.FilePath("record", string(s.Digest)) }
	for why, c := range map[string]struct {
		do   func(w *world)
		code string
	}{
		"newest missing":      {func(w *world) { delete(w.Files, path(w.v2)) }, chain.CodeDigest},
		"first missing":       {func(w *world) { delete(w.Files, path(w.v1)) }, chain.CodeBroken},
		"newest is the first": {func(w *world) { w.Files[path(w.v2)] = w.Files[path(w.v1)] }, chain.CodeDigest},
		"first is the newest": {func(w *world) { w.Files[path(w.v1)] = w.Files[path(w.v2)] }, chain.CodeBroken},
		"newest is garbage":   {func(w *world) { w.Files[path(w.v2)] = []byte("{}") }, chain.CodeDigest},
		"approval missing": {func(w *world) {
			delete(w.Files, ledger.FilePath("evidence", string(w.v2.Record.Evidence[0])))
		}, chain.CodeNotApproved},
		"approval of another": {func(w *world) {
			w.Files[ledger.FilePath("evidence", string(w.v2.Record.Evidence[0]))] = w.v2.Evidence[1]
		}, chain.CodeNotApproved},
		"of another repository": {func(w *world) {
			v := w.First(w.at(0), w.people, "alice", "bob")
			inner := v.Change
			v.Change = func(p *record.Predicate) { inner(p); p.Key, p.Name = "github.com/id/777", "github.com/org/other" }
			other := w.Sign(v)
			w.Append(other)
			w.Map = func(lines []string) []string {
				return []string{ledger.Entry{Key: w.v2.Key, Version: 2, Record: string(other.Digest), Index: 2, Status: "active"}.Line() + "\n", lines[2]}
			}
			w.show()
		}, ledger.CodeMapOld},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			c.do(w)
			w.wants(2, c.code)
		})
	}
}

// TestManyVersions walks a longer chain, with and without the tail.
func TestManyVersions(t *testing.T) {
	w := newWorld(t)
	last := w.v2
	for v := int64(3); v <= 20; v++ {
		last = w.logged(w.Sign(w.Next(w.at(100+float64(v)), last, w.people, "alice", "bob")), 100.5+float64(v))
	}
	w.wants(20, "")
	if last.Root != w.v1.Digest {
		t.Error("the root changed")
	}
	w.floor(w.Size()) // without the tail's help
	w.wants(20, "")
}

// TestNext: what the next record follows, and who decides about it.
func TestNext(t *testing.T) {
	t.Parallel()
	next := func(w *world, repo chain.Repository) (newest, decides int64) {
		t.Helper()
		c, err := chain.New(w.config())
		if err != nil {
			t.Fatal(err)
		}
		n, d, err := c.Next(t.Context(), repo)
		if err != nil {
			t.Fatal(err)
		}
		if n == nil || d == nil {
			if n != d {
				t.Fatalf("%v, %v", n, d)
			}
			return 0, 0
		}
		return n.Version, d.Version
	}
	want := func(what string, w *world, newest, decides int64) {
		t.Helper()
		w.show()
		if n, d := next(w, w.repo); n != newest || d != decides {
			t.Errorf("%s: version %d, decided by %d; want %d by %d", what, n, d, newest, decides)
		}
	}
	w := newWorld(t)
	want("in force", w, 2, 2)
	other := w.repo
	other.Name, other.OwnerID = "github.com/new/name", "43" // a rebind asks
	if n, _ := next(w, other); n != 2 {
		t.Errorf("under another name: version %d", n)
	}
	nobody := w.repo
	nobody.Key, nobody.Name = "github.com/id/9", "github.com/org/nothing"
	if n, _ := next(w, nobody); n != 0 {
		t.Errorf("of nobody: version %d", n)
	}
	recovery := w.Next(w.now.Add(-hour/4), w.v2, w.people, "cold-1", "cold-2")
	recovery.Effective = w.now.Add(80 * hour)
	recovery.Change = func(p *record.Predicate) { p.Action = record.Recover }
	waits := w.Sign(recovery)
	w.Append(waits)
	want("a recovery waits", w, 3, 2)

	w = newWorld(t)
	gone := w.Next(w.now.Add(-3*hour), w.v2, w.people, "alice", "bob")
	gone.Effective = w.now.Add(3 * hour)
	gone.Change = func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
	w.Append(w.Sign(gone))
	w.show()
	w.now = w.now.Add(4 * hour)
	want("a tombstone", w, 3, 3)

	w = empty(t)
	w.Append(w.Sign(w.First(w.now.Add(-hour), w.people, "alice", "bob")))
	want("a first one waits", w, 1, 1)
}
