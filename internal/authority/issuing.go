package authority

import (
	"fmt"
	"io"
	"os"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// loadCAConfig reads the file of other issuers, and refuses a wrong one before
// anything is made.
func loadCAConfig(path string) ([]byte, error) {
	data, err := readUpTo(path, strictyaml.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("CA configuration: %w", err)
	}
	_, err = issuers.ParseConfig(path, data, "")
	return data, fault.As(fault.Usage, err)
}

// readUpTo reads a file of at most limit bytes.
func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// issuers are those whose tokens the CA takes: our own first, then those of the
// configuration.
func (a *Authority) issuers() (*issuers.Set, error) {
	own := a.info.Issuer
	all := []issuers.Issuer{{URL: own, ClientID: ClientID, Type: issuers.TypeEmail, Keys: a.oidc}}
	if a.rehearsal != nil {
		all = append(all, issuers.Issuer{URL: own, ClientID: ClientID, Type: issuers.TypeGitHubWorkflow, Keys: a.oidc})
	}
	if a.caConfig != nil {
		others, err := issuers.ParseConfig(a.cfg.CAConfig, a.caConfig, own)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		all = append(all, others.Issuers...)
	}
	return issuers.New(issuers.Config{Issuers: all, Now: a.cfg.Now})
}
