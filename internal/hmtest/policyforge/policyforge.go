// Package policyforge has the people, the updater and the operator of a policy store in tests: all
// signatures are real, each party can be told to misbehave, and all of them live at the times that a
// test names.
package policyforge

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509/pkix"
	"fmt"
	"sort"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// The repository that tests are about.
const (
	Key     = "github.com/id/123456"
	Name    = "github.com/org/app"
	OwnerID = "42"
	Commit  = "56ae342c12a9bb032e762c6fc648270f8027db40"
	Branch  = "refs/heads/main"
	Updater = "https://github.com/hallmark-dev/hallmark/.github/workflows/signing-policy.yml@refs/tags/v1"
	Issuer  = "https://token.actions.githubusercontent.com"
)

// Text is the policy bundle of records that name no other.
const Text = "package hallmark.signing\n"

// World has everybody's keys.
type World struct {
	Sigstore *forge.World
	Start    time.Time
	people   map[string]ssh.Signer
}

// New is a world that begins at a time.
func New(start time.Time) *World {
	return &World{Sigstore: forge.New(forge.Options{Now: start}), Start: start.UTC(), people: map[string]ssh.Signer{}}
}

// Person is the SSH key of whoever has the name; it is made when it is first asked for.
func (w *World) Person(name string) ssh.Signer {
	if w.people[name] == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		w.people[name] = forge.Must(ssh.NewSignerFromKey(forge.Must(key, err)))
	}
	return w.people[name]
}

// Take gives a name a key that is there already.
func (w *World) Take(name string, key ssh.Signer) { w.people[name] = key }

// Role is a role of an authority document.
type Role struct {
	Threshold int
	People    []string
	Delay     string
	Evidence  string // "signed" by default
}

// Authority is a document in which each person has the key of their name, or that of another one
// ("alice=mallory"), for all uses of people; names that begin with "hsm" are machines that sign
// tags, and those that begin with "cold" may only recover.
func (w *World) Authority(update Role, more ...func(principals, roles map[string]any)) record.RawJSON {
	roles := map[string]any{}
	principals := map[string]any{}
	w.role(principals, roles, "update", update)
	doc := map[string]any{"principals": principals, "roles": roles, "weakeningDelay": "1h"}
	for _, m := range more {
		m(principals, roles)
	}
	return record.RawJSON(forge.JCS(doc))
}

// WithRole adds a role.
func (w *World) WithRole(name string, r Role) func(principals, roles map[string]any) {
	return func(principals, roles map[string]any) { w.role(principals, roles, name, r) }
}

func (w *World) role(principals, roles map[string]any, name string, r Role) {
	var names []string
	for _, p := range r.People {
		as, key, other := strings.Cut(p, "=")
		if !other {
			key = as
		}
		names = append(names, as)
		uses, machine := []string{"approve", "update"}, false
		switch {
		case strings.HasPrefix(as, "hsm"):
			uses, machine = []string{"tag"}, true
		case strings.HasPrefix(as, "cold"):
			uses = []string{"recover"}
		}
		text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.Person(key).PublicKey())))
		principals[as] = map[string]any{"machine": machine, "keys": []any{map[string]any{"kind": "ssh", "publicKey": text, "protection": "software", "uses": uses}}}
	}
	sort.Strings(names)
	role := map[string]any{"principals": names}
	if r.Threshold != 0 {
		role["threshold"] = r.Threshold
		if r.Evidence == "" {
			r.Evidence = "signed"
		}
		role["evidence"] = []string{r.Evidence}
	}
	if r.Delay != "" {
		role["delay"] = r.Delay
	}
	roles[name] = role
}

// Approval is one person's approval of a proposed record.
type Approval struct {
	By     string // name, or "alice=mallory": as alice, with mallory's key
	Action string // default: that of the record's action
	Change func(*approval.Statement)
}

// Signed is a record as the updater signed it, with the envelopes of its approvals.
type Signed struct {
	*record.Record
	Evidence [][]byte
	Text     []byte // the policy bundle, nil without one
}

// Version says how a record is made.
type Version struct {
	At        time.Time // when the updater signed it
	Effective time.Time
	Prev      *Signed // nil: a first one
	Root      *Signed // default: that of Prev, as far as that is known
	InForce   *Signed // what the approvers saw in force; default Prev
	Approvals []Approval
	Change    func(*record.Predicate)
	Leaf      func(*forge.LeafOptions) // of the updater's certificate
	Spoil     func(payload []byte) []byte
}

// First is the first record of the repository, approved by people, in effect a day and an hour later.
func (w *World) First(at time.Time, authority record.RawJSON, people ...string) Version {
	v := Version{At: at, Effective: at.Add(25 * time.Hour), Change: func(p *record.Predicate) { p.Authority = authority }}
	for _, p := range people {
		v.Approvals = append(v.Approvals, Approval{By: p})
	}
	return v
}

// Next is the record after another one, in effect at once.
func (w *World) Next(at time.Time, prev *Signed, authority record.RawJSON, people ...string) Version {
	v := w.First(at, authority, people...)
	v.Prev, v.Effective = prev, at
	return v
}

// Sign makes a record.
func (w *World) Sign(v Version) *Signed {
	s, err := w.TrySign(v)
	return forge.Must(s, err)
}

