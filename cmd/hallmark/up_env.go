package main

import (
	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
)

// upEnvAnswer is what up env --json prints; the names are those of the variables.
type upEnvAnswer struct {
	TrustedRoot   string `json:"HALLMARK_TRUSTED_ROOT"`   // path
	SigningConfig string `json:"HALLMARK_SIGNING_CONFIG"` // path
	Data          string `json:"HALLMARK_DATA"`           // path of the data folder
	Registry      string `json:"HALLMARK_REGISTRY"`       // host:port of the registry
	TUFRoot       string `json:"TUF_ROOT"`                // path: cosign's own cache for this authority
}

func newUpEnvCommand(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "env",
		Short: "Print the export lines that make hallmark and cosign use it",
		Example: `  eval "$(hallmark up env)"
  hallmark up env --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			i, err := authority.Read(dir)
			if err != nil {
				return err
			}
			e := upEnvAnswer{i.TrustedRoot, i.SigningConfig, i.Dir, i.Registry, i.CosignTUF}
			if asJSON {
				return a.PrintJSON(e)
			}
			for _, kv := range [][2]string{
				{"HALLMARK_TRUSTED_ROOT", e.TrustedRoot}, {"HALLMARK_SIGNING_CONFIG", e.SigningConfig}, {envData, e.Data},
				{"HALLMARK_REGISTRY", e.Registry}, {"TUF_ROOT", e.TUFRoot},
			} {
				a.Print("export %s=%s", kv[0], cli.ShellQuote(kv[1]))
			}
			return nil
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
