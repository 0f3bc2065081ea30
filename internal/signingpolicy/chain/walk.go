package chain

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

// Logged is a record with its approvals, and when it was logged: when the quorum saw the first
// head that covers it.
type Logged struct {
	*record.Record
	Evidence []approval.Found
	At       time.Time

	proven   bool  // the updater's signature was looked at
	unproven error // with this result
}

// prove verifies the signatures of many records and of their approvals at once: what they say of
// each other is judged later.
func (w *Walk) prove(all []Logged) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range all {
		g.Go(func() error {
			all[i].unproven, all[i].proven = w.rules.updater(all[i].Record), true
			approval.Judge(all[i].Doc, approval.Expected{Now: all[i].At, Memory: w.signatures}, all[i].Evidence)
			return nil
		})
	}
	_ = g.Wait()
}

// Step is a record that was found good.
type Step struct {
	*record.Record
	LoggedAt time.Time
	// Root is the digest of the first record, or of the last reset.
	Root          evidence.Digest
	PreviousRoots []evidence.Digest // oldest first
	Resets        int

	cancelled bool  // by an ordinary update before it was in effect
	heals     error // of a reset: what was wrong with the chain until it is in effect
}

// effective is when the record is in effect, unless it is cancelled before.
func (s *Step) effective() time.Time {
	if s.EffectiveAt.Before(s.LoggedAt) {
		return s.LoggedAt
	}
	return s.EffectiveAt
}

// Walk is a chain of records, judged one after the other.
type Walk struct {
	rules *Rules
	owner *Walk // of the repository's owner; nil: it has no record
	steps []*Step
	last  *record.Record // the newest one, good or not
	// signatures that verified: two records' people are asked about one approval.
	signatures *approval.Memory
	// broken is why the newest record is not good. Only a reset leads out of that.
	broken error
}

// NewWalk begins a chain. owner is that of the repository's owner, nil without one. Only
// [New] and [PrepareRules] make rules that can be used.
func NewWalk(rules *Rules, owner *Walk) *Walk {
	return &Walk{rules: rules, owner: owner, signatures: &approval.Memory{}}
}

// PrepareRules checks rules and fills in their defaults, for who judges without a store.
func PrepareRules(r Rules) (*Rules, error) {
	if err := r.prepare(); err != nil {
		return nil, err
	}
	return &r, nil
}

// At is the record in force at a time, nil without one.
func (w *Walk) At(t time.Time) *Step {
	if w == nil {
		return nil
	}
	for _, s := range slices.Backward(w.steps) {
		if !s.cancelled && !s.effective().After(t) {
			return s
		}
	}
	return nil
}

// Pending are the records that wait for their time.
func (w *Walk) Pending(t time.Time) []*Step {
	var out []*Step
	for _, s := range w.steps {
		if !s.cancelled && s.effective().After(t) {
			out = append(out, s)
		}
	}
	return out
}

// Err is why the chain cannot be believed at a time.
func (w *Walk) Err(t time.Time) error {
	for _, s := range w.steps {
		if s.heals != nil && s.effective().After(t) {
			return s.heals
		}
	}
	return w.broken
}

// Add judges the next record. After a record that is not good the chain is of no use, unless the
// store's operator resets it. The error is a refusal.
func (w *Walk) Add(l Logged) error {
	err := w.follows(l.Record)
	if err == nil {
		if len(w.steps) > 0 { // a head that is missing cannot have a record seem older
			l.At = later(l.At, w.steps[len(w.steps)-1].LoggedAt)
		}
		var step *Step
		if step, err = w.judge(l); err == nil {
			w.take(step)
		}
	}
	if err != nil && w.broken == nil {
		w.broken = err
	}
	w.last = l.Record
	return err
}

// follows is about the order of records alone.
func (w *Walk) follows(r *record.Record) error {
	broken := func(format string, args ...any) error {
		return refuse(CodeBroken, r.Key, "keep what the store serves and ask its operator", "version %d of the policy of %s %s", r.Version, r.Key, fmt.Sprintf(format, args...))
	}
	switch last := w.last; {
	case last == nil && r.Version != 1:
		return broken("is the first that there is")
	case last == nil:
		return nil
	case r.Key != last.Key:
		return broken("follows one of %s", last.Key)
	case r.Version != last.Version+1:
		return broken("follows version %d", last.Version)
	case r.Prev != last.Digest:
		return broken("follows %s, and says that it follows %s", last.Digest.Short(), r.Prev.Short())
	}
	return nil
}

