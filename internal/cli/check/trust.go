package check

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// trustCommands are the commands below trust with the file that they are about.
type trustCommands struct {
	*Commands
	file string // of --trust
}

// Trust is the command trust.
func (a *Commands) Trust() *cobra.Command {
	t := &trustCommands{Commands: a}
	c := &cobra.Command{
		Use:   "trust",
		Short: "Say who is believed: roots, keys, pins, revocations",
		Long: `Keep the trust bundle: one file with everything that verify believes before it
looks at an image. It holds Sigstore trusted roots, public keys, Notation's trust
policy and stores, who is pinned for which repository, and what is revoked.

The file is that of --trust, else of HALLMARK_TRUST, else
$XDG_CONFIG_HOME/hallmark/trust.json. Whoever can change it can make anything
verify. docs/trust.md describes it.`,
		Example: `  hallmark trust show
  hallmark trust pin 127.0.0.1:8420/app:1.0 --identity alice@example.com --issuer http://127.0.0.1:8420`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&t.file, "trust", "", "`FILE` with the trust bundle")
	c.AddCommand(t.add(), t.importing(), t.export(), t.show(), t.check(), t.update(), t.remove(), t.revoke(), t.pin())
	return c
}

// change reads the trust bundle, or begins one, and writes it back changed.
func (t *trustCommands) change(do func(*bundlefile.File) error) error {
	path, _, err := t.TrustPath(t.file)
	if err != nil {
		return err
	}
	return bundlefile.Update(path, do)
}

// done says what was done to which file.
func (t *trustCommands) done(format string, args ...any) {
	t.Print(format, args...)
}

// parseTime reads the time of a flag: RFC 3339, or a day in UTC.
func parseTime(flag, value string) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil {
			t = t.UTC()
			return &t, nil
		}
	}
	return nil, fault.Usagef("--%s %q: want a time as 2026-01-31T12:00:00Z, or a day as 2026-01-31", flag, value)
}
