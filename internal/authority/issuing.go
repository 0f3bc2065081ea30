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

// ownIssuer is the authority's own. A replica asks it for its keys as it asks others, so
// that it has neither the private key nor one that was replaced. What answers under the
// authority's name may show the certificate that the replica itself has for it.
func (a *Authority) ownIssuer() (issuers.Issuer, error) {
	i := issuers.Issuer{URL: a.info.Issuer, ClientID: ClientID, Type: issuers.TypeEmail}
	if !a.cfg.replica {
		i.Keys = a.oidc
		return i, nil
	}
	if a.cfg.TLSCert == "" {
		return i, nil
	}
	var err error
	if i.CACert, err = readBounded(a.cfg.TLSCert, maxChainFile); err != nil {
		return i, fmt.Errorf("TLS certificate: %w", err)
	}
	return i, nil
}

// issuers are those whose tokens the CA takes: our own first, then those of the
// configuration.
func (a *Authority) issuers() (*issuers.Set, error) {
	own := a.info.Issuer
	first, err := a.ownIssuer()
	if err != nil {
		return nil, err
	}
	all := []issuers.Issuer{first}
	if a.rehearsal != nil {
		all = append(all, issuers.Issuer{URL: own, ClientID: ClientID, Type: issuers.TypeGitHubWorkflow, Keys: a.oidc, ServerURL: a.cfg.RehearseServer})
	}
	if a.caConfig != nil {
		others, err := issuers.ParseConfig(a.cfg.CAConfig, a.caConfig, own)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		all = append(all, others.Issuers...)
	}
	return issuers.New(issuers.Config{Issuers: all, Own: own, Now: a.cfg.Now})
}
