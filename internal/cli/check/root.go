package check

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

// rootOrder is the order of the commands in hallmark-verify --help.
var rootOrder = []string{"verify", "show", "trust", "completion", "version"}

// Root is the command line of hallmark-verify: the commands that look and judge,
// and nothing that builds, signs or serves. It has no policy engine.
func Root(a *cli.App) *cobra.Command {
	root := a.Root(&cobra.Command{
		Use:   "hallmark-verify",
		Short: "Check who signed an image or a file, and that it is the one you want",
	})
	checks := &Commands{App: a}
	root.AddCommand(checks.Verify(), checks.VerifyAttestation(), checks.Show(), checks.Trust(), a.CompletionCommand("hallmark-verify"), a.VersionCommand())
	for _, c := range root.Commands() {
		withoutPolicy(c)
	}
	cli.Help(root, rootOrder)
	cli.Rename(root)
	return root
}

// withoutPolicy takes --policy out of a command's help. The flag stays, so that
// who gives it is told where it works.
func withoutPolicy(c *cobra.Command) {
	if c.Flags().Lookup("policy") == nil {
		return
	}
	_ = c.Flags().MarkHidden("policy") // fails only for flags that do not exist
	lines := slices.DeleteFunc(strings.Split(c.Example, "\n"), func(line string) bool { return strings.Contains(line, "--policy") })
	c.Example = strings.Join(lines, "\n")
}
