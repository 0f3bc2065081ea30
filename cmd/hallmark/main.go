// Command hallmark takes container images from a trusted commit to an admitted
// pod: it checks, builds, signs, attaches, verifies and decides, and runs a
// private Sigstore on one machine.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case policyProcess:
			os.Exit(evaluatePolicies(sourcepolicy.ServeSandbox))
		case signingPolicyProcess:
			os.Exit(evaluatePolicies(rules.ServeSandbox))
		}
	}
	os.Exit(run(os.Args[1:], newApp()))
}

// run executes one command line and returns its exit code.
func run(args []string, a *app) int { return a.Execute(newRootCommand(a), args) }

// app is the command line with the commands of this binary.
type app struct{ *cli.App }

func newApp() *app { return &app{cli.New(version)} }

// The groups of --help, in the order in which people meet them.
const (
	groupRelease = "release"
	groupCheck   = "check"
	groupSetup   = "setup"
)

// helpOrder is the order of the commands in hallmark --help, whose last line names the rest.
var helpOrder = []string{
	"build", "sign", "attest", "tag", "review", "approve",
	"verify", "show", "trust", "policy", "signing-policy", "gate", "log", "admit",
	"up", "authority", "key", "doctor",
}

func newRootCommand(a *app) *cobra.Command {
	root := a.Root(&cobra.Command{
		Use:   "hallmark",
		Short: "From a trusted commit to an admitted pod, with evidence at every step",
		Long: `Hallmark builds, signs, verifies and admits container images, and runs the
whole private Sigstore that this needs on one machine.`,
	})
	root.AddGroup(
		&cobra.Group{ID: groupRelease, Title: "Build, release and sign:"},
		&cobra.Group{ID: groupCheck, Title: "Verify and decide:"},
		&cobra.Group{ID: groupSetup, Title: "Keys, identity and the private Sigstore:"},
	)
	cli.Help(root, helpOrder, "approvals", "bake", "convert", "env", "pending", "reject", "store", "token")
	checks := a.checks()
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupRelease, []*cobra.Command{newBuildCommand(a), newBakeCommand(a), newInputsCommand(a), newSignCommand(a), newAttestCommand(a), newConvertCommand(a),
			newTagCommand(a), newReviewCommand(a), newApproveCommand(a), newRejectCommand(a)}},
		{groupCheck, []*cobra.Command{checks.Verify(), checks.VerifyAttestation(), checks.Show(), checks.Trust(), newPolicyCommand(a), newLogCommand(a), newAdmitCommand(a),
			newSigningPolicyCommand(a), newGateCommand(a), newApprovalsCommand(a), newPendingCommand(a), newStoreCommand(a)}},
		{groupSetup, []*cobra.Command{newUpCommand(a), newAuthorityCommand(a), newTokenCommand(a), newKeyCommand(a), newDoctorCommand(a), newEnvCommand(a), a.VersionCommand(), a.CompletionCommand("hallmark")}},
	} {
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	return root
}

// checks are the commands that verify, for others to judge as they do.
func (a *app) checks() *check.Commands {
	return &check.Commands{App: a.App, Statements: statementPolicies}
}
