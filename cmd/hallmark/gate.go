package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
)

func newGateCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "gate",
		Short: "Ask the signing policy whether a release may be built",
		Long: `The gate before a build: the signing policy of a repository decides about one
commit, with who signed its tag and who approved it (docs/signing-policy.md).`,
		Example: `  hallmark gate check . v1.4.0
  hallmark gate explain decision.json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newGateCheckCommand(a), newGateExplainCommand(a))
	return c
}

type gateOptions struct {
	releaseOptions
	wait   time.Duration
	output string
}

// gateAnswer is what gate check prints with --json and writes with -o; docs/json.md has
// the table.
type gateAnswer struct {
	Allowed    bool              `json:"allowed"`
	Rehearsal  bool              `json:"rehearsal"`
	Repository string            `json:"repository"`
	Ref        string            `json:"ref"`
	Tag        string            `json:"tag,omitempty"`
	Commit     string            `json:"commit,omitempty"`
	Policy     string            `json:"policy"`
	Root       string            `json:"root,omitempty"` // of a stored policy
	Version    int64             `json:"version,omitempty"`
	Approvers  []string          `json:"approvers"`
	Reasons    []policy.Reason   `json:"reasons,omitempty"`
	Warnings   []policy.Reason   `json:"warnings,omitempty"`
	Ignored    []ignoredApproval `json:"ignored,omitempty"`
	Input      json.RawMessage   `json:"input,omitempty"`
}

type ignoredApproval struct {
	Code             string `json:"code"`
	ClaimedPrincipal string `json:"claimedPrincipal,omitempty"`
	Where            string `json:"where"`
	Message          string `json:"message"`
}

func newGateCheckCommand(a *app) *cobra.Command {
	o := &gateOptions{}
	c := &cobra.Command{
		Use:   "check REPO REF --policy DIR",
		Short: "Decide whether a release may be built and signed",
		Long: `Decide whether a release may be built and signed.

REPO is the URL of a git repository, or a folder, which is read where it is;
nothing in it is run. REF is a tag, a branch or a commit. DIR holds the signing
policy: authority.json, signing.rego and perhaps data.json (default .hallmark of a
folder). With --store-config it is the policy that a store has in force for --repository
(docs/signing-policy.md, "By a store").
Either is a rehearsal: nobody else need believe the answer.

--wait asks again until the release is allowed, rejected, or the time is over.

