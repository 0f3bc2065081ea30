package proposal_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/proposal"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const hour = time.Hour

type world struct {
	*policyforge.World
	bundle []byte
	people record.RawJSON
	v1, v2 *policyforge.Signed
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	text := "package hallmark.signing\n\nimport data.hallmark.lib\n\ndefault allow := false\n\nallow if lib.quorum({\"alice\"}, 1)\n"
	if err := os.WriteFile(filepath.Join(dir, rules.RulesFile), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &world{World: policyforge.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))}
	w.people = w.Authority(policyforge.Role{Threshold: 2, People: []string{"alice", "bob", "carol"}}, w.WithRole("recover", policyforge.Role{Threshold: 1, People: []string{"cold"}, Delay: "72h"}))
	if err := os.WriteFile(filepath.Join(dir, judge.AuthorityFile), w.people, 0o644); err != nil {
		t.Fatal(err)
	}
	folder, why, err := judge.ReadFolder(dir, rules.Options{})
	if folder == nil {
		t.Fatal(why, err)
	}
	w.bundle = folder.Rules.Bundle()
	w.v1 = w.Sign(w.First(w.Start, w.people, "alice", "bob"))
	w.v2 = w.Sign(w.Next(w.Start.Add(40*hour), w.v1, w.people, "bob", "carol"))
	return w
}

// predicate is a change of the policy, of everything but its place in the chain.
func (w *world) predicate(action record.Action) record.Predicate {
	p := record.Predicate{Key: policyforge.Key, Name: policyforge.Name, OwnerID: policyforge.OwnerID, Action: action, Authority: w.people,
		Source: record.Source{Commit: policyforge.Commit, Ref: policyforge.Branch}}
	if action != record.Tombstone {
		p.Policy = &record.Policy{Bundle: evidence.SHA256(w.bundle), Size: int64(len(w.bundle)), Entrypoint: record.Entrypoint, InputSchema: "v1", Lib: "v1", Mode: record.Enforce}
	}
	return p
}

func (w *world) propose(t testing.TB, action record.Action, previous, inForce *record.Record) *proposal.Proposal {
	t.Helper()
	var bundle []byte
	if action != record.Tombstone {
		bundle = w.bundle
	}
	p, why := proposal.New(w.predicate(action), bundle, previous, inForce)
	if p == nil {
		t.Fatal(why)
	}
	return p
}

