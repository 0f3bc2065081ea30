package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// tokenAnswer is what token --json prints.
type tokenAnswer struct {
	Token   string    `json:"token"`
	Issuer  string    `json:"issuer"`
	Expires time.Time `json:"expires"`
}

func newTokenCommand(a *app) *cobra.Command {
	var dir, email string
	var asJSON bool
	c := &cobra.Command{
		Use:   "token --email EMAIL",
		Short: "Print an identity token of the private Sigstore",
		Long: `Print an identity token of the private Sigstore on this machine, made with the key
in its data folder: who can read that file can be anybody to this authority, so its
permissions are the guard. The token names the issuer of the folder's last
hallmark up, and is valid for ten minutes.`,
		Example: `  hallmark token --email alice@example.com > token
  SIGSTORE_ID_TOKEN="$(hallmark token --email alice@example.com)" hallmark sign 127.0.0.1:8420/app:1.0`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if email == "" {
				return fault.Usagef("--email says whose token it is")
			}
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			t, err := authority.Mint(dir, email)
			if err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(tokenAnswer{t.Raw, t.Issuer, t.Expires})
			}
			end := "" // cosign takes a file's last newline for a part of the token
			if cli.IsTerminal(a.Stdout) {
				end = "\n"
			}
			_, err = fmt.Fprint(a.Stdout, t.Raw+end)
			return err
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().StringVar(&email, "email", "", "`EMAIL` address that the token is for")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
