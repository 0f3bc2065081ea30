package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
)

// approveAnswer is what approve and reject print with --json; docs/json.md has the table.
type approveAnswer struct {
	ID         string          `json:"id"`
	Decision   string          `json:"decision"`
	Principal  string          `json:"principal"`
	Key        string          `json:"key"`
	Repository string          `json:"repository"`
	Ref        string          `json:"ref"`
	Commit     string          `json:"commit"`
	Expires    time.Time       `json:"expires"`
	Where      []string        `json:"where"`
	Allowed    bool            `json:"allowed"`           // what the gate says with it
	Reasons    []policy.Reason `json:"reasons,omitempty"` // why not yet
}

// placeApproval judges the approval as the gate will, puts it where it can be found, and
// says what is missing now.
func (a *app) placeApproval(ctx context.Context, o *approveOptions, r *opened, res *judge.Result, made *approvalMade, ref string) error {
	mine, why := res.Would(r.folder, made.envelope, time.Now())
	if why != nil {
		return a.Deny(policy.Deny(*why))
	}
	commit := res.Release.Git.CommitChecksum
	where, err := o.place(ctx, r.repo.Location, commit, made)
	if err != nil {
		return err
	}
	if o.out != "" {
		r.o.dirs = append(r.o.dirs, o.out)
	}
	after, err := r.check(ctx, ref)
	if err != nil {
		return err
	}
	answer := &approveAnswer{ID: mine.ID, Decision: mine.Decision, Principal: mine.Principal, Key: mine.Key, Repository: res.Key,
		Ref: res.Release.Git.Ref, Commit: commit, Expires: mine.ExpiresAt, Where: where, Allowed: after.Decision.Allowed, Reasons: after.Decision.Reasons}
	if o.asJSON {
		return a.PrintJSON(answer)
	}
	verb := map[string]string{approval.Approve: "approved", approval.Reject: "rejected"}[mine.Decision]
	a.Print("%s   %s by %s (%s)", verb, title(res, ref), mine.Principal, mine.Key)
	if res.Release.Tag != nil {
		a.Print("tag        %s %s", shortID(res.Release.Tag.ID), signedBy(res))
	}
	a.Print("id         %s, until %s", mine.ID, mine.ExpiresAt.UTC().Format(time.RFC3339))
	a.Print("where      %s", strings.Join(where, ", "))
	if after.Decision.Allowed {
		a.Print("gate       allowed, approved %s", orNobody(approvers(after)))
	} else {
		for _, why := range after.Decision.Reasons {
			a.Print("gate       [%s] %s", why.Code, cli.OneLine(why.Message))
		}
		a.sayFetch(r, after.Decision.Reasons)
	}
	return nil
}

// place puts an approval of a commit or proposal into a folder, or into the clone and what it is
// pushed to.
func (o *approveOptions) place(ctx context.Context, clone git.Location, subject string, made *approvalMade) ([]string, error) {
	id := strings.TrimPrefix(made.id, "sha256:")
	if o.out != "" {
		path, err := git.WriteApprovalDir(o.out, subject, id, made.envelope)
		return []string{path}, err
	}
	ref, err := git.PushApproval(ctx, clone, subject, id, made.envelope)
	if err != nil {
		return nil, err
	}
	where := []string{ref}
	remote, err := o.pushTo(clone)
	if err != nil || remote == "" {
		return where, err
	}
	if _, err := git.PushApprovalFrom(ctx, clone.Path, remote, subject, id, made.envelope); err != nil {
		return nil, fault.Hint(fmt.Errorf("the approval is in your clone, but not pushed: %w", err), "git push %s %s", cli.ShellQuote(remote), ref)
	}
	return append(where, remote), nil
}

// pushTo is the remote that an approval goes to, "" for none.
func (o *approveOptions) pushTo(clone git.Location) (string, error) {
	if o.remote == "none" {
		return "", nil
	}
	want := cmp.Or(o.remote, "origin")
	if slices.Contains(remoteNames(filepath.Join(commonDir(clone.Path), "config")), want) {
		return want, nil
	}
	if o.remote != "" {
		return "", fault.Usagef("--remote %s: the clone has no such remote", cli.OneLine(o.remote))
	}
	return "", nil
}

// remoteNames are the remotes that a git configuration file has; nothing of it is obeyed.
func remoteNames(config string) []string {
	text, err := os.ReadFile(config)
	if err != nil {
		return nil // the clone has none, or git will say why it cannot push
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), `[remote "`)
		if name, closed := strings.CutSuffix(name, `"]`); ok && closed {
			out = append(out, name)
		}
	}
	return out
}
