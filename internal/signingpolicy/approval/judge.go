package approval

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

// maxOfPrincipal bounds the valid approvals of one principal and decision; the newest are kept.
const maxOfPrincipal = 16

// Judge says which of the envelopes count for what is expected, with the keys of the document. All
// of them are read, so that those which anybody can add crowd out none; what is kept is bounded.
// The time it takes grows with their number.
func Judge(doc *authority.Document, want Expected, found []Found) *Result {
	j := judge{doc: doc, want: want}
	seen := make(map[[sha256.Size]byte]struct{}, len(found))
	var kept [3][]Rejection // signed by a principal, claiming a key of one, others
	r := &Result{}
	valid := map[string][]Approval{}
	for _, f := range found {
		sum := sha256.Sum256(f.Data)
		if _, again := seen[sum]; again {
			continue
		}
		seen[sum] = struct{}{}
		a, bad, rank := j.one(f)
		switch {
		case a != nil:
			group := a.Principal + " " + a.Decision
			valid[group] = newest(valid[group], *a)
		case len(kept[rank]) < MaxKept:
			kept[rank] = append(kept[rank], *bad)
		default:
			r.Ignored++
		}
	}
	for _, list := range valid {
		r.Valid = append(r.Valid, list...)
	}
	slices.SortFunc(r.Valid, func(a, b Approval) int {
		return cmp.Or(cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Key, b.Key))
	})
	r.Rejected = slices.Concat(kept[0], kept[1], kept[2])
	if over := len(r.Rejected) - MaxKept; over > 0 {
		r.Rejected = r.Rejected[:MaxKept]
		r.Ignored += over
	}
	if len(found) > MaxKept {
		r.Warnings = append(r.Warnings, policy.Reason{Code: CodeTooMany, Subject: want.subject(),
			Message: fmt.Sprintf("%d approvals were found, %d of which count; all were looked at, and at most %d of the others are shown", len(found), len(r.Valid), MaxKept),
			Hint:    "somebody may be adding them to hide others: look at who can write where they lie"})
	}
	return r
}

// newest adds an approval to a principal's, without one that is there already.
func newest(list []Approval, a Approval) []Approval {
	if slices.ContainsFunc(list, func(o Approval) bool { return o.ID == a.ID && o.Key == a.Key }) {
		return list
	}
	list = append(list, a)
	slices.SortFunc(list, func(a, b Approval) int {
		return cmp.Or(b.IssuedAt.Compare(a.IssuedAt), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Key, b.Key))
	})
	return list[:min(len(list), maxOfPrincipal)]
}

func (w *Expected) subject() string {
	if w.Action == ActionBuild {
		return w.Commit
	}
	return w.Proposal
}

// failure is why an approval does not count; its message goes on from "the approval of NAME".
type failure struct{ code, message string }

