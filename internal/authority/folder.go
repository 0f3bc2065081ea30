package authority

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// What can be done with a data folder whether or not an authority is running on it.

// Read says where the authority of a data folder is, or was when it last ran.
func Read(dir string) (Info, error) {
	st, dir, err := readState(dir)
	if err != nil {
		return Info{}, err
	}
	return st.info(dir)
}

func readState(dir string) (*state, string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.Hint(fmt.Errorf("there is no authority in %s", dir),
			"hallmark up --data %s makes one, or name another folder with --data", dir)
	}
	st, err := loadState(dir)
	if err == nil && st == nil {
		err = fmt.Errorf("there is no authority in %s", dir)
	}
	return st, dir, err
}

// info is where everything is, in a folder with this state.
func (st *state) info(dir string) (Info, error) {
	i, err := info(st.URL, st.Host, dir)
	i.moved, i.names = st.Moved, st.treeNames()
	return i, err
}

// info is where everything is for a base URL and a folder.
func info(base, host, dir string) (Info, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return Info{}, fmt.Errorf("base URL %q of %s: not a URL", base, dir)
	}
	return Info{
		URL: base, Registry: u.Host, Issuer: base, TUF: base + "/tuf", Host: host, Dir: dir,
		TrustedRoot:   filepath.Join(dir, fileTrustedRoot),
		SigningConfig: filepath.Join(dir, fileSigningConfig),
		TrustRoot:     filepath.Join(dir, fileTrustRoot),
		CosignTUF:     filepath.Join(dir, cosignDir),
	}, nil
}

// Token is an identity token that was made from a data folder's key.
type Token struct {
	Raw     string // secret
	Issuer  string
	Expires time.Time
}

// Mint makes an identity token for an e-mail address from a data folder's key.
// Its issuer is the base URL of the folder's last start.
func Mint(dir, email string) (Token, error) {
	st, dir, err := readState(dir)
	if err != nil {
		return Token{}, err
	}
	p, err := oidc.Open(filepath.Join(dir, oidcDir), oidc.Config{Issuer: st.URL, ClientID: ClientID, Existing: true})
	if err != nil {
		return Token{}, wayOut(err)
	}
	expires := time.Now().Add(oidc.TokenLifetime).UTC().Truncate(time.Second)
	raw, err := p.Mint(email, ClientID, oidc.TokenLifetime)
	return Token{raw, st.URL, expires}, fault.As(fault.Usage, err)
}

// AddUser gives a person a login secret and returns it. A running authority
// takes it at the next login.
func AddUser(dir, email string) (string, error) {
	_, dir, err := readState(dir)
	if err != nil {
		return "", err
	}
	secret, err := oidc.AddUser(filepath.Join(dir, oidcDir), email)
	return secret, wayOut(err)
}

// CollectGarbage removes from the registry of a data folder what nothing needs any
// more, or only says what that is (dryRun). Beside a running authority only the
// latter is possible: that one collects by itself, as its configuration says.
func CollectGarbage(ctx context.Context, dir string, how registry.Schedule, dryRun bool) (registry.Collected, error) {
	_, dir, err := readState(dir)
	if err != nil {
		return registry.Collected{}, err
	}
	folder := filepath.Join(dir, registryDir)
	if dryRun {
		return registry.Garbage(ctx, folder, how)
	}
	held, err := lock(dir)
	if err != nil {
		return registry.Collected{}, fault.Hint(err, "stop it first, let it collect by itself (gc in --registry-config), or add --dry-run")
	}
	defer func() { _ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN); _ = held.Close() }()
	s, err := registry.Open(folder, registry.Config{})
	if err != nil {
		return registry.Collected{}, err
	}
	defer func() { _ = s.Close() }()
	return s.Collect(ctx, how, false)
}
