// Command hallmark takes container images from a trusted commit to an admitted
// pod: it checks, builds, signs, attaches, verifies and decides, and runs a
// private Sigstore on one machine.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

func main() {
	os.Exit(run(os.Args[1:], newApp()))
}

// run executes one command line and returns its exit code.
func run(args []string, a *app) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	err := root.ExecuteContext(ctx)
	return a.Exit(ctx, err)
}

// app is the command line with the commands of this binary.
type app struct{ *cli.App }

func newApp() *app { return &app{cli.New(version)} }

// The groups of --help, in the order in which people meet them.
const (
	groupRelease = "release"
	groupCheck   = "check"
	groupSetup   = "setup"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "hallmark",
		Short: "From a trusted commit to an admitted pod, with evidence at every step",
		Long: `Hallmark builds, signs, verifies and admits container images, and runs the
whole private Sigstore that this needs on one machine.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return refuseEmptyFlags(c) }
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return cli.UsageError(c, err) })
	root.PersistentFlags().BoolVar(&a.PlainHTTP, "plain-http", false, "speak plain HTTP to registries and services that are not on this machine")
	root.AddGroup(
		&cobra.Group{ID: groupRelease, Title: "Build and sign:"},
		&cobra.Group{ID: groupCheck, Title: "Verify and decide:"},
		&cobra.Group{ID: groupSetup, Title: "Keys, identity and the private Sigstore:"},
	)
	root.SetHelpFunc(helpFunc(root.HelpFunc()))
	checks := &check.Commands{App: a.App, Statements: statementPolicies}
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupRelease, []*cobra.Command{newBuildCommand(a), newSignCommand(a), newAttestCommand(a)}},
		{groupCheck, []*cobra.Command{checks.Verify(), checks.VerifyAttestation(), checks.Show(), checks.Trust(), newAdmitCommand(a)}},
		{groupSetup, []*cobra.Command{newUpCommand(a), newTokenCommand(a), newKeyCommand(a), newEnvCommand(a), newCompletionCommand(a), newVersionCommand(a)}},
	} {
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	return root
}

// refuseEmptyFlags refuses --key "$KEY" and the like where the variable is not
// set: to go on as if the flag had not been given would sign as somebody else, or
// demand less, than the caller wrote.
func refuseEmptyFlags(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && f.Value.Type() == "string" && f.Value.String() == "" {
			err = fault.Hint(fault.Usagef("--%s is given without a value", f.Name), "is the variable that it comes from set? Leave the flag out if it is not meant")
		}
	})
	return err
}
