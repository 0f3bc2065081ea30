package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Which services sign and which trust root judges: what a flag names, else what
// HALLMARK_SIGNING_CONFIG and HALLMARK_TRUSTED_ROOT name (hallmark up env prints
// them), else Sigstore's public instance, by TUF. Signing with a key never falls
// through to the public instance: who has a key of their own did not ask for a
// public record.

// Names of environment variables; the closed list is in docs/manual.md.
const (
	envSigningConfig = "HALLMARK_SIGNING_CONFIG"
	envTrustedRoot   = "HALLMARK_TRUSTED_ROOT"
)

// Words that the flags take in place of a file.
const (
	publicInstance = "public" // Sigstore's public instance
	noServices     = "none"   // no services: sign with a key alone
)

// Targets of Sigstore's TUF repositories.
const (
	targetSigningConfig = "signing_config.v0.2.json"
	targetTrustedRoot   = "trusted_root.json"
)

// maxTrustFile bounds trusted roots and signing configs.
const maxTrustFile = 4 << 20

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

// signingConfig reads the signing config; nil means that no services are used,
// which only signing with a key can do.
func (a *app) signingConfig(ctx context.Context, f *serviceFlags, withKey bool) (*trust.SigningConfig, error) {
	source := f.signingConfig
	if source == "" {
		source = a.env(envSigningConfig)
	}
	if source == "" && withKey {
		a.say("no signing services are configured: signing with the key alone, without log and timestamp")
		return nil, nil
	}
	if source == noServices {
		if !withKey {
			return nil, fault.Usagef("--signing-config none: keyless signing needs services")
		}
		return nil, nil
	}
	data, err := a.trustFile(ctx, source, targetSigningConfig)
	if err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	c, err := trust.ParseSigningConfig(data)
	if err != nil {
		return nil, fmt.Errorf("signing config %s: %w", sourceName(source), err)
	}
	if err := c.Unmet(time.Now()); err != nil {
		return nil, fmt.Errorf("signing config %s: %w", sourceName(source), err)
	}
	return c, nil
}

// trustedRoot reads the trust root that claims are judged with.
func (a *app) trustedRoot(ctx context.Context, f *serviceFlags) (*trust.Root, error) {
	source := f.trustedRoot
	if source == "" {
		source = a.env(envTrustedRoot)
	}
	data, err := a.trustFile(ctx, source, targetTrustedRoot)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return nil, fmt.Errorf("trusted root %s: %w", sourceName(source), err)
	}
	return root, nil
}

// hasTrustedRoot reports whether a trust root was named, so that none need be
// fetched from the public instance.
func (a *app) hasTrustedRoot(f *serviceFlags) bool {
	return f.trustedRoot != "" || a.env(envTrustedRoot) != ""
}

func sourceName(source string) string {
	if source == "" || source == publicInstance {
		return "of Sigstore's public instance"
	}
	return source
}

// trustFile reads a file, or the public instance's target when source is empty
// or the word for it.
func (a *app) trustFile(ctx context.Context, source, target string) ([]byte, error) {
	if source == "" || source == publicInstance {
		t := trust.PublicGood()
		if dir, err := os.UserCacheDir(); err == nil { // without a home every run starts from the built-in root
			t.CacheDir = filepath.Join(dir, "hallmark", "tuf")
		}
		got, err := t.Targets(ctx, target)
		if err != nil {
			return nil, fault.Hint(err, "to use a Sigstore of your own, name its files: --signing-config, --trusted-root, or eval \"$(hallmark up env)\"")
		}
		return got[target], nil
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxTrustFile {
		return nil, fmt.Errorf("%s: more than %d MiB", source, maxTrustFile>>20)
	}
	return data, nil
}

func now() time.Time { return time.Now() }
