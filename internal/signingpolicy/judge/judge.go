package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// Codes of refusals that come from here (docs/reasons.md).
const (
	CodeClock          = "CLOCK_SKEW"
	CodeCommitMismatch = "COMMIT_MISMATCH"
)

// MaxSkew is how far the clock may be from the moment at which the CI's identity was
// made, in either direction.
const MaxSkew = 300 * time.Second

// Request is a question about a release.
type Request struct {
	// Folder is the policy; nil where a store proves that there is none, which Absent says then.
	Folder *Folder
	Absent *policy.Reason
	Repo   *git.Repository
	Ref    string // as for [git.Repository.Release]
	// Job is what a verified CI identity says of this run; nil without one: the answer is a
	// rehearsal's then.
	Job *Job
	// Key names the repository, "github.com/id/123456", where no job does; "" for what the
	// signed tag says, else "local".
	Key string
	// Dirs are folders with approvals, beside those that the repository has.
	Dirs  []string
	Build input.Build
	// Keyless verifies approvals that were signed with an identity; nil: they are refused.
	Keyless approval.Keyless
	Now     time.Time
}

// Job is what a verified CI identity says. Its URIs and names are the provider's.
type Job struct {
	Source   input.Source
	Commit   string    // that the run is of
	Ref      string    // full name
	IssuedAt time.Time // zero: the clock was compared with it before
	Builder  input.Builder
	Run      input.Run
}

// Key is the repository's key: "github.com/id/123456".
func (j *Job) Key() string { return j.Source.Provider + "/id/" + j.Source.ID }

// Result is the answer with everything that led to it.
type Result struct {
	Release   *git.Release // nil when the ref could not be accepted at all
	Key       string       // of the repository that was judged
	Input     *input.Document
	Decision  policy.Decision
	Rules     rules.Decision
	Approvals *approval.Result
	TagSigner *git.Signer    // who signed the tag, nil when nobody who may
	TagReason *policy.Reason // why nobody did
	Policy    approval.Policy
	// Warned says that the policy is in mode "warn" and would have denied: the release is let through,
	// and no verdict says that it passed.
	Warned bool

	now               time.Time
	keyless           approval.Keyless
	tagKey, commitKey string         // ids of the keys that signed
	owner             rules.Decision // of the owner's policy
}

