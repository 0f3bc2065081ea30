package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidDelta          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidScope          = asn1.ObjectIdentifier{2, 5, 29, 28} // IssuingDistributionPoint
	oidInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// crl is a complete CRL of one issuer.
type crl struct {
	list    *x509.RevocationList // without its entries, which would take twenty times their size
	entries entries
	// scope are the distribution points of a partial CRL; nil: it covers all
	// certificates of the issuer.
	scope []string

	bySerial func() *serials
	signers  sync.Map // certHash of issuers whose signature holds; never of others, who are without number
}

// parseCRL reads a CRL. Delta CRLs and indirect ones are refused: what they leave
// out cannot be told from what is good.
func parseCRL(der []byte) (*crl, error) {
	if len(der) > MaxCRL {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(der), MaxCRL)
	}
	list, all, err := splitCRL(der)
	if err != nil {
		return nil, err
	}
	c := &crl{list: list, entries: all}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDelta):
			return nil, errors.New("a delta CRL; give the complete one")
		case e.Id.Equal(oidScope):
			if c.scope, err = parseScope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical:
			return nil, fmt.Errorf("a CRL with the critical extension %s, which is not understood", e.Id)
		}
	}
	c.bySerial = sync.OnceValue(c.entries.index)
	return c, nil
}

// removeFromCRL is the reason code of an entry that lifts another (RFC 5280, 5.3.1).
const removeFromCRL = 8

// parseScope reads an IssuingDistributionPoint (RFC 5280, 5.2.5): the URIs of a
// partial CRL. CRLs for some reasons or some kinds of certificates alone, and
// indirect ones, are refused.
func parseScope(der []byte) ([]string, error) {
	errScope := errors.New("a CRL for some reasons, of other issuers, or with a scope that is not understood")
	in := cryptobyte.String(der)
	var idp, point, full cryptobyte.String
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	if !in.ReadASN1(&idp, cbasn1.SEQUENCE) || !in.Empty() ||
		!idp.ReadASN1(&point, tag(0).Constructed()) || !idp.Empty() ||
		!point.ReadASN1(&full, tag(0).Constructed()) || !point.Empty() {
		return nil, errScope
	}
	out := []string{}
	for !full.Empty() {
		var name cryptobyte.String
		if !full.ReadASN1(&name, tag(6)) {
			return nil, errScope
		}
		out = append(out, string(name))
	}
	return out, nil
}

func (c *crl) by(issuer *x509.Certificate) bool {
	return bytes.Equal(c.list.RawIssuer, issuer.RawSubject)
}

// signedBy checks the CRL's signature once for each issuer.
func (c *crl) signedBy(issuer *x509.Certificate) bool {
	key := certHash(issuer)
	if _, ok := c.signers.Load(key); ok {
		return true
	}
	if c.list.CheckSignatureFrom(issuer) != nil {
		return false
	}
	c.signers.Store(key, nil)
	return true
}

func (c *crl) check(cert, issuer *x509.Certificate, signedAt, now time.Time) (verdict, error) {
	if !c.signedBy(issuer) {
		return verdict{}, fmt.Errorf("a CRL: %w", errNotByIssuer)
	}
	if e := c.bySerial().find(c.entries, serialContent(cert.SerialNumber)); e != nil && e.ReasonCode != removeFromCRL {
		before, err := beforeInvalidity(e.Extensions, signedAt)
		if err != nil {
			return verdict{}, err
		}
		if !before {
			return verdict{revoked: true, at: e.RevocationTime}, nil
		}
	}
	if err := fresh("the CRL", c.list.ThisUpdate, c.list.NextUpdate, now); err != nil {
		return verdict{}, err
	}
	return verdict{good: true}, nil
}

// beforeInvalidity reports whether a signature is older than the invalidity date
// of a revocation. A critical extension that is not understood leaves open what
// the entry says.
func beforeInvalidity(extensions []pkix.Extension, signedAt time.Time) (bool, error) {
	before := false
	for _, e := range extensions {
		switch {
		case e.Id.Equal(oidInvalidityDate):
			var date time.Time
			if rest, err := asn1.UnmarshalWithParams(e.Value, &date, "generalized"); err != nil || len(rest) > 0 {
				return false, nil
			}
			before = !signedAt.IsZero() && signedAt.Before(date)
		case e.Critical:
			return false, fmt.Errorf("a revocation with the critical extension %s, which is not understood", e.Id)
		}
	}
	return before, nil
}
