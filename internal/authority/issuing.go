package authority

import (
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// loadCAConfig reads the file of other issuers, and refuses a wrong one before
// anything is made.
func loadCAConfig(path string) ([]byte, error) {
	data, err := readBounded(path, strictyaml.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("CA configuration %s: %w", path, err)
	}
	_, err = issuers.ParseConfig(path, data, "")
	return data, fault.As(fault.Usage, err)
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