// Check decides about a release. A refusal is a decision; an error means that it could
// not be found out what is to be judged.
func Check(ctx context.Context, r Request) (*Result, error) {
	out := &Result{now: r.Now, keyless: r.Keyless}
	rel, why, err := r.Repo.Release(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	if why != nil {
		out.Decision = policy.Deny(*why)
		return out, nil
	}
	out.Release = rel
	if r.Folder == nil {
		if r.Absent == nil {
			return nil, errors.New("no signing policy, and nothing that says that there is none")
		}
		r.absent(out)
		return out, nil
	}
	if out.Policy, err = r.Folder.policy(); err != nil {
		return nil, err
	}
	denied, err := r.prepare(ctx, out)
	if err != nil {
		return nil, err
	}
	if len(denied) > 0 && out.Input == nil {
		out.Decision = policy.Deny(denied...)
		return out, nil
	}
	out.Rules, err = r.Folder.Rules.Decide(ctx, out.Input)
	if err != nil {
		return nil, err
	}
	if err := r.askOwner(ctx, out); err != nil {
		return nil, err
	}
	out.decide(denied, r.Folder.Stored != nil && r.Folder.Stored.Warn)
	return out, nil
}

// askOwner adds what the owner's rules say, which must allow, too.
func (r *Request) askOwner(ctx context.Context, out *Result) error {
	s := r.Folder.Stored
	if s == nil || s.Owner == nil || s.Owner.Rules == nil {
		return nil
	}
	d, err := s.Owner.Rules.Decide(ctx, s.forOwner(out))
	if err != nil {
		return err
	}
	if !d.Allowed && len(d.Denials) == 0 {
		d.Denials = []policy.Reason{{Code: "POLICY_EVAL", Message: "it neither allows nor says why not"}}
	}
	for i := range d.Denials {
		d.Denials[i].Message = "by the owner's policy: " + d.Denials[i].Message
	}
	out.owner = d
	out.Rules.Obligations = slices.Concat(out.Rules.Obligations, d.Obligations)
	return nil
}

// prepare makes the input document. Reasons deny whatever the policy says; without a
// document the policy is not asked.
func (r *Request) prepare(ctx context.Context, out *Result) ([]policy.Reason, error) {
	denied := r.checkJob(out.Release)
	tag := out.Release.Tag
	if tag != nil {
		keys, _ := tagKeys(r.Folder.Authority)
		out.TagSigner, out.TagReason = git.VerifyTag(tag, out.Release.Git.Ref, keys, r.Now)
		if out.TagReason != nil && always[out.TagReason.Code] {
			denied = append(denied, *out.TagReason)
		}
	} else {
		out.TagReason = &policy.Reason{Code: git.CodeNotAnnotated, Subject: out.Release.Git.Ref, Hint: "make an annotated, signed tag: hallmark tag",
			Message: fmt.Sprintf("%s is no annotated tag, so that nobody signed it", out.Release.Git.Ref)}
	}
	matches, why := r.name(out)
	if why != nil {
		denied = append(denied, *why)
	}
	if len(denied) > 0 {
		return denied, nil
	}
	doc, err := r.document(ctx, out, matches)
	if err != nil {
		return nil, err
	}
	why, err = r.approvals(ctx, out)
	if err != nil {
		return nil, err
	}
	if why != nil {
		return []policy.Reason{*why}, nil
	}
	out.fillApprovals(doc)
	out.Input = doc
	for _, veto := range approval.Vetoes(out.Approvals.Valid) {
		denied = append(denied, rejected(veto, out.Release, r.Now))
	}
	return denied, nil
}

// always are the codes of tags that no policy can wave through.
var always = map[string]bool{git.CodeMalformed: true, git.CodeNameMismatch: true, git.CodeTargetType: true}

// checkJob demands that the CI's identity is of this very commit, and of now.
func (r *Request) checkJob(rel *git.Release) []policy.Reason {
	j := r.Job
	if j == nil {
		return nil
	}
	var out []policy.Reason
	if j.Commit != rel.Git.CommitChecksum {
		out = append(out, policy.Reason{Code: CodeCommitMismatch, Subject: rel.Git.Ref, Hint: "run the job again for the ref as it is now",
			Message: fmt.Sprintf("%s leads to commit %s, and this run is of %s", rel.Git.Ref, short(rel.Git.CommitChecksum), short(j.Commit))})
	} else if j.Ref != rel.Git.Ref {
		out = append(out, policy.Reason{Code: CodeCommitMismatch, Subject: rel.Git.Ref, Hint: "run the job for the ref that is to be released",
			Message: fmt.Sprintf("%s is asked about, and this run is of %s", rel.Git.Ref, j.Ref)})
	}
	if d := r.Now.Sub(j.IssuedAt).Abs(); !j.IssuedAt.IsZero() && d > MaxSkew {
		out = append(out, policy.Reason{Code: CodeClock, Hint: "set the clock of this machine",
			Message: fmt.Sprintf("the clock says %s, and the CI's identity was made at %s; they may differ by %v",
				r.Now.UTC().Format(time.RFC3339), j.IssuedAt.UTC().Format(time.RFC3339), MaxSkew)})
	}
	return out
}

// name settles which repository is meant, and whether the signed tag says so.
func (r *Request) name(out *Result) (matches bool, why *policy.Reason) {
	var said string
	if out.Release.Tag != nil && out.TagSigner != nil {
		trailers, why := out.Release.Tag.Trailers()
		if why != nil {
			return false, why
		}
		said = trailers.Repository
	}
	switch {
	case r.Job != nil:
		out.Key = r.Job.Key()
	case r.Key != "":
		out.Key = r.Key
	case said != "":
		out.Key = said
	default:
		out.Key = input.Local
	}
	if said != "" && said != out.Key {
		return false, &policy.Reason{Code: git.CodeOtherRepository, Subject: out.Release.Git.Ref, Hint: "make the tag anew in the repository that it is for: hallmark tag",
			Message: fmt.Sprintf("tag %s was signed for %s, and this is %s", out.Release.Tag.Name, said, out.Key)}
	}
	return said != "", nil
}

// decide joins what the engine and the rules say. Where the rules miss a signed tag, what
// is wrong with it is said instead.
func (out *Result) decide(denied []policy.Reason, warn bool) {
	reasons := slices.Clone(denied)
	add := func(why policy.Reason) {
		if !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
	}
	if out.untold() {
		reasons = append(reasons, *out.TagReason)
	}
	for _, why := range out.Rules.Denials {
		if out.TagReason != nil && strings.HasPrefix(why.Code, "TAG_") {
			why = *out.TagReason
		}
		if why.Code == approval.CodeRejected && slices.ContainsFunc(denied, func(o policy.Reason) bool { return o.Code == why.Code }) {
			continue // every rejection is told already, whatever the rules ask about them
		}
		add(why)
	}
	if !out.Rules.Allowed && len(reasons) == 0 {
		add(policy.Reason{Code: "POLICY_EVAL", Message: "the policy neither allows nor says why not"})
	}
	out.Decision.Warnings = out.Approvals.Warnings
	if warn && !out.Rules.Allowed {
		reasons = append(slices.Clone(denied), out.wave(reasons[len(denied):])...)
	}
	for _, why := range out.owner.Denials {
		add(why)
	}
	out.Decision.Allowed, out.Decision.Reasons = len(reasons) == 0, reasons
	for _, text := range slices.Concat(out.Rules.Warnings, out.owner.Warnings) {
		out.Decision.Warnings = append(out.Decision.Warnings, policy.Reason{Code: "POLICY_WARNING", Message: text})
	}
}

// wave makes warnings of what a policy in mode "warn" denies. What was not asked because the input is
// incomplete stays.
func (out *Result) wave(reasons []policy.Reason) (stay []policy.Reason) {
	out.Warned = true
	for _, why := range reasons {
		if why.Code == input.CodeIncomplete {
			stay = append(stay, why)
			continue
		}
		why.Message, why.Code = "["+why.Code+"] "+why.Message, CodeWouldDeny
		out.Decision.Warnings = append(out.Decision.Warnings, why)
	}
	return stay
}

// untold reports whether the rules said no without naming what is wrong with the tag, and
// something is: it is the likely cause.
func (out *Result) untold() bool {
	return !out.Rules.Allowed && out.TagReason != nil && out.Release.Git.TagName != "" &&
		!slices.ContainsFunc(out.Rules.Denials, func(r policy.Reason) bool { return r.Code != "POLICY_DENIED" })
}

func rejected(a approval.Approval, rel *git.Release, now time.Time) policy.Reason {
	when, comment := "", ""
	if !a.IssuedAt.IsZero() {
		when = " " + now.Sub(a.IssuedAt).Truncate(time.Minute).String() + " ago"
	}
	if a.Comment != "" {
		comment = fmt.Sprintf(": %q", a.Comment)
	}
	return policy.Reason{Code: approval.CodeRejected, Subject: rel.Git.CommitChecksum, Hint: "talk with " + a.Principal + "; a release of another commit can be approved anew",
		Message: fmt.Sprintf("%s rejected %s%s%s", a.Principal, short(rel.Git.CommitChecksum), when, comment)}
}

// tagKeys are the keys that may sign tags, and beside each whose it is.
func tagKeys(d *authority.Document) (out []git.TagKey, holders []authority.Holder) {
	for _, h := range d.Keys(authority.UseTag) {
		k := git.TagKey{Principal: h.Principal.Name, Kind: h.Key.Kind, NotBefore: h.Key.NotBefore, NotAfter: h.Key.NotAfter, RequireUV: h.Key.RequireUV}
		switch h.Key.Kind {
		case authority.SSH:
			k.SSH = h.Key.SSH()
		case authority.OpenPGP:
			k.OpenPGP = h.Key.PublicKey
		case authority.X509:
			k.X509 = h.Key.Certificate()
		default:
			continue // a keyless tag is not of a kind that is read
		}
		out, holders = append(out, k), append(holders, h)
	}
	return out, holders
}

func short(id string) string { return id[:min(len(id), 12)] }