func fail(code, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// Ranks of rejections: which are kept first.
const (
	rankSigned   = iota // a key of the principal made it
	rankKnownKey        // it says so
	rankOther
)

type judge struct {
	doc  *authority.Document
	want Expected
}

func (j *judge) one(f Found) (*Approval, *Rejection, int) {
	bad := &Rejection{Source: SourceSigned, Where: f.Where}
	e, why := Parse(f.Data)
	if why != nil {
		bad.Code, bad.Message = why.Code, why.Message
		return nil, bad, rankOther
	}
	s := &e.Statement
	bad.ID, bad.ClaimedPrincipal = e.ID, s.Principal
	proof, rank, no := j.signature(e)
	bad.Signed = rank == rankSigned
	if no == nil {
		no = j.context(s)
	}
	if no == nil {
		no = j.times(s)
	}
	if no != nil {
		bad.Code, bad.Message = no.code, "the approval of "+s.Principal+" "+no.message
		return nil, bad, rank
	}
	k := proof.key
	return &Approval{
		ID: e.ID, Source: SourceSigned, Principal: s.Principal, Decision: s.Decision, Comment: s.Reviewed.Note,
		Protection: k.Protection, Attested: k.Attested, UserVerified: proof.userVerified, Kind: k.Kind,
		IssuedAt: s.IssuedAt, ExpiresAt: s.ExpiresAt, ReviewedBase: s.Reviewed.Base,
		Key: k.ID(), Where: f.Where, PolicyVersion: s.Policy.Version,
	}, nil, rankSigned
}

// context says what else the statement is about than what is expected.
func (j *judge) context(s *Statement) *failure {
	w := &j.want
	switch {
	case s.Action != w.Action:
		return fail(CodeOtherAction, "is one of %s, not of %s", s.Action, w.Action)
	case s.Repository.Key != w.Repository.Key:
		return fail(CodeOtherRepository, "is for %s, not for %s", s.Repository.Key, w.Repository.Key)
	case w.Repository.OwnerID != "" && s.Repository.OwnerID != w.Repository.OwnerID,
		w.Repository.URI != "" && s.Repository.URI != w.Repository.URI:
		return fail(CodeOtherRepository, "is for %s (%s, owner %s), not for %s (%s, owner %s)", s.Repository.Key, clip(s.Repository.URI), s.Repository.OwnerID,
			w.Repository.Key, clip(w.Repository.URI), w.Repository.OwnerID)
	case s.Commit != w.Commit:
		return fail(CodeOtherCommit, "is for commit %s, not for %s", short(s.Commit), short(w.Commit))
	case s.TagObject != w.TagObject:
		return fail(CodeOtherCommit, "is for %s, not for %s", tagObject(s.TagObject), tagObject(w.TagObject))
	case s.Ref != w.Ref:
		return fail(CodeOtherCommit, "is for %s, not for %s", clip(s.Ref), clip(w.Ref))
	case s.Tree != w.Tree, s.TreeSHA256 != "" && w.TreeSHA256 != "" && s.TreeSHA256 != w.TreeSHA256:
		return fail(CodeOtherCommit, "is for another tree than %s", short(w.Tree))
	case s.Proposal != w.Proposal:
		return fail(CodeOtherPolicy, "is for the proposal %s, not for %s", short(s.Proposal), short(w.Proposal))
	}
	return j.policy(s)
}

// policy says under which other policy the statement was made. A veto outlives the policy's next
// version: nobody's no is outvoted by changing the rules.
func (j *judge) policy(s *Statement) *failure {
	have, want := s.Policy, j.want.Policy
	carries := s.Decision == Reject || j.doc.Approval.CarryOver && s.Action == ActionBuild && have.Version <= want.Version
	switch {
	case have.Root != want.Root:
		return fail(CodeOtherPolicy, "was given under the policy that begins with %s, not with %s", short(have.Root), short(want.Root))
	case have == want, carries && have.Root != "":
		return nil
	}
	if have.Version == 0 && want.Version == 0 { // policies in folders have no versions
		return fail(CodeOtherPolicy, "was given under policy %s; %s is in force", short(have.Digest), short(want.Digest))
	}
	return fail(CodeOtherPolicy, "was given under version %d (%s) of the policy; version %d (%s) is in force", have.Version, short(have.Digest), want.Version, short(want.Digest))
}

func tagObject(id string) string {
	if id == "" {
		return "no tag object"
	}
	return "tag object " + short(id)
}

func (j *judge) times(s *Statement) *failure {
	now, limit := j.want.Now, j.doc.Approval.MaxAge
	switch at := s.ExpiresAt.UTC().Format(time.RFC3339); {
	case !s.ExpiresAt.After(s.IssuedAt):
		return fail(CodeExpired, "expires before it was issued")
	case s.ExpiresAt.Sub(s.IssuedAt) > limit:
		return fail(CodeExpired, "is valid until %s, longer than the %s that the policy accepts", at, limit)
	case !now.Before(s.ExpiresAt):
		return fail(CodeExpired, "expired at %s", at)
	case s.IssuedAt.After(now.Add(maxSkew)):
		return fail(CodeExpired, "is of %s, which is in the future", s.IssuedAt.UTC().Format(time.RFC3339))
	}
	return nil
}

func short(id string) string {
	if id == "" {
		return "none"
	}
	hexed := strings.TrimPrefix(id, "sha256:")
	return id[:len(id)-len(hexed)] + hexed[:min(len(hexed), 12)]
}
