package cli

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
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
