// Package proposal is about a change of a signing policy before it is a record: what it changes of
// the policy in force, who must approve it, and the file in which it goes from one to the other.
//
// The file is not trusted. What people approve is the digest of what it proposes, which binds the
// record before it; whom it must convince is said by the records that lie in it, and an approval
// that was given under other records than the store's counts for nothing there.
package proposal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Type is that of the file.
const Type = "https://hallmark.dev/policy-proposal/v1"

// MaxFile is the most bytes of it: a proposal, a bundle and two records in base64.
const MaxFile = 768 << 10

// Proposal is a change of a policy.
type Proposal struct {
	// Record is what the record will say; it has no times, evidence, digest or payload.
	*record.Record
	Bundle []byte // the policy's rules; nil where there are none
	// Previous is the newest record, nil for a first policy. InForce is the one whose people decide:
	// mostly the same, else one that Previous has not replaced yet.
	Previous, InForce *record.Record
}

type wire struct {
	Type           string          `json:"type" strict:"required"`
	ProposalDigest string          `json:"proposalDigest" strict:"required"`
	Predicate      json.RawMessage `json:"predicate" strict:"required"`
	Bundle         []byte          `json:"bundle,omitempty"`
	Previous       []byte          `json:"previous,omitempty"` // the payload of its statement
	InForce        []byte          `json:"inForce,omitempty"`  // likewise; absent where it is Previous
}

// New is the proposal of a predicate whose times, evidence and digest are not there yet. Version,
// Prev and Root follow from previous. inForce may be nil where it is previous.
func New(p record.Predicate, bundle []byte, previous, inForce *record.Record) (*Proposal, []policy.Reason) {
	p.Version, p.Prev, p.Root = 1, "", ""
	if previous != nil {
		p.Version, p.Prev, p.Root = previous.Version+1, previous.Digest, rootOf(previous)
	}
	text, err := p.Proposal()
	if err != nil {
		return nil, wrong("%v", err)
	}
	r, reasons := record.ParseProposal(text)
	if r == nil {
		return nil, reasons
	}
	if inForce == nil {
		inForce = previous
	}
	out := &Proposal{Record: r, Bundle: bundle, Previous: previous, InForce: inForce}
	if err := out.check(); err != nil {
		return nil, wrong("%v", err)
	}
	return out, nil
}

func rootOf(r *record.Record) evidence.Digest {
	if r.Root == "" {
		return r.Digest
	}
	return r.Root
}

func wrong(format string, args ...any) []policy.Reason {
	return []policy.Reason{{Code: record.CodeBroken, Message: fmt.Sprintf("the proposal of a policy is not acceptable: "+format, args...), Hint: "make it again: hallmark signing-policy propose"}}
}

// Parse reads the file. What is wrong with it comes back as reasons with code POLICY_CHAIN_BROKEN and
// those of the authority document.
func Parse(file []byte) (*Proposal, []policy.Reason) {
	if len(file) > MaxFile {
		return nil, wrong("it has %d bytes; at most %d are read", len(file), MaxFile)
	}
	var w wire
	if err := strictjson.Unmarshal(file, &w); err != nil {
		return nil, wrong("%v", err)
	}
	if w.Type != Type {
		return nil, wrong("it is of another type than %s", Type)
	}
	r, reasons := record.ParseProposal(w.Predicate)
	if r == nil {
		return nil, reasons
	}
	if string(r.ProposalDigest) != w.ProposalDigest {
		return nil, wrong("proposalDigest is not that of what it proposes, %s", r.ProposalDigest)
	}
	p := &Proposal{Record: r, Bundle: w.Bundle}
	for _, of := range []struct {
		from []byte
		to   **record.Record
	}{{w.Previous, &p.Previous}, {w.InForce, &p.InForce}} {
		if len(of.from) == 0 {
			continue
		}
		if *of.to, reasons = record.Parse(of.from); *of.to == nil {
			return nil, reasons
		}
	}
	if p.InForce == nil {
		p.InForce = p.Previous
	}
	if err := p.check(); err != nil {
		return nil, wrong("%v", err)
	}
	return p, nil
}

// check is about how the parts go together.
func (p *Proposal) check() error {
	switch {
	case p.Action == record.Reset:
		return errors.New("a reset is the operator's, who proposes nothing")
	case (p.Policy == nil) != (len(p.Bundle) == 0):
		return errors.New("it has rules, and no bundle of them, or the other way round")
	case p.Policy != nil && (evidence.SHA256(p.Bundle) != p.Policy.Bundle || int64(len(p.Bundle)) != p.Policy.Size):
		return errors.New("its bundle is not the one that it names")
	case (p.Version == 1) != (p.Previous == nil):
		return errors.New("the record before it is missing, or there is none")
	}
	if p.Policy != nil {
		if _, err := rules.OpenBundle(p.Bundle); err != nil {
			return err
		}
	}
	if p.Previous == nil {
		return nil
	}
	for _, r := range []*record.Record{p.Previous, p.InForce} {
		if r.Key != p.Key || rootOf(r) != p.Root || r.Version >= p.Version {
			return errors.New("a record before it is of another policy, or not before it")
		}
	}
	if p.Prev != p.Previous.Digest || p.Version != p.Previous.Version+1 {
		return errors.New("it does not follow the record that lies in it")
	}
	if p.Action == record.Recover {
		if _, ok := p.InForce.Doc.Role(authority.RoleRecover); !ok {
			return errors.New("the policy in force has no role recover")
		}
	}
	return nil
}

