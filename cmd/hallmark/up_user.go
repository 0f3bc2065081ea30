package main

import (
	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
)

// upUserAnswer is what up user add --json prints.
type upUserAnswer struct {
	Email  string `json:"email"`
	Secret string `json:"secret"` // shown this once; only its hash is kept
}

func newUpUserCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "user",
		Short:   "Manage who can log in",
		Example: `  hallmark up user add alice@example.com`,
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newUpUserAddCommand(a))
	return c
}

func newUpUserAddCommand(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "add EMAIL",
		Short: "Give a person a login secret, and print it this once",
		Long: `Give a person a login secret, and print it this once; only its hash is kept. A
person who has one gets a new one, and the old one ends. A running hallmark up
takes it at the next login.`,
		Example: `  hallmark up user add alice@example.com
  hallmark up user add alice@example.com > secret`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, emails []string) error {
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			secret, err := authority.AddUser(dir, emails[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(upUserAnswer{emails[0], secret})
			}
			a.Print("%s", secret)
			a.Say("%s logs in with this secret; it is not shown again", emails[0])
			return nil
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
