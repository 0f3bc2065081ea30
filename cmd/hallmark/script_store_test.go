package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// policyStores are the stores of scripts, by $WORK.
var policyStores sync.Map

// scriptedStore is a policy store whose records are as old as a policy in force must be. Its
// updater, people and operator are those of package policyforge; what reads it is the real thing.
type scriptedStore struct {
	*policyforge.World
	*policyforge.Operator
	dir              string
	key, name, owner string
	people           []string
	last             *policyforge.Signed
}

// scriptPolicyStore is the verb
//
//	policystore new DIR POLICY KEY NAME OWNER PERSON...  a store with the policy of a folder, agreed by people
//	                                                     whose private keys have their names; DIR.json to ask it
//	policystore next POLICY                              its next version, in force
//	policystore tombstone                                the policy is given up
//	policystore stale                                    its head is of yesterday
//	policystore record FILE POLICY                       a first record of now in FILE, FILE.tar and FILE.N
func scriptPolicyStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: policystore new|next|tombstone|stale|record")
	}
	now := time.Now().UTC().Truncate(time.Second)
	if args[0] == "new" {
		newScriptedStore(ts, now, args[1:])
		return
	}
	found, ok := policyStores.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("policystore: there is none")
	}
	s := found.(*scriptedStore)
	switch args[0] {
	case "next":
		s.log(ts, s.version(ts, now.Add(-2*time.Hour), args[1], s.last))
	case "tombstone":
		v := s.Next(now.Add(-90*time.Minute), s.last, s.last.Authority, s.people...)
		v.Effective = now.Add(-20 * time.Minute)
		v.Change = func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
		s.log(ts, s.Sign(v))
	case "stale":
		s.Show(now.Add(-25 * time.Hour))
	case "record":
		r := s.version(ts, now, args[2], nil)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), r.File, 0o644))
		ts.Check(os.WriteFile(ts.MkAbs(args[1]+".tar"), r.Text, 0o644))
		for i, e := range r.Evidence {
			ts.Check(os.WriteFile(ts.MkAbs(fmt.Sprintf("%s.%d", args[1], i)), e, 0o644))
		}
		return
	default:
		ts.Fatalf("policystore: there is no %s", args[0])
	}
	s.write(ts)
}

func newScriptedStore(ts *testscript.TestScript, now time.Time, args []string) {
	if len(args) < 6 {
		ts.Fatalf("usage: policystore new DIR POLICY KEY NAME OWNER PERSON...")
	}
	s := &scriptedStore{World: policyforge.New(now.Add(-200 * time.Hour)), Operator: policyforge.NewOperator(), dir: args[0], key: args[2], name: args[3], owner: args[4], people: args[5:]}
	for _, name := range s.people {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		key, err := ssh.ParsePrivateKey(data)
		ts.Check(err)
		s.Take(name, key)
	}
	s.log(ts, s.version(ts, now.Add(-100*time.Hour), args[1], nil))
	s.write(ts)
	policyStores.Store(ts.Getenv("WORK"), s)
	ts.Defer(func() { policyStores.Delete(ts.Getenv("WORK")) })
	config, err := json.Marshal(map[string]any{"version": 1, "store": filepath.Base(s.dir), "trust": s.dir + ".trust", "trustedRoot": s.dir + ".root",
		"updaters": []map[string]string{{"identity": policyforge.Updater, "issuer": policyforge.Issuer}}, "memory": s.dir + ".memory"})
	ts.Check(err)
	for name, data := range map[string][]byte{".json": config, ".trust": []byte(s.Trust()), ".root": s.Sigstore.TrustedRoot(nil)} {
		ts.Check(os.WriteFile(ts.MkAbs(s.dir+name), data, 0o644))
	}
}

// version is a record with the policy of a folder: a first one, or the one after prev.
func (s *scriptedStore) version(ts *testscript.TestScript, at time.Time, folder string, prev *policyforge.Signed) *policyforge.Signed {
	people, err := os.ReadFile(ts.MkAbs(filepath.Join(folder, "authority.json")))
	ts.Check(err)
	files, why, err := rules.ReadFolder(ts.MkAbs(folder))
	ts.Check(err)
	compiled, more := rules.Load(files, rules.Options{Obligations: rules.ObligationTypes()})
	if why = append(why, more...); len(why) > 0 {
		ts.Fatalf("policystore: %s: %v", folder, why)
	}
	bundle := compiled.Bundle()
	v := s.First(at, record.RawJSON(strings.TrimSpace(string(people))), s.people...)
	if prev != nil {
		v = s.Next(at, prev, record.RawJSON(strings.TrimSpace(string(people))), s.people...)
	}
	authority := v.Change
	v.Change = func(p *record.Predicate) {
		authority(p)
		p.Key, p.Name, p.OwnerID = s.key, s.name, s.owner
		p.Policy.Bundle, p.Policy.Size = evidence.SHA256(bundle), int64(len(bundle))
	}
	out := s.Sign(v)
	out.Text = bundle
	return out
}

// log shows a record in a head of when it was made.
func (s *scriptedStore) log(ts *testscript.TestScript, r *policyforge.Signed) {
	s.last = r
	s.Append(r)
	s.Publish(r.CreatedAt.Add(time.Minute))
	s.Show(time.Now().Add(-time.Second))
}

// write makes the store's folder what it shows.
func (s *scriptedStore) write(ts *testscript.TestScript) {
	dir := ts.MkAbs(s.dir)
	ts.Check(os.RemoveAll(dir))
	for name, data := range s.Files {
		ts.Check(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		ts.Check(os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
}