func (w *Walk) take(s *Step) {
	if s.Action != record.Recover && s.Action != record.Reset {
		for _, p := range w.steps {
			if p.effective().After(s.LoggedAt) {
				p.cancelled = true
			}
		}
	}
	s.heals, w.broken = w.broken, nil
	w.steps = append(w.steps, s)
}

// before is the record whose people decide about one that is logged at a time: the one in force
// then or, while the first one still waits, that one.
func (w *Walk) before(at time.Time) (s *Step, inForce bool) {
	if s := w.At(at); s != nil {
		return s, true
	}
	for _, s := range slices.Backward(w.steps) {
		if !s.cancelled {
			return s, false
		}
	}
	return nil, false
}

func (w *Walk) judge(l Logged) (*Step, error) {
	if !l.proven {
		l.unproven = w.rules.updater(l.Record)
	}
	if l.unproven != nil {
		return nil, l.unproven
	}
	if l.Action == record.Reset {
		return w.reset(l)
	}
	if err := w.Err(l.At); err != nil {
		return nil, err
	}
	prev, inForce := w.before(l.At)
	step := &Step{Record: l.Record, LoggedAt: l.At}
	j := judgement{w.rules, l, prev, w.signatures, map[string]*approval.Result{}}
	switch {
	case prev == nil && l.Version > 1:
		return nil, j.refuse(CodeBroken, "follows no record that was good")
	case prev == nil:
		step.Root = l.Digest
	case l.Root != prev.Root:
		return nil, j.refuse(CodeBroken, "names another root than %s", prev.Root.Short())
	default:
		step.Root, step.PreviousRoots, step.Resets = prev.Root, prev.PreviousRoots, prev.Resets
	}
	if err := j.keeps(); err != nil {
		return nil, err
	}
	if err := j.agreed(); err != nil {
		return nil, err
	}
	if !inForce {
		if w.rules.FirstDelay > 0 && l.EffectiveAt.Before(l.At.Add(w.rules.FirstDelay)) {
			return nil, j.tooSoon(CodeFirstTooSoon, "a first policy", w.rules.FirstDelay)
		}
	}
	if prev == nil || l.OwnerID != prev.OwnerID {
		if err := w.reserved(j); err != nil {
			return nil, err
		}
	}
	return step, nil
}

// reset judges a reset: by the operator, and by the people whom it names.
func (w *Walk) reset(l Logged) (*Step, error) {
	prev, _ := w.before(l.At)
	j := judgement{w.rules, l, prev, w.signatures, map[string]*approval.Result{}}
	if w.rules.Operator == nil {
		return nil, j.refuse(CodeNotApproved, "is a reset, and the configuration names no operator who may do that")
	}
	if err := j.by(w.rules.Operator, authority.RoleRecover, approval.ActionRecover, "the store's operator"); err != nil {
		return nil, err
	}
	if err := j.by(l.Doc, authority.RoleUpdate, approval.ActionUpdate, "the new policy"); err != nil {
		return nil, err
	}
	if w.rules.ResetDelay > 0 && l.EffectiveAt.Before(l.At.Add(w.rules.ResetDelay)) {
		return nil, j.tooSoon(CodeRecoverSoon, "a reset", w.rules.ResetDelay)
	}
	if err := w.reserved(j); err != nil {
		return nil, err
	}
	step := &Step{Record: l.Record, LoggedAt: l.At, Root: l.Digest, Resets: 1}
	if prev != nil {
		step.Resets, step.PreviousRoots = prev.Resets+1, append(slices.Clone(prev.PreviousRoots), prev.Root)
	}
	return step, nil
}

// reserved asks for the agreement of an owner who reserves first records.
func (w *Walk) reserved(j judgement) error {
	owner := w.owner.At(j.At)
	if owner == nil || owner.Action == record.Tombstone || owner.Owner == nil || !owner.Owner.Reserve || j.OwnerID != owner.OwnerID {
		return nil
	}
	if err := j.by(owner.Doc, authority.RoleUpdate, j.action(), "the owner's record"); err != nil {
		return refuse(CodeReserved, j.Key, "ask the owner's people to approve it", "the owner %s reserves the first policies of its repositories: %s", owner.Name, err)
	}
	return nil
}

// judgement is about one record.
type judgement struct {
	rules *Rules
	Logged
	prev       *Step // whose people decide; nil of the first one
	signatures *approval.Memory
	// found are the approvals that count under a document, by its digest and the action: mostly the
	// people of a record and of the one before it are the same.
	found map[string]*approval.Result
}

func (j judgement) refuse(code, format string, args ...any) *ledger.Refusal {
	hint := "keep what the store serves and ask its operator"
	if code == CodeNotApproved {
		hint = "have the people who are missing look at the change and approve it"
	}
	return refuse(code, j.Key, hint, "version %d of the policy of %s %s", j.Version, j.Key, fmt.Sprintf(format, args...))
}

