package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/proposal"
)

// proposalApproval is what approve and reject print of a proposal with --json; docs/json.md has the
// table.
type proposalApproval struct {
	ID        string            `json:"id"`
	Decision  string            `json:"decision"`
	Action    string            `json:"action"`
	Principal string            `json:"principal"`
	Key       string            `json:"key"`
	Proposal  string            `json:"proposal"`
	Expires   time.Time         `json:"expires"`
	Where     []string          `json:"where"`
	Changes   []proposal.Change `json:"changes"`
	Needs     []proposal.Need   `json:"needs"`
}

// readProposal reads a proposal's file. One with mistakes is denied, and the reasons were printed.
func (a *app) readProposal(file string) (*proposal.Proposal, error) {
	data, err := readSmall(file, proposal.MaxFile)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	p, why := proposal.Parse(data)
	if p == nil {
		return nil, a.Deny(policy.Deny(why...))
	}
	return p, nil
}

// approveProposal is hallmark approve and reject of a change of the policy.
func (a *app) approveProposal(ctx context.Context, o *approveOptions, argv []string) error {
	if len(argv) > 0 || o.policy != "" || o.repository != "" || o.base != "" {
		return fault.Usagef("--proposal says of which policy and repository it is: REF, --policy, --repository and --base are about releases")
	}
	if err := o.checkApprove(); err != nil {
		return err
	}
	p, err := a.readProposal(o.proposal)
	if err != nil {
		return err
	}
	for _, line := range describeProposal(p) {
		a.Say("%s", line)
	}
	made, err := a.signedProposal(o, p)
	if err != nil || made == nil {
		return err
	}
	before := p.Judge([]approval.Found{{Where: made.where, Data: made.envelope}}, nil, time.Now())
	if len(before.Valid) == 0 {
		return a.Deny(policy.Deny(notCounting(before.Rejected[0])))
	}
	mine := before.Valid[0]
	where, found, err := o.placeProposal(ctx, p, made)
	if err != nil {
		return err
	}
	standing := p.Judge(found, nil, time.Now())
	if o.asJSON {
		return a.PrintJSON(&proposalApproval{ID: mine.ID, Decision: mine.Decision, Action: p.ApprovalAction(), Principal: mine.Principal, Key: mine.Key,
			Proposal: string(p.ProposalDigest), Expires: mine.ExpiresAt, Where: where, Changes: p.Changes(), Needs: standing.Needs})
	}
	a.Print("%s   %s by %s (%s)", map[string]string{approval.Approve: "approved", approval.Reject: "rejected"}[mine.Decision], p.ProposalDigest, mine.Principal, mine.Key)
	a.Print("id         %s, until %s", mine.ID, mine.ExpiresAt.UTC().Format(time.RFC3339))
	a.Print("where      %s", strings.Join(where, ", "))
	for _, line := range describeNeeds(standing) {
		a.Print("%s", line)
	}
	return nil
}

func notCounting(r approval.Rejection) policy.Reason {
	return policy.Reason{Code: r.Code, Message: r.Message, Subject: r.Where, Hint: "sign what the proposal says, with a key that the policy lists for it"}
}

// signedProposal makes the approval, or with --export writes what is to be signed and returns nil.
func (a *app) signedProposal(o *approveOptions, p *proposal.Proposal) (*approvalMade, error) {
	if o.attach != "" {
		e, envelope, err := o.attached()
		if err != nil {
			return nil, err
		}
		return &approvalMade{envelope: envelope, id: e.ID, where: o.attach}, nil
	}
	lasts, err := o.lasts(p.MaxAge())
	if err != nil {
		return nil, err
	}
	payload := func(principal string) ([]byte, error) {
		s := p.Approval(o.decision, principal, o.note)
		s.IssuedAt = time.Now().UTC().Truncate(time.Second)
		s.ExpiresAt = s.IssuedAt.Add(lasts)
		out, err := approval.Build(s)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		return out, nil
	}
	if o.export != "" {
		if err := o.checkAs(p.Use(), p.Documents()...); err != nil {
			return nil, err
		}
		text, err := payload(o.as)
		if err != nil {
			return nil, err
		}
		return nil, a.writeExport(o, text, p.Use(), p.Documents()...)
	}
	signer, who, err := a.approverKey(o, p.Use(), p.Documents()...)
	if err != nil {
		return nil, err
	}
	defer signer.Close() //nolint:errcheck // the signature is there, or an error
	text, err := payload(who.Principal.Name)
	if err != nil {
		return nil, err
	}
	return a.signApproval(text, signer, who)
}

// placeProposal puts the approval where others look, and reads all that are there.
func (o *approveOptions) placeProposal(ctx context.Context, p *proposal.Proposal, made *approvalMade) (where []string, found []approval.Found, err error) {
	subject := git.PolicyApprovals(string(p.ProposalDigest))
	var clone git.Location
	dirs := o.dirs
	if o.out != "" {
		dirs = append(dirs, o.out)
	} else if clone, err = git.ParseLocation(o.repo, false); err != nil {
		return nil, nil, err
	}
	if where, err = o.place(ctx, clone, subject, made); err != nil {
		return nil, nil, err
	}
	add := func(l *git.Listing, err error) error {
		if err == nil {
			for _, f := range l.Found {
				found = append(found, approval.Found{Where: f.Ref, Data: f.Envelope})
			}
		}
		return err
	}
	if o.out == "" {
		if err := add(git.ListApprovals(ctx, clone, subject, nil)); err != nil {
			return nil, nil, err
		}
	}
	for _, dir := range dirs {
		if err := add(git.ReadApprovalDir(dir, subject, nil)); err != nil {
			return nil, nil, fault.As(fault.Usage, err)
		}
	}
	return where, found, nil
}

// describeProposal is a proposal for people: what it is, what it changes, and how long it waits.
func describeProposal(p *proposal.Proposal) []string {
	lines := []string{
		fmt.Sprintf("proposal   %s: %s version %d of %s (%s)", p.ProposalDigest, p.Action, p.Version, cli.OneLine(p.Name), p.Key),
		fmt.Sprintf("source     %s at %s", cli.OneLine(p.Source.Ref), p.Source.Commit),
	}
	if p.InForce != nil {
		lines = append(lines, fmt.Sprintf("instead of version %d, %s", p.InForce.Version, p.InForce.Digest))
	}
	lines = append(lines, describeChanges(p.Changes())...)
	if wait, why := p.Delay(time.Now()); wait > 0 {
		lines = append(lines, fmt.Sprintf("waits      %s from when the store shows it: %s", wait, why))
	}
	return lines
}

// describeChanges is a line for each change; those that weaken say so first.
func describeChanges(changes []proposal.Change) []string {
	var lines []string
	for _, c := range changes {
		mark := "       "
		if c.Weakens {
			mark = "WEAKENS"
		}
		lines = append(lines, fmt.Sprintf("%s    %-9s %s", mark, c.What, cli.OneLine(c.Text)))
	}
	return lines
}

// describeNeeds says who approved and who is missing.
func describeNeeds(s *proposal.Standing) []string {
	var lines []string
	for _, n := range s.Needs {
		line := fmt.Sprintf("%s: role %s has %d of %d (%s)", n.Whose, n.Role, len(n.Approved), n.Threshold, namesOf(n.Approved))
		if !n.Reached {
			line += "; missing: " + namesOf(n.Missing)
		}
		lines = append(lines, "needs      "+line)
	}
	return lines
}

func namesOf(people []string) string {
	if len(people) == 0 {
		return "nobody"
	}
	return strings.Join(people, ", ")
}
