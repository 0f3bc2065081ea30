package judge

import (
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// CodeWouldDeny is a denial that a policy in mode "warn" makes a warning.
const CodeWouldDeny = "POLICY_WOULD_DENY"

// Stored is what a policy store proves of the policy that is in force (docs/policy-store.md).
// Who fills it in has verified all of it.
type Stored struct {
	Root    string // "sha256:…" of the first record, or of the last reset
	Version int64
	Digest  string // "sha256:…" of the record; approvals bind root, version and this
	OwnerID string // decimal
	// StoredAt is when the record was logged, EffectiveAt since when it is in force.
	StoredAt, EffectiveAt time.Time
	PreviousRoots         []string // oldest first
	Resets                int
	Pending               bool   // a newer record waits for its time
	Freshness             string // "witnessed", or "operator": nobody else vouches for HeadTime
	HeadTime              time.Time
	// Warn is the record's mode "warn": what its rules deny is a warning. Vetoes, the owner's rules, and
	// what is denied whatever the rules say, still deny.
	Warn bool
	// Notices are envelopes of rejections that were filed with the store.
	Notices [][]byte
	Owner   *Owner // nil: the owner has no record
}

// Owner is the record of the repository's owner.
type Owner struct {
	Org       input.Org
	Authority *authority.Document
	// Rules must allow, too; nil: the owner's record has none.
	Rules *rules.Policy
}

// policy is what approvals bind.
func (f *Folder) policy() (approval.Policy, error) {
	if s := f.Stored; s != nil {
		return approval.Policy{Root: s.Root, Version: s.Version, Digest: s.Digest}, nil
	}
	digest, err := f.Digest()
	return approval.Policy{Digest: digest}, err
}

// fill puts the record into the document.
func (s *Stored) fill(doc *input.Document) {
	doc.Policy.Root, doc.Policy.Version, doc.Policy.OwnerID = s.Root, int(s.Version), s.OwnerID
	doc.Policy.StoredAt, doc.Policy.EffectiveAt, doc.Policy.HeadTime = timeOf(s.StoredAt), timeOf(s.EffectiveAt), timeOf(s.HeadTime)
	doc.Policy.PreviousRoots = append([]string{}, s.PreviousRoots...)
	doc.Policy.Resets, doc.Policy.Pending, doc.Policy.Freshness = s.Resets, s.Pending, s.Freshness
	if s.Owner != nil {
		org := s.Owner.Org
		doc.Org = &org
	}
}

// notices are the rejections that were filed, beside the approvals that were found.
func (s *Stored) notices() []approval.Found {
	var out []approval.Found
	if s != nil {
		for _, n := range s.Notices {
			out = append(out, approval.Found{Where: "the policy store's notices", Data: n})
		}
	}
	return out
}

// absent decides where the store proves that there is no policy: what nobody could allow is denied.
func (r *Request) absent(out *Result) {
	denied := r.checkJob(out.Release)
	if tag := out.Release.Tag; tag != nil {
		if _, why := git.VerifyTag(tag, out.Release.Git.Ref, nil, r.Now); why != nil && always[why.Code] {
			denied = append(denied, *why)
		}
	}
	if out.Key = r.Key; r.Job != nil {
		out.Key = r.Job.Key()
	}
	out.Decision = policy.Decision{Allowed: len(denied) == 0, Reasons: denied, Warnings: []policy.Reason{*r.Absent}}
}

// forOwner is the document as the owner's rules see it. A name that the owner's record has means the
// owner's person there, with the owner's keys: the people of a repository write their own
// record, and could give any name to a key of theirs.
func (s *Stored) forOwner(out *Result) *input.Document {
	doc, people := *out.Input, s.Owner.Authority
	other := func(name, key, use string) bool {
		if people.Principals[name] == nil {
			return false
		}
		return !slices.ContainsFunc(people.Keys(use), func(h authority.Holder) bool { return h.Principal.Name == name && h.Key.ID() == key })
	}
	doc.Approvals = []input.Approval{}
	for i, a := range out.Approvals.Valid {
		if !other(a.Principal, a.Key, authority.UseApprove) {
			doc.Approvals = append(doc.Approvals, out.Input.Approvals[i])
		}
	}
	if t := doc.Git.Tag; t != nil && out.TagSigner != nil && other(out.TagSigner.Principal, out.tagKey, authority.UseTag) {
		tag := *t
		tag.Signer = nil
		doc.Git.Tag = &tag
	}
	if c := doc.Git.Commit.Signer; c != nil && other(c.Principal, out.commitKey, authority.UseTag) {
		doc.Git.Commit.Signer = nil
	}
	return &doc
}