func (j judgement) tooSoon(code, what string, d time.Duration) error {
	return refuse(code, j.Key, "propose it again with a later time", "version %d of the policy of %s is in effect at %s; %s waits for %s from when it was logged, %s",
		j.Version, j.Key, j.EffectiveAt.Format(time.RFC3339), what, d, j.At.Format(time.RFC3339))
}

// keeps makes sure that a record changes only what its action may change.
func (j judgement) keeps() error {
	if j.prev == nil {
		return nil
	}
	renames := !strings.EqualFold(j.Name, j.prev.Name) || j.OwnerID != j.prev.OwnerID
	switch {
	case renames && j.Action != record.Rebind:
		return j.refuse(CodeBroken, "has another name or owner, which only a rebind changes")
	case j.Action == record.Rebind && !renames:
		return j.refuse(CodeBroken, "is a rebind that changes neither name nor owner")
	case j.Action == record.Rebind && (!bytes.Equal(j.Doc.Canonical(), j.prev.Doc.Canonical()) || !reflect.DeepEqual(j.Policy, j.prev.Policy) || !reflect.DeepEqual(j.Owner, j.prev.Owner)):
		return j.refuse(CodeBroken, "is a rebind that changes more than name and owner")
	}
	return nil
}

func (j judgement) action() string {
	switch j.Action {
	case record.Tombstone:
		return approval.ActionTombstone
	case record.Recover:
		return approval.ActionRecover
	}
	return approval.ActionUpdate
}

// agreed asks for the approvals that the action needs, and for its delay.
func (j judgement) agreed() error {
	if j.Action == record.Recover {
		if err := j.by(j.prev.Doc, authority.RoleRecover, j.action(), "the policy before it"); err != nil {
			return err
		}
		role, _ := j.prev.Doc.Role(authority.RoleRecover)
		if j.EffectiveAt.Before(j.At.Add(role.Delay)) {
			return j.tooSoon(CodeRecoverSoon, "a recovery", role.Delay)
		}
		return nil
	}
	if j.prev != nil {
		if err := j.by(j.prev.Doc, authority.RoleUpdate, j.action(), "the policy before it"); err != nil {
			return err
		}
	}
	if err := j.by(j.Doc, authority.RoleUpdate, j.action(), "the new policy"); err != nil {
		return err
	}
	if j.prev == nil {
		return nil
	}
	if weaker := Weakens(j.prev.Record, j.Record); len(weaker) > 0 && j.EffectiveAt.Before(j.At.Add(j.prev.Doc.WeakeningDelay)) {
		return j.tooSoon(CodeWeakenTooSoon, "a policy that is weaker ("+strings.Join(weaker, "; ")+")", j.prev.Doc.WeakeningDelay)
	}
	return nil
}

// by asks whether the threshold of a role approved the record, with the keys that the document
// itself lists for its people.
func (j judgement) by(doc *authority.Document, name, action, whose string) error {
	role, ok := doc.Role(name)
	if !ok || role.Threshold < 1 {
		return j.refuse(CodeNotApproved, "needs the role %s of %s, which has none", name, whose)
	}
	want := approval.Expected{Action: action, Repository: approval.Repository{Key: j.Key}, Proposal: string(j.ProposalDigest), Now: j.At, Keyless: j.rules.Keyless, Memory: j.signatures}
	if j.prev != nil {
		want.Policy = approval.Policy{Root: string(j.prev.Root), Version: j.prev.Version, Digest: string(j.prev.Digest)}
	}
	found := j.found[doc.Digest()+action]
	if found == nil {
		found = approval.Judge(doc, want, j.Evidence)
		j.found[doc.Digest()+action] = found
	}
	if !role.Accepts(authority.Signed) || !approval.Quorum(found.Valid, role.Principals, role.Threshold) {
		have := approval.Approvers(found.Valid, role.Principals)
		return j.refuse(CodeNotApproved, "is not approved: %s wants %d of %s; valid: %s; missing: %s%s", whose, role.Threshold, strings.Join(role.Principals, ", "),
			orNone(have), orNone(approval.Missing(found.Valid, role.Principals)), rejected(found))
	}
	return nil
}

// rejected says why the approvals that do not count do not, for people.
func rejected(r *approval.Result) string {
	if len(r.Rejected) == 0 {
		return ""
	}
	b := r.Rejected[0]
	return fmt.Sprintf(" (%d do not count: %s %s)", len(r.Rejected)+r.Ignored, b.Code, b.Message)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
