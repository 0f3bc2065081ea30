package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Which services sign and which trust root judges: what a flag names, else what
// HALLMARK_SIGNING_CONFIG and HALLMARK_TRUSTED_ROOT name (hallmark up env prints
// them), else Sigstore's public instance, by TUF. Signing with a key never falls
// through to the public instance: who has a key of their own did not ask for a
// public record.

// serviceFlags say which signing services and which trust root are used.
type serviceFlags struct {
	signingConfig string
	trustedRoot   string
}

func (f *serviceFlags) addSigning(c *cobra.Command) {
	c.Flags().StringVar(&f.signingConfig, "signing-config", "", "`FILE` that names CA, log and TSA; \"public\" is Sigstore's public instance, \"none\" no service")
	f.addTrust(c)
}

func (f *serviceFlags) addTrust(c *cobra.Command) {
	c.Flags().StringVar(&f.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
}

// configSource is where the signing config comes from: a file, a word, or "" for none.
func (f *serviceFlags) configSource(a *app, keyless bool) string {
	source := cmp.Or(f.signingConfig, a.Env(cli.EnvSigningConfig))
	if source == "" && keyless {
		return cli.PublicInstance
	}
	return source
}

// signingConfig reads the signing config; nil means that no services are used,
// which only signing with a key can do.
func (a *app) signingConfig(ctx context.Context, f *serviceFlags, withKey bool) (*trust.SigningConfig, error) {
	source := f.signingConfig
	if source == "" {
		source = a.Env(cli.EnvSigningConfig)
	}
	if source == "" && withKey {
		a.Say("no signing services are configured: signing with the key alone, without log and timestamp")
		return nil, nil
	}
	if source == cli.NoServices {
		if !withKey {
			return nil, fault.Usagef("--signing-config none: keyless signing needs services")
		}
		return nil, nil
	}
	data, err := a.TrustFile(ctx, source, cli.TargetSigningConfig)
	if err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	c, err := trust.ParseSigningConfig(data)
	if err != nil {
		return nil, fmt.Errorf("signing config %s: %w", cli.SourceName(source), err)
	}
	if err := c.Unmet(time.Now()); err != nil {
		return nil, fmt.Errorf("signing config %s: %w", cli.SourceName(source), err)
	}
	return c, nil
}