// TrySign makes a record, or says why nobody can write it.
func (w *World) TrySign(v Version) (*Signed, error) {
	text := []byte(Text)
	p := record.Predicate{Key: Key, Name: Name, OwnerID: OwnerID, Version: 1, Action: record.Set, CreatedAt: v.At, EffectiveAt: v.Effective,
		Policy: &record.Policy{Bundle: evidence.SHA256(text), Size: int64(len(text)), Entrypoint: record.Entrypoint, InputSchema: "v1", Lib: "v1", Mode: record.Enforce},
		Source: record.Source{Commit: Commit, Ref: Branch}}
	if prev := v.Prev; prev != nil {
		p.Key, p.Name, p.OwnerID = prev.Key, prev.Name, prev.OwnerID
		p.Version, p.Prev, p.Root = prev.Version+1, prev.Digest, rootOf(prev)
		p.Authority = prev.Authority
	}
	if v.Root != nil {
		p.Root = v.Root.Digest
	}
	if v.Change != nil {
		v.Change(&p)
	}
	if _, err := p.Propose(); err != nil {
		return nil, err
	}
	s := &Signed{}
	for _, a := range v.Approvals {
		envelope := w.Approve(p, v, a)
		s.Evidence = append(s.Evidence, envelope)
		e, why := approval.Parse(envelope)
		if why != nil {
			return nil, fmt.Errorf("%s", why)
		}
		p.Evidence = append(p.Evidence, evidence.Digest(e.ID))
	}
	if len(p.Evidence) == 0 { // a record names at least one
		p.Evidence = []evidence.Digest{evidence.SHA256(nil)}
	}
	payload, reasons := p.Statement()
	if payload == nil {
		return nil, fmt.Errorf("%s", reasons[0])
	}
	if v.Spoil != nil {
		payload = v.Spoil(payload)
	}
	if p.Policy != nil && p.Policy.Bundle == evidence.SHA256(text) {
		s.Text = text
	}
	file, err := record.Normalize(w.Bundle(payload, p, v))
	if err != nil {
		return nil, err
	}
	if s.Record, reasons = record.Open(file); s.Record == nil {
		return nil, fmt.Errorf("%s", reasons[0])
	}
	return s, nil
}

func rootOf(s *Signed) evidence.Digest {
	if s.Root == "" {
		return s.Digest
	}
	return s.Root
}

// Approve is a person's envelope about a proposed record.
func (w *World) Approve(p record.Predicate, v Version, a Approval) []byte {
	as, key, other := strings.Cut(a.By, "=")
	if !other {
		key = as
	}
	st := approval.Statement{Action: approval.ActionUpdate, Decision: approval.Approve, Principal: as, Proposal: string(p.ProposalDigest),
		Repository: approval.Repository{Key: p.Key, OwnerID: p.OwnerID, URI: "https://" + p.Name}, IssuedAt: v.At, ExpiresAt: v.At.Add(160 * time.Hour)}
	switch p.Action {
	case record.Tombstone:
		st.Action = approval.ActionTombstone
	case record.Recover:
		st.Action = approval.ActionRecover
	}
	if a.Action != "" {
		st.Action = a.Action
	}
	in := v.InForce
	if in == nil {
		in = v.Prev
	}
	if in != nil {
		st.Policy = approval.Policy{Root: string(rootOf(in)), Version: in.Version, Digest: string(in.Digest)}
	}
	if a.Change != nil {
		a.Change(&st)
	}
	return forge.Must(approval.SignSSH(forge.Must(approval.Build(st)), w.Person(key)))
}

// Bundle signs a payload as the updater's workflow, running for the record's repository.
func (w *World) Bundle(payload []byte, p record.Predicate, v Version) []byte {
	host, _, _ := strings.Cut(p.Key, "/")
	id := p.Key[strings.LastIndex(p.Key, "/")+1:]
	uri := "https://" + p.Name
	owner := "https://" + host + "/" + strings.Split(p.Name, "/")[1]
	if strings.Contains(p.Key, "/owner/") {
		id, uri = "999", uri+"/.github"
	}
	l := forge.LeafOptions{URI: Updater, IssuerV1: Issuer, IssuerV2: Issuer, NotBefore: v.At}
	for i, text := range []string{9: Updater, 10: Commit, 11: "github-hosted", 12: uri, 13: p.Source.Commit, 14: p.Source.Ref, 15: id,
		16: owner, 17: p.OwnerID, 18: Updater, 19: Commit, 20: "workflow_dispatch", 21: uri + "/actions/runs/1/attempts/1", 22: "public"} {
		if text != "" {
			l.Extra = append(l.Extra, pkix.Extension{Id: forge.FulcioOID(i), Value: forge.UTF8(text)})
		}
	}
	if v.Leaf != nil {
		v.Leaf(&l)
	}
	return forge.Bundle(w.Sigstore.Claim(forge.ClaimOptions{Payload: payload, Leaf: &l, Logs: []string{"v2"}, Token: true, TokenAt: v.At.Add(time.Second)}), "0.3")
}

// Extension sets an extension of the updater's certificate.
func Extension(arc int, text string) func(*forge.LeafOptions) {
	return func(l *forge.LeafOptions) {
		for i, e := range l.Extra {
			if e.Id.Equal(forge.FulcioOID(arc)) {
				l.Extra[i].Value = forge.UTF8(text)
			}
		}
	}
}

// Rules believe the world's Sigstore and its updater.
func (w *World) Rules(now func() time.Time) chain.Rules {
	return chain.Rules{Updaters: []policy.Identity{{Subject: Updater, Issuer: Issuer}},
		Verifier: forge.Must(verify.New(verify.Config{Roots: []*trust.Root{w.Sigstore.Root}, Now: now}))}
}
