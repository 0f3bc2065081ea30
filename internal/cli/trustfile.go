package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Names of environment variables; the closed list is in docs/manual.md.
const (
	EnvSigningConfig = "HALLMARK_SIGNING_CONFIG"
	EnvTrustedRoot   = "HALLMARK_TRUSTED_ROOT"
)

// Words that the flags take in place of a file.
const (
	PublicInstance = "public" // Sigstore's public instance
	NoServices     = "none"   // no services: sign with a key alone
)

// Targets of Sigstore's TUF repositories.
const (
	TargetSigningConfig = "signing_config.v0.2.json"
	TargetTrustedRoot   = "trusted_root.json"
)

// maxTrustFile bounds trusted roots and signing configs.
const maxTrustFile = 4 << 20

// TrustedRoot reads the trust root that claims are judged with: what source
// names, else EnvTrustedRoot, else that of Sigstore's public instance, by TUF.
func (a *App) TrustedRoot(ctx context.Context, source string) (*trust.Root, error) {
	if source == "" {
		source = a.Env(EnvTrustedRoot)
	}
	data, err := a.TrustFile(ctx, source, TargetTrustedRoot)
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.As(fault.Usage, err) // as with every file that a call names
	}
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		err = fmt.Errorf("trusted root %s: %w", SourceName(source), err)
		if bytes.Contains(data, []byte(`"signatures"`)) {
			err = fault.Hint(err, "that may be a TUF repository's root.json; hallmark trust import URL --root FILE follows it to a trusted_root.json")
		}
		return nil, err
	}
	return root, nil
}

// HasTrustedRoot reports whether a trust root was named, so that none need be
// fetched from the public instance.
func (a *App) HasTrustedRoot(source string) bool { return source != "" || a.Env(EnvTrustedRoot) != "" }

// SourceName names the source of a trust file for people.
func SourceName(source string) string {
	if source == "" || source == PublicInstance {
		return "of Sigstore's public instance"
	}
	return source
}

// TrustFile reads a file, or the public instance's target when source is empty
// or the word for it.
func (a *App) TrustFile(ctx context.Context, source, target string) ([]byte, error) {
	if source == "" || source == PublicInstance {
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
