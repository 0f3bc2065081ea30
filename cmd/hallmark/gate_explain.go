package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// CodeDigest is a policy that is not the one of a kept decision.
const CodeDigest = "POLICY_DIGEST_MISMATCH"

func newGateExplainCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "explain FILE --policy DIR",
		Short: "Replay a decision that was kept, rule by rule",
		Long: `Replay a decision that gate check -o kept: the same policy is asked about what
it saw then, at that time, and each of its rules is shown with what became of it.
The folder must hold the very policy that decided.

Exit code 0: allowed, as it was; 3: denied, or another policy.`,
		Example: `  hallmark gate explain decision.json --policy .hallmark`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, argv []string) error { return a.gateExplain(c.Context(), argv[0], dir) },
	}
	c.Flags().StringVar(&dir, "policy", proposalFolder, "`DIR` with the signing policy")
	return c
}

func (a *app) gateExplain(ctx context.Context, file, dir string) error {
	kept, doc, err := readDecision(file)
	if err != nil {
		return err
	}
	folder, d, err := a.readSigningPolicy(dir)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return a.Deny(d)
	}
	digest, err := folder.Digest()
	if err != nil {
		return err
	}
	if digest != kept.Policy {
		return a.Deny(policy.Deny(policy.Reason{Code: CodeDigest, Subject: dir, Hint: "name the folder as it was when the decision was made",
			Message: fmt.Sprintf("%s was decided by policy %s, and %s holds %s", file, kept.Policy, dir, digest)}))
	}
	steps, err := folder.Rules.Explain(ctx, doc)
	if err != nil {
		return err
	}
	for _, s := range steps {
		a.printStep(s)
	}
	again, err := folder.Rules.Decide(ctx, doc)
	if err != nil {
		return err
	}
	reasons := kept.Reasons
	switch {
	case !again.Allowed && len(reasons) == 0:
		reasons = again.Denials
	case again.Allowed && kept.Allowed && len(reasons) == 0 && !vetoed(doc):
		a.Print("allowed    %s %s at %s", cli.OneLine(doc.Git.Ref), shortID(doc.Git.CommitChecksum), doc.Now)
		return nil
	}
	if len(reasons) == 0 {
		return fault.Hint(fault.Usagef("%s contradicts itself: what it holds leads to another answer than it gives", file), "decide anew: hallmark gate check")
	}
	for i := range reasons {
		reasons[i].Code = cli.OneLine(reasons[i].Code)
	}
	return a.Deny(policy.Deny(reasons...))
}

// vetoed reports whether somebody rejected the release, which ends it whatever the rules say.
func vetoed(doc *input.Document) bool {
	return slices.ContainsFunc(doc.Approvals, func(x input.Approval) bool { return x.Decision == approval.Reject })
}

// readDecision reads a kept decision and the document in it.
func readDecision(file string) (*gateAnswer, *input.Document, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, fault.As(fault.Usage, err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fault.Usagef("%s: no file", file)
	}
	if info.Size() > 2*input.MaxDocument {
		return nil, nil, fault.Usagef("%s: %d bytes are no decision of gate check -o", file, info.Size())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	var kept gateAnswer
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, nil, fault.Usagef("%s: no decision of gate check -o: %v", file, err)
	}
	if len(kept.Input) == 0 {
		return nil, nil, fault.Usagef("%s: the policy was not asked, so there is nothing to replay: the reasons in the file say why", file)
	}
	doc, why, err := input.Parse(kept.Input)
	if err != nil {
		return nil, nil, fault.Usagef("%s: its input: %v", file, err)
	}
	if len(why) > 0 {
		return nil, nil, fault.Usagef("%s: its input is incomplete: %s", file, why[0].Message)
	}
	return &kept, doc, nil
}