Exit code 0: allowed; 3: denied; 1 and 5: it could not be found out.`,
		Example: `  hallmark gate check . v1.4.0
  hallmark gate check . v1.4.0 --policy .hallmark --repository github.com/id/123456 --json
  hallmark gate check . v1.4.0 --wait 24h
  hallmark gate check . v1.4.0 -o decision.json`,
		Args: cli.Args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, argv []string) error {
			o.repo, o.undecided = argv[0], true
			return a.gateCheck(c.Context(), o, argv[1])
		},
	}
	o.add(c)
	c.Flags().DurationVar(&o.wait, "wait", 0, "ask again for at most this `DURATION` (24h) until enough people approved")
	c.Flags().BoolVar(&o.require, "require", false, "with --store-config: a repository without a policy is denied")
	c.Flags().StringVarP(&o.output, "output", "o", "", "write the decision with all that the policy saw to `FILE`, for gate explain")
	return c
}

// add adds the flags that all commands about a release have.
func (o *releaseOptions) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.policy, "policy", "", "`DIR` with the signing policy (default .hallmark in the folder)")
	f.StringVar(&o.storeConfig, "store-config", "", "`FILE` that says which policy store is asked (docs/signing-policy.md), in place of --policy")
	f.StringVar(&o.repository, "repository", "", "the repository's `KEY`, such as github.com/id/123456 (default: what the signed tag says, else local)")
	f.StringArrayVar(&o.dirs, "approval-dir", nil, "`DIR` with approvals, beside those in the repository; may repeat")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
}

func (a *app) gateCheck(ctx context.Context, o *gateOptions, ref string) error {
	if o.wait < 0 {
		return fault.Usagef("--wait %v: want a duration such as 24h", o.wait)
	}
	if o.require && o.storeConfig == "" {
		return fault.Usagef("--require is about a policy store: name it with --store-config")
	}
	r, err := a.openRelease(ctx, &o.releaseOptions)
	if err != nil {
		return err
	}
	defer r.close()
	again := false
	res, err := a.awaitRelease(ctx, func() (*judge.Result, error) {
		if again { // a store may have another policy in force by now
			if err := r.ask(ctx); err != nil {
				return nil, err
			}
		}
		again = true
		return r.check(ctx, ref)
	}, ref, o.wait)
	if err != nil {
		return err
	}
	answer := gateAnswerOf(r, res, ref)
	if o.output != "" {
		data, err := json.MarshalIndent(answer, "", "  ")
		if err == nil {
			err = durable.WriteFile(o.output, append(data, '\n'), 0o644)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", o.output, err)
		}
	}
	return a.printGate(o, r, res, answer, ref)
}

// Between two looks of --wait: at once after a tag was pushed people approve quickly,
// and a forge that is asked for a day is not asked each second.
const (
	waitFirst = 2 * time.Second
	waitMost  = time.Minute
)

// awaitRelease looks until the release is allowed, or until waiting cannot help. A server
// that answered once and does not for a while is waited for, too.
func (a *app) awaitRelease(ctx context.Context, look func() (*judge.Result, error), ref string, wait time.Duration) (*judge.Result, error) {
	end, pause, said := time.Now().Add(wait), waitFirst, ""
	for {
		res, err := look()
		away := said != "" && fault.KindOf(err) == fault.Unreachable
		if err != nil && !away || err == nil && (res.Decision.Allowed || !worthWaiting(res.Decision)) || time.Until(end) <= 0 {
			return res, err
		}
		state := ""
		if away {
			state = cli.OneLine(err.Error())
		} else {
			state = waitingFor(res, ref)
		}
		if state != said {
			said = state
			a.Say("%s waiting until %s: %s", time.Now().Format(time.TimeOnly), end.Format(time.DateTime), state)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(pause, time.Until(end))):
			pause = min(pause*3/2, waitMost)
		}
	}
}

// worthWaiting reports whether time and people can bring what is missing: approvals, and
// places of approvals that did not answer.
func worthWaiting(d policy.Decision) bool {
	return !slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool {
		return r.Code != "QUORUM_MISSING" && r.Code != "EVIDENCE_UNAVAILABLE" && r.Code != "POLICY_DENIED" && !strings.HasPrefix(r.Code, "SCAN_")
	})
}

func waitingFor(res *judge.Result, ref string) string {
	var why []string
	for _, r := range res.Decision.Reasons {
		why = append(why, "["+r.Code+"] "+cli.OneLine(r.Message))
	}
	return title(res, ref) + ": " + strings.Join(why, "; ")
}

func gateAnswerOf(r *opened, res *judge.Result, ref string) *gateAnswer {
	out := &gateAnswer{Allowed: res.Decision.Allowed, Rehearsal: true, Repository: res.Key, Ref: ref, Policy: res.Policy.Digest, Root: res.Policy.Root, Version: res.Policy.Version,
		Approvers: append([]string{}, approvers(res)...), Reasons: res.Decision.Reasons, Warnings: res.Decision.Warnings}
	if res.Input != nil {
		out.Input, _ = json.Marshal(res.Input) // of texts and numbers
	}
	if res.Release != nil {
		out.Ref, out.Commit = res.Release.Git.Ref, res.Release.Git.CommitChecksum
		if res.Release.Tag != nil {
			out.Tag = res.Release.Tag.ID
		}
	}
	if res.Approvals != nil {
		for _, x := range res.Approvals.Rejected {
			out.Ignored = append(out.Ignored, ignoredApproval{Code: x.Code, ClaimedPrincipal: x.ClaimedPrincipal, Where: x.Where, Message: x.Message})
		}
	}
	return out
}

func (a *app) printGate(o *gateOptions, r *opened, res *judge.Result, answer *gateAnswer, ref string) error {
	if o.asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	a.warnAll(res.Decision)
	if !res.Decision.Allowed {
		err := a.Deny(res.Decision)
		a.sayIgnored(res)
		a.sayFetch(r, res.Decision.Reasons)
		return err
	}
	if !o.asJSON {
		a.Print("allowed    %s", title(res, ref))
		if res.Release.Tag != nil {
			a.Print("tag        %s %s", shortID(res.Release.Tag.ID), signedBy(res))
		}
		a.Print("approved   %s", orNobody(approvers(res)))
		a.Print("policy     %s", policyLine(answer))
		a.Print("repository %s", answer.Repository)
		for _, o := range res.Rules.Obligations {
			if o.Type != "record-vsa" { // every build keeps its verdict
				a.Print("on terms   %s", o.Type)
			}
		}
	}
	a.sayIgnored(res)
	whose := "the policy is that of a folder"
	if o.storeConfig != "" {
		whose = "no CI says that this is " + cli.OneLine(answer.Repository)
	}
	a.Say("This was a rehearsal: %s, and nobody else need believe the answer.", whose)
	return nil
}

func policyLine(answer *gateAnswer) string {
	switch {
	case answer.Policy == "":
		return "none"
	case answer.Root == "":
		return answer.Policy
	}
	return fmt.Sprintf("%s, version %d of root %s", answer.Policy, answer.Version, answer.Root)
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "by nobody"
	}
	return "by " + strings.Join(names, ", ")
}