func file(t testing.TB, p *proposal.Proposal) []byte {
	t.Helper()
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestBecomesTheRecord: a proposal goes through its file, and with approvals of it becomes a record that
// a chain takes in.
func TestBecomesTheRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := w.Start.Add(100 * hour)
	for name, c := range map[string]struct {
		action            record.Action
		previous, inForce *record.Record
		by                []string // who approves
		missing           string   // needs that are not reached without the last of them
		wait              time.Duration
	}{
		"first":               {record.Set, nil, nil, []string{"alice", "bob"}, "the new policy", 24 * hour},
		"next":                {record.Set, w.v2.Record, nil, []string{"alice", "carol"}, "the policy in force, the new policy", 0},
		"tombstone":           {record.Tombstone, w.v2.Record, nil, []string{"alice", "carol"}, "the policy in force, the new policy", hour},
		"recover":             {record.Recover, w.v2.Record, nil, []string{"cold"}, "the policy in force", 72 * hour},
		"while another waits": {record.Set, w.v2.Record, w.v1.Record, []string{"alice", "carol"}, "the policy in force, the new policy", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := w.propose(t, c.action, c.previous, c.inForce)
			p, why := proposal.Parse(file(t, made))
			if p == nil {
				t.Fatal(why)
			}
			if p.ProposalDigest != made.ProposalDigest || !bytes.Equal(file(t, p), file(t, made)) {
				t.Error("the file is another one when it is written again")
			}
			if wait, why := p.Delay(now); wait != c.wait || (why == "") != (wait == 0) {
				t.Errorf("waits %s: %s", wait, why)
			}
			var found []approval.Found
			for i, who := range c.by {
				if i == len(c.by)-1 {
					var missing []string
					for _, n := range p.Judge(found, nil, now).Needs {
						if !n.Reached {
							missing = append(missing, n.Whose)
						}
					}
					if got := strings.Join(missing, ", "); got != c.missing {
						t.Errorf("missing before the last: %q", got)
					}
				}
				found = append(found, approval.Found{Where: who, Data: w.approve(t, p, who, now, func(*approval.Statement) {})})
			}
			s := p.Judge(found, nil, now)
			if !s.Reached() || len(s.Valid) != len(c.by) || len(s.Rejected) != 0 {
				t.Fatalf("%+v", s)
			}
			payload, why := p.Statement(now, now.Add(c.wait+hour), s.Valid)
			if payload == nil {
				t.Fatal(why)
			}
			w.taken(t, p, payload, found, now)
			for what, change := range map[string]func(*approval.Statement){
				"action": func(s *approval.Statement) { s.Action = approval.ActionTombstone },
				"policy": func(s *approval.Statement) {
					s.Policy = approval.Policy{Root: s.Proposal, Version: 9, Digest: s.Proposal}
				},
				"proposal":   func(s *approval.Statement) { s.Proposal = string(evidence.SHA256(nil)) },
				"repository": func(s *approval.Statement) { s.Repository.Key = "github.com/id/1" },
				"principal":  func(s *approval.Statement) { s.Principal = "mallory" },
			} {
				if what == "action" && c.action == record.Tombstone {
					continue
				}
				s := p.Judge([]approval.Found{{Where: "x", Data: w.approve(t, p, c.by[0], now, change)}}, nil, now)
				if len(s.Valid) != 0 || len(s.Rejected) != 1 {
					t.Errorf("another %s: %+v", what, s)
				}
			}
		})
	}
}

