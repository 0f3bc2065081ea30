package authority

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// A chain that the state has once is published for good. So whatever brings one (a new
// folder, the file of keys, a rotation, authority chain) has it looked at here first.

// checkChainOf says why a key cannot serve under a chain: all that the service demands when
// it starts, and that every certificate is valid from one time to another. ct is the CT key
// that a CA would have; nil: none.
func checkChainOf(service string, public crypto.PublicKey, chain []*x509.Certificate, ct crypto.PublicKey, from, to time.Time) error {
	var err error
	switch service {
	case ServiceCA:
		err = ca.CheckKeys(public, chain, ct)
	case ServiceTSA:
		if err = ca.CheckTSAChain(chain, public); err == nil {
			_, err = tsa.New(tsa.Config{Key: key.PublicOnly{Key: public}, Chain: chain})
		}
	}
	if err != nil {
		return err
	}
	for _, c := range chain {
		if from.Before(c.NotBefore) || !to.Before(c.NotAfter) {
			return fmt.Errorf("%s is valid from %s to %s, and is needed from %s to %s", c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339),
				from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// chainEnd is when the first certificate of a chain ends.
func chainEnd(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// checkNamed looks at the chains that keys elsewhere come with, before the state has
// them; recorded says that it has terms, whose chains were looked at then.
func (h holders) checkNamed(refs map[string]KeyRef, recorded bool, now time.Time) error {
	for service, ref := range refs {
		last := h.last(service)
		if !certified(service) || len(ref.Chain) == 0 || recorded && last.sameChain(ref.Chain) {
			continue
		}
		if err := checkChainOf(service, last.id.key.Public(), ref.Chain, h.last(ServiceCT).id.key.Public(), now, now.Add(grace)); err != nil {
			return fault.Hint(fault.Usagef("the chain that is named for the key of the %s, %s: %w", serviceName(service), ref.shown(), err),
				"nothing was changed: name its certificate first, then what issued it, the root last")
		}
	}
	return nil
}

// wasPublished reports whether a chain is in the folder's trusted root, or may have been.
// One that is not never signed: publishing goes before serving.
func wasPublished(dir string, raw [][]byte) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileTrustedRoot))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // it is made again when somebody removes it
	}
	if err != nil {
		return false, err
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(slices.Concat(root.CAs, root.TSAs), func(a trust.Authority) bool {
		var chain []*x509.Certificate
		for _, c := range slices.Concat([]*x509.Certificate{a.Leaf}, a.Intermediates, []*x509.Certificate{a.Anchor}) {
			if c != nil {
				chain = append(chain, c)
			}
		}
		return sameRaw(raw, chain)
	}), nil
}
