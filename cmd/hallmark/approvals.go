package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
)

func fingerprintOf(s *sshsigner.Signer) string { return ssh.FingerprintSHA256(s.PublicKey()) }

// approvalsAnswer is what approvals prints with --json; docs/json.md has the table.
type approvalsAnswer struct {
	Ref       string            `json:"ref"`
	Commit    string            `json:"commit"`
	Policy    string            `json:"policy"`
	Approvals []shownApproval   `json:"approvals"`
	Ignored   []ignoredApproval `json:"ignored"`
}

type shownApproval struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal"`
	Decision  string    `json:"decision"`
	Note      string    `json:"note,omitempty"`
	Key       string    `json:"key"`
	Strength  string    `json:"protection"`
	Issued    time.Time `json:"issuedAt"`
	Expires   time.Time `json:"expiresAt"`
	Where     string    `json:"where"`
}

func newApprovalsCommand(a *app) *cobra.Command {
	o := &releaseOptions{}
	c := &cobra.Command{
		Use:   "approvals REF",
		Short: "List the approvals of a release: whose count, and why others do not",
		Long: `List the approvals of a release that lie in the repository (and in --approval-dir):
who approved or rejected it, with which key and until when, and of each that does
not count the reason.`,
		Example: `  hallmark approvals v1.4.0
  hallmark approvals v1.4.0 -C ../origin.git --policy .hallmark --json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.approvals(c.Context(), o, argv[0]) },
	}
	o.add(c)
	c.Flags().StringVarP(&o.repo, "repo", "C", ".", "the repository: a `DIR` or URL")
	return c
}

func (a *app) approvals(ctx context.Context, o *releaseOptions, ref string) error {
	r, err := a.openRelease(ctx, o)
	if err != nil {
		return err
	}
	defer r.close()
	res, err := r.check(ctx, ref)
	if err != nil {
		return err
	}
	if res.Approvals == nil {
		return a.Deny(res.Decision)
	}
	answer := approvalsAnswer{Ref: res.Release.Git.Ref, Commit: res.Release.Git.CommitChecksum, Policy: res.Policy.Digest,
		Approvals: []shownApproval{}, Ignored: append([]ignoredApproval{}, gateAnswerOf(r, res, ref).Ignored...)}
	for _, x := range res.Approvals.Valid {
		answer.Approvals = append(answer.Approvals, shownApproval{ID: x.ID, Principal: x.Principal, Decision: x.Decision, Note: x.Comment,
			Key: x.Key, Strength: x.Protection, Issued: x.IssuedAt, Expires: x.ExpiresAt, Where: x.Where})
	}
	if o.asJSON {
		return a.PrintJSON(answer)
	}
	a.Print("%s", title(res, ref))
	for _, x := range answer.Approvals {
		a.Print("%s", strings.TrimRight(fmt.Sprintf("  %-8s %s (%s, %s) until %s  %s", x.Decision, x.Principal, x.Key, x.Strength, x.Expires.UTC().Format(time.RFC3339), cli.OneLine(x.Note)), " "))
	}
	if len(answer.Approvals) == 0 {
		a.Print("  no approval counts")
	}
	a.sayIgnored(res)
	a.sayFetch(r, res.Decision.Reasons)
	return nil
}

// pendingTags is how many of the newest tags pending looks at.
const pendingTags = 20

// pendingAnswer is what pending prints with --json; docs/json.md has the table.
type pendingAnswer struct {
	Pending []pendingRelease `json:"pending"`
}

type pendingRelease struct {
	Ref       string          `json:"ref"`
	Commit    string          `json:"commit,omitempty"`
	Approvers []string        `json:"approvers"`
	Reasons   []policy.Reason `json:"reasons"`
}

func newPendingCommand(a *app) *cobra.Command {
	o := &releaseOptions{}
	c := &cobra.Command{
		Use:   "pending",
		Short: "List tags that the signing policy does not allow yet, and who is missing",
		Long: `List the tags that the signing policy does not allow yet: who approved each, and
what is missing. It looks at the 20 newest tags, by the version in their names.`,
		Example: `  hallmark pending`,
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.pending(c.Context(), o) },
	}
	o.add(c)
	c.Flags().StringVarP(&o.repo, "repo", "C", ".", "the repository: a `DIR` or URL")
	return c
}

func (a *app) pending(ctx context.Context, o *releaseOptions) error {
	r, err := a.openRelease(ctx, o)
	if err != nil {
		return err
	}
	defer r.close()
	tags, more, err := r.repo.Tags(ctx, 10_000)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return fault.NotFoundf("%s has no tags", r.repo.Location)
	}
	names := make([]string, len(tags))
	for i, t := range tags {
		names[i] = t.Ref
	}
	slices.SortFunc(names, func(x, y string) int { return judge.CompareVersions(y, x) })
	answer := pendingAnswer{Pending: []pendingRelease{}}
	looked := names[:min(len(names), pendingTags)]
	for _, ref := range looked {
		res, err := r.check(ctx, ref)
		if err != nil {
			return err
		}
		if res.Decision.Allowed {
			continue
		}
		p := pendingRelease{Ref: ref, Approvers: append([]string{}, approvers(res)...), Reasons: res.Decision.Reasons}
		if res.Release != nil {
			p.Commit = res.Release.Git.CommitChecksum
		}
		answer.Pending = append(answer.Pending, p)
	}
	if o.asJSON {
		return a.PrintJSON(answer)
	}
	for _, p := range answer.Pending {
		a.Print("%s %s approved %s", cli.OneLine(strings.TrimPrefix(p.Ref, "refs/tags/")), shortID(p.Commit), orNobody(p.Approvers))
		for _, why := range p.Reasons {
			a.Print("  [%s] %s", why.Code, cli.OneLine(why.Message))
		}
	}
	for _, p := range answer.Pending {
		if a.sayFetch(r, p.Reasons) {
			break
		}
	}
	if len(answer.Pending) == 0 {
		a.Print("nothing is pending among the newest %d tags", len(looked))
	}
	if more || len(names) > len(looked) {
		a.Say("%d older tags were not looked at", len(names)-len(looked))
	}
	return nil
}