// taken makes sure that the chain of v1 and v2 takes the record in.
func (w *world) taken(t *testing.T, p *proposal.Proposal, payload []byte, found []approval.Found, now time.Time) {
	t.Helper()
	bundle, err := record.Normalize(w.Bundle(payload, p.Predicate, policyforge.Version{At: now}))
	if err != nil {
		t.Fatal(err)
	}
	r, why := record.Open(bundle)
	if r == nil {
		t.Fatal(why)
	}
	if r.ProposalDigest != p.ProposalDigest {
		t.Errorf("the record is of the proposal %s", r.ProposalDigest)
	}
	if p.InForce != nil && p.InForce.Digest == w.v1.Digest {
		return // v2 is in effect in this chain
	}
	cfg := w.Rules(func() time.Time { return now })
	rules, err := chain.PrepareRules(cfg)
	if err != nil {
		t.Fatal(err)
	}
	walk := chain.NewWalk(rules, nil)
	if p.Previous != nil {
		for _, s := range []*policyforge.Signed{w.v1, w.v2} {
			l := chain.Logged{Record: s.Record, At: s.CreatedAt}
			for _, e := range s.Evidence {
				l.Evidence = append(l.Evidence, approval.Found{Where: "store", Data: e})
			}
			if err := walk.Add(l); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := walk.Add(chain.Logged{Record: r, Evidence: found, At: now}); err != nil {
		t.Error(err)
	}
}

func (w *world) approve(t testing.TB, p *proposal.Proposal, who string, now time.Time, change func(*approval.Statement)) []byte {
	t.Helper()
	s := p.Approval(approval.Approve, who, "read")
	s.IssuedAt, s.ExpiresAt = now.Add(-time.Minute), now.Add(p.MaxAge()-time.Minute)
	change(&s)
	payload, err := approval.Build(s)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := approval.SignSSH(payload, w.Person(who))
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// TestParseRefuses: what is near a proposal and none.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := file(t, w.propose(t, record.Set, w.v2.Record, w.v1.Record))
	members := func(change func(m, predicate map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(m, m["predicate"].(map[string]any))
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if p, why := proposal.Parse(members(func(_, _ map[string]any) {})); p == nil {
		t.Fatal(why)
	}
	for name, bad := range map[string][]byte{
		"empty":          nil,
		"trailing":       append(bytes.Clone(good), 'x'),
		"twice":          bytes.Replace(good, []byte(`"type"`), []byte(`"bundle": "", "type"`), 1),
		"too large":      append(bytes.Clone(good), bytes.Repeat([]byte(" "), proposal.MaxFile)...),
		"unknown":        members(func(m, _ map[string]any) { m["changes"] = []any{} }),
		"another type":   members(func(m, _ map[string]any) { m["type"] = proposal.Type + "0" }),
		"digest":         members(func(m, _ map[string]any) { m["proposalDigest"] = string(evidence.SHA256(nil)) }),
		"no digest":      members(func(m, _ map[string]any) { delete(m, "proposalDigest") }),
		"changed":        members(func(_, p map[string]any) { p["ownerID"] = "43" }),
		"a record's":     members(func(_, p map[string]any) { p["createdAt"] = "2026-11-01T12:00:00Z" }),
		"evidence":       members(func(_, p map[string]any) { p["evidence"] = nil }),
		"more":           members(func(_, p map[string]any) { p["more"] = 1 }),
		"no bundle":      members(func(m, _ map[string]any) { delete(m, "bundle") }),
		"other bundle":   members(func(m, _ map[string]any) { m["bundle"] = w.v1.Payload }),
		"no previous":    members(func(m, _ map[string]any) { delete(m, "previous") }),
		"other previous": members(func(m, _ map[string]any) { m["previous"] = w.v1.Payload }),
		"no record":      members(func(m, _ map[string]any) { m["previous"] = []byte("{}") }),
		"later in force": members(func(m, _ map[string]any) {
			m["inForce"] = w.Sign(w.Next(w.Start.Add(50*hour), w.v2, w.people, "alice", "bob")).Payload
		}),
		"not its chain": members(func(m, _ map[string]any) {
			m["inForce"] = w.Sign(w.First(w.Start.Add(hour), w.people, "alice", "bob")).Payload
		}),
	} {
		if p, why := proposal.Parse(bad); p != nil || len(why) == 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	// Of these New makes no file.
	without := w.predicate(record.Set)
	without.Policy = nil
	for name, f := range map[string]func() (*proposal.Proposal, any){
		"a reset": func() (*proposal.Proposal, any) {
			p, why := proposal.New(w.predicate(record.Reset), w.bundle, w.v2.Record, nil)
			return p, why
		},
		"a first tombstone": func() (*proposal.Proposal, any) {
			p, why := proposal.New(w.predicate(record.Tombstone), nil, nil, nil)
			return p, why
		},
		"no rules": func() (*proposal.Proposal, any) {
			p, why := proposal.New(without, nil, w.v2.Record, nil)
			return p, why
		},
		"rules of a tombstone": func() (*proposal.Proposal, any) {
			p, why := proposal.New(w.predicate(record.Tombstone), w.bundle, w.v2.Record, nil)
			return p, why
		},
	} {
		if p, why := f(); p != nil {
			t.Errorf("%s: accepted: %v", name, why)
		}
	}
}

// FuzzParse: what is read is written again and read as the same.
func FuzzParse(f *testing.F) {
	w := newWorld(f)
	f.Add(file(f, w.propose(f, record.Set, nil, nil)))
	f.Add(file(f, w.propose(f, record.Set, w.v2.Record, w.v1.Record)))
	f.Add(file(f, w.propose(f, record.Tombstone, w.v2.Record, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _ := proposal.Parse(data)
		if p == nil {
			return
		}
		out := file(t, p)
		again, why := proposal.Parse(out)
		if again == nil || again.ProposalDigest != p.ProposalDigest || !bytes.Equal(file(t, again), out) {
			t.Errorf("%v: %s", why, out)
		}
	})
}