// Marshal is the file.
func (p *Proposal) Marshal() ([]byte, error) {
	text, err := p.Proposal()
	if err != nil {
		return nil, err
	}
	w := wire{Type: Type, ProposalDigest: string(p.ProposalDigest), Predicate: text, Bundle: p.Bundle}
	if p.Previous != nil {
		w.Previous = p.Previous.Payload
		if p.InForce.Digest != p.Previous.Digest {
			w.InForce = p.InForce.Payload
		}
	}
	data, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// Changes are what it changes of the policy in force.
func (p *Proposal) Changes() []Change { return Diff(p.InForce, p.Record) }

// ApprovalAction is the action of its approvals.
func (p *Proposal) ApprovalAction() string {
	switch p.Action {
	case record.Tombstone:
		return approval.ActionTombstone
	case record.Recover:
		return approval.ActionRecover
	}
	return approval.ActionUpdate
}

// Use is what the keys must be for that approve it.
func (p *Proposal) Use() string {
	if p.Action == record.Recover {
		return authority.UseRecover
	}
	return authority.UseUpdate
}

// Approval is what somebody says who approves or rejects it.
func (p *Proposal) Approval(decision, principal, note string) approval.Statement {
	return approval.Statement{Action: p.ApprovalAction(), Decision: decision, Principal: principal, Proposal: string(p.ProposalDigest), Policy: p.under(),
		Repository: approval.Repository{Key: p.Key, OwnerID: p.OwnerID, URI: "https://" + p.Name}, Reviewed: approval.Reviewed{Note: note}}
}

// under is the policy in force as approvals name it.
func (p *Proposal) under() approval.Policy {
	if p.InForce == nil {
		return approval.Policy{}
	}
	return approval.Policy{Root: string(p.Root), Version: p.InForce.Version, Digest: string(p.InForce.Digest)}
}

// Documents are those whose people must approve it, the policy in force first.
func (p *Proposal) Documents() []*authority.Document {
	switch {
	case p.InForce == nil:
		return []*authority.Document{p.Doc}
	case p.Action == record.Recover:
		return []*authority.Document{p.InForce.Doc}
	}
	return []*authority.Document{p.InForce.Doc, p.Doc}
}

// MaxAge is how long an approval of it counts at most.
func (p *Proposal) MaxAge() time.Duration {
	most := authority.MaxDuration
	for _, doc := range p.Documents() {
		most = min(most, doc.Approval.MaxAge)
	}
	return most
}

// Need is one role that must approve.
type Need struct {
	Whose     string   `json:"whose"` // "the policy in force", "the new policy"
	Role      string   `json:"role"`
	Threshold int      `json:"threshold"`
	Approved  []string `json:"approved"`
	Missing   []string `json:"missing"` // who could still approve
	Reached   bool     `json:"reached"`
}

// Standing is how far the approval of a proposal is.
type Standing struct {
	Needs []Need
	// Valid are approvals that count under a document, Rejected those that count under none.
	Valid    []approval.Approval
	Rejected []approval.Rejection
}

// Reached reports whether nothing is missing.
func (s *Standing) Reached() bool {
	for _, n := range s.Needs {
		if !n.Reached {
			return false
		}
	}
	return true
}

// Judge says who approved it, as a store and its readers will.
func (p *Proposal) Judge(found []approval.Found, keyless approval.Keyless, now time.Time) *Standing {
	s := &Standing{}
	counts, refused := map[string]bool{}, map[string]approval.Rejection{}
	for i, doc := range p.Documents() {
		res := approval.Judge(doc, approval.Expected{Action: p.ApprovalAction(), Repository: approval.Repository{Key: p.Key},
			Proposal: string(p.ProposalDigest), Policy: p.under(), Now: now, Keyless: keyless}, found)
		for _, a := range res.Valid {
			if !counts[a.ID] {
				s.Valid = append(s.Valid, a)
			}
			counts[a.ID] = true
		}
		for _, r := range res.Rejected {
			refused[r.Where] = r
		}
		need := Need{Whose: "the policy in force", Role: p.Use()} // roles and uses have the same names
		if i == 1 || p.InForce == nil {
			need.Whose = "the new policy"
		}
		if role, ok := doc.Role(need.Role); ok {
			need.Threshold = role.Threshold
			need.Approved, need.Missing = approval.Approvers(res.Valid, role.Principals), approval.Missing(res.Valid, role.Principals)
			need.Reached = role.Accepts(authority.Signed) && approval.Quorum(res.Valid, role.Principals, role.Threshold)
		}
		s.Needs = append(s.Needs, need)
	}
	for _, f := range found {
		if r, ok := refused[f.Where]; ok && !counts[r.ID] {
			s.Rejected = append(s.Rejected, r)
			delete(refused, f.Where)
		}
	}
	return s
}

// Delay is how long it must wait from when it is logged before it is in effect, and why: "" of none.
func (p *Proposal) Delay(now time.Time) (time.Duration, string) {
	wait, why := time.Duration(0), ""
	switch {
	case p.InForce == nil:
	case p.Action == record.Recover:
		role, _ := p.InForce.Doc.Role(authority.RoleRecover)
		wait, why = role.Delay, "a recovery"
	case len(chain.Weakens(p.InForce, p.Record)) > 0:
		wait, why = p.InForce.Doc.WeakeningDelay, "a weaker policy"
	}
	if (p.InForce == nil || p.InForce.EffectiveAt.After(now)) && wait < chain.DefaultFirstDelay {
		wait, why = chain.DefaultFirstDelay, "a first policy"
	}
	return wait, why
}

// Statement is that of the record, which the updater signs, in effect from a time on and by these
// approvals.
func (p *Proposal) Statement(created, effective time.Time, approvals []approval.Approval) ([]byte, []policy.Reason) {
	out := p.Predicate
	out.CreatedAt, out.EffectiveAt = created, effective
	for _, a := range approvals {
		out.Evidence = append(out.Evidence, evidence.Digest(a.ID))
	}
	return out.Statement()
}
