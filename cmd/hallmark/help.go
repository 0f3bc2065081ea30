package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// helpFunc shows hallmark --help in the order in which people need the commands,
// on one screen of 24 lines; the commands' own help is cobra's.
func helpFunc(commands func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(c *cobra.Command, argv []string) {
		if c.HasParent() {
			commands(c, argv)
			return
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s.\n", c.Short)
		for _, group := range c.Groups() {
			fmt.Fprintf(&b, "\n%s\n", group.Title)
			for _, name := range helpOrder {
				if sub, _, err := c.Find([]string{name}); err == nil && sub.GroupID == group.ID {
					fmt.Fprintf(&b, "  %-12s%s\n", name, sub.Short)
				}
			}
		}
		b.WriteString("\n--plain-http speaks plain HTTP to registries and services on other machines.\n")
		b.WriteString("hallmark COMMAND --help has the flags of a command, and examples.\n")
		fmt.Fprint(c.OutOrStdout(), b.String())
	}
}

// helpOrder is the order of the commands in hallmark --help.
var helpOrder = []string{
	"build", "sign", "attest",
	"verify", "show", "trust", "admit",
	"up", "token", "key", "env", "completion", "version",
}

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes hallmark's words in a shell",
		Long: `Print a script that completes hallmark's words in a shell. Put it where the shell
looks for such scripts; for zsh, the folder must be in fpath.`,
		Example: `  hallmark completion bash > ~/.local/share/bash-completion/completions/hallmark
  hallmark completion zsh > ~/.zsh/completions/_hallmark
  hallmark completion fish > ~/.config/fish/completions/hallmark.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			switch argv[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return c.Root().GenZshCompletion(a.Stdout)
			case "fish":
				return c.Root().GenFishCompletion(a.Stdout, true)
			}
			return fault.Usagef("completion %s: there are bash, zsh and fish", argv[0])
		},
	}
}
