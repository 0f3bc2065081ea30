package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// EnvTrust names the trust bundle.
const EnvTrust = "HALLMARK_TRUST"

// TrustPath is the file of the trust bundle: what the flag names, else EnvTrust,
// else $XDG_CONFIG_HOME/hallmark/trust.json. named reports whether somebody named it.
func (a *App) TrustPath(flag string) (path string, named bool, err error) {
	if flag == "" {
		flag = a.Env(EnvTrust)
	}
	if flag != "" {
		return flag, true, nil
	}
	dir, err := a.ConfigDir()
	if err != nil {
		return "", false, err
	}
	return filepath.Join(dir, "hallmark", "trust.json"), false, nil
}

// ConfigDir is where programs keep what a person configured (XDG base directories).
func (a *App) ConfigDir() (string, error) {
	if dir := a.Env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) { // the specification ignores others
		return dir, nil
	}
	home := a.Env("HOME")
	if home == "" {
		return "", fault.Hint(fault.Usagef("there is no home folder for the trust bundle"), "name the file: --trust FILE, or HALLMARK_TRUST")
	}
	return filepath.Join(home, ".config"), nil
}

// TrustBundle reads the trust bundle. It is empty when nobody named one and there
// is none at the usual place; one that was named must be there.
func (a *App) TrustBundle(flag string) (*bundlefile.File, error) {
	path, named, err := a.TrustPath(flag)
	if err != nil {
		if flag == "" { // no home: nothing is kept
			return &bundlefile.File{}, nil
		}
		return nil, err
	}
	f, err := bundlefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !named {
			return &bundlefile.File{}, nil
		}
		return nil, fault.Hint(fault.As(fault.Usage, err), "hallmark trust import or hallmark trust add makes one")
	}
	return f, err
}

// Believed is what the trust bundle makes of a verify.Config: keys with their
// windows, what is revoked and, where roots are wanted, the trust roots: that of
// source or HALLMARK_TRUSTED_ROOT alone, else those of the bundle, else the
// public instance's that is in this binary. "public" is that of the bundle, else of
// this binary: whoever verifies asks no service. Reasons name what of it is stale, for
// the caller to say: revocation lists always, trust roots where the bundle's are used.
func (a *App) Believed(ctx context.Context, f *bundlefile.File, source string, roots bool) (verify.Config, []policy.Reason, error) {
	cfg := verify.Config{Now: time.Now, Revoked: f.Revocations(), Notary: f.Notation(), Witnesses: f.CheckpointWitnesses()}
	for _, k := range f.PublicKeys() {
		cfg.NamedKeys = append(cfg.NamedKeys, verify.Key{Public: k.Public, Name: k.Name, ValidFor: k.ValidFor})
	}
	stale := f.StaleLists(cfg.Now())
	if !roots {
		return cfg, stale, nil
	}
	if source = cmp.Or(source, a.Env(EnvTrustedRoot)); source != "" && source != PublicInstance {
		root, err := a.TrustedRoot(ctx, source)
		if err != nil {
			return cfg, nil, err
		}
		cfg.Roots = []*trust.Root{root}
		return cfg, stale, nil
	}
	f, err := f.WithRoots(source == PublicInstance)
	if err != nil {
		return cfg, nil, err
	}
	cfg.Roots = f.SigstoreRoots()
	return cfg, f.Staleness(cfg.Now()), nil
}

// WarnOf prints reasons that deny nothing, each with its hint.
func (a *App) WarnOf(reasons []policy.Reason) {
	for _, r := range reasons {
		a.Warn("[%s] %s", r.Code, OneLine(r.Message))
		if r.Hint != "" {
			a.Say("  hint: %s", OneLine(r.Hint))
		}
	}
}
