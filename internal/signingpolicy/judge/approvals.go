package judge

import (
	"context"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// expected is what an approval of the release must be about. The owner is not compared:
// people at their desk know the one that a record binds, and a folder binds none.
func expected(out *Result) approval.Expected {
	want := approval.Expected{Action: approval.ActionBuild, Repository: approval.Repository{Key: out.Key},
		Commit: out.Release.Git.CommitChecksum, Ref: out.Release.Git.Ref, Tree: out.Release.Commit.Tree, Policy: out.Policy, Now: out.now, Keyless: out.keyless}
	if out.Release.Tag != nil {
		want.TagObject = out.Release.Tag.ID
	}
	return want
}

// approvals collects and judges approvals of the commit. A place that cannot be read
// denies: what lies there may be a veto.
func (r *Request) approvals(ctx context.Context, out *Result) (*policy.Reason, error) {
	commit, want := out.Release.Git.CommitChecksum, expected(out)
	found := r.Folder.Stored.notices()
	var unread, dropped, shown int
	// Of what anybody can put there in any number, only what counts, and some of the rest
	// for people to see, is held in memory.
	keep := func(f git.Found) bool {
		one := approval.Judge(r.Folder.Authority, want, []approval.Found{{Where: f.Ref, Data: f.Envelope}})
		if len(one.Valid) > 0 {
			return true
		}
		if shown < approval.MaxKept {
			shown++
			return true
		}
		dropped++
		return false
	}
	take := func(l *git.Listing, err error) error {
		if err != nil {
			return err
		}
		for _, f := range l.Found {
			found = append(found, approval.Found{Where: f.Ref, Data: f.Envelope})
		}
		unread += l.Unread
		return nil
	}
	err := take(r.Repo.Approvals(ctx, commit, keep))
	for i := 0; err == nil && i < len(r.Dirs); i++ {
		err = take(git.ReadApprovalDir(r.Dirs[i], commit, keep))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return &policy.Reason{Code: git.CodeEvidence, Subject: commit, Hint: "try again when it can be read; what cannot be read is not taken for none",
			Message: fmt.Sprintf("approvals of %s could not be read: %v", short(commit), err)}, nil
	}
	out.Approvals = approval.Judge(r.Folder.Authority, want, found)
	if out.Approvals.Ignored += dropped; dropped > 0 && len(out.Approvals.Warnings) == 0 {
		out.Approvals.Warnings = append(out.Approvals.Warnings, policy.Reason{Code: approval.CodeTooMany, Subject: commit,
			Message: fmt.Sprintf("%d approvals of %s were found; all of them were looked at", len(found)+dropped, short(commit))})
	}
	if unread > 0 {
		out.Approvals.Warnings = append(out.Approvals.Warnings, policy.Reason{Code: approval.CodeTooMany, Subject: commit,
			Message: fmt.Sprintf("%d approvals beyond the first %d were not read", unread, git.MaxApprovals)})
	}
	return nil, nil
}

// fillApprovals puts what counts, and what does not, into the document.
func (out *Result) fillApprovals(doc *input.Document) {
	for _, a := range out.Approvals.Valid {
		doc.Approvals = append(doc.Approvals, input.Approval{ID: a.ID, Source: a.Source, Principal: a.Principal, Account: a.Account,
			Decision: a.Decision, Comment: a.Comment, Protection: a.Protection, Attested: a.Attested, UserVerified: a.UserVerified, Kind: a.Kind,
			IssuedAt: timeOf(a.IssuedAt), ExpiresAt: timeOf(a.ExpiresAt), ReviewedBase: a.ReviewedBase, Environment: a.Environment})
	}
	for _, r := range out.Approvals.Rejected {
		doc.Rejected = append(doc.Rejected, input.Rejected{Source: r.Source, ClaimedPrincipal: r.ClaimedPrincipal, Code: r.Code})
	}
}

// Would says how an approval that is to be given would be judged by the gate.
func (out *Result) Would(f *Folder, envelope []byte, now time.Time) (*approval.Approval, *policy.Reason) {
	want := expected(out)
	want.Now = now
	got := approval.Judge(f.Authority, want, []approval.Found{{Where: "this approval", Data: envelope}})
	for _, a := range got.Valid {
		return &a, nil
	}
	for _, r := range got.Rejected {
		return nil, &policy.Reason{Code: r.Code, Subject: r.ID, Message: "the approval would not count: " + r.Message, Hint: anew(r.Code)}
	}
	return nil, &policy.Reason{Code: approval.CodeMalformed, Message: "the approval would not count"}
}

// anew says how an approval that would not count becomes one that does.
func anew(code string) string {
	switch code {
	case approval.CodeWrongNamespace:
		return "sign it for approvals: ssh-keygen -Y sign -n " + approval.Namespace
	case approval.CodeKeyNotOfPrincipal:
		return "whom the statement names signs it, with a key that the policy lists as theirs"
	case approval.CodeNotNamed, approval.CodeKeyUse:
		return "people whom the policy names approve, with a key whose uses say so"
	}
	return "make it anew for the release as it is now"
}
