// Package revocation knows which certificates were revoked, from CRLs (RFC 5280, 5)
// and OCSP responses (RFC 6960) that were fetched beforehand. It opens no socket;
// package fetch does, for those who prepare trust.
//
// Lists and responses are signed by the certificate's issuer and carry their own
// windows, so whoever can only add some cannot hide a revocation: a list that says
// revoked wins over one that says good, even when it is out of date. Whoever can
// remove them makes the status unknown.
package revocation

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Limits of what is read.
const (
	MaxCRL  = 32 << 20 // bytes
	MaxOCSP = 64 << 10 // bytes
	maxSets = 4096     // of either kind
)

// maxSkew is how far the beginning of a window may lie ahead of the clock.
const maxSkew = 10 * time.Minute

// Status is what is known about a certificate.
type Status int

// The zero Status is Unknown.
const (
	// Unknown: the certificate names a CRL or an OCSP responder, and nothing fresh is there.
	Unknown Status = iota
	// Good: fresh material by the issuer does not name it as revoked.
	Good
	// Revoked: the issuer revoked it.
	Revoked
	// NotRevocable: the certificate says nowhere how it would be revoked.
	NotRevocable
)

// Answer is a status with its reason.
type Answer struct {
	Status Status
	At     time.Time // of the revocation, for Revoked
	// Sources are the URLs that the certificate names, for Unknown.
	Sources []string
	// Why says for Unknown what was found and could not be used; may be empty.
	Why string
}

// Set is CRLs and OCSP responses, parsed. It is safe for concurrent use.
type Set struct {
	crls  []*crl
	ocsps []*response
}

// New parses CRLs and OCSP responses in DER. One that cannot be read is an error,
// named by its number: what prepared it went wrong.
func New(crls, ocsps [][]byte) (*Set, error) {
	if len(crls) > maxSets || len(ocsps) > maxSets {
		return nil, fmt.Errorf("%d CRLs and %d OCSP responses; at most %d of each are read", len(crls), len(ocsps), maxSets)
	}
	s := &Set{}
	for i, der := range crls {
		c, err := parseCRL(der)
		if err != nil {
			return nil, fmt.Errorf("crls[%d]: %w", i, err)
		}
		s.crls = append(s.crls, c)
	}
	for i, der := range ocsps {
		r, err := parseResponse(der)
		if err != nil {
			return nil, fmt.Errorf("ocspResponses[%d]: %w", i, err)
		}
		s.ocsps = append(s.ocsps, r)
	}
	return s, nil
}

// Check says what is known about a certificate whose issuer is verified already.
// signedAt is the time that an authority vouches for, zero without one: a
// revocation whose invalidity date (RFC 5280, 5.3.2) is later does not touch what
// was signed before; without that date the time of a revocation proves nothing
// about the time of the compromise.
func (s *Set) Check(cert, issuer *x509.Certificate, signedAt, now time.Time) Answer {
	out := Answer{Status: NotRevocable}
	if len(cert.OCSPServer)+len(cert.CRLDistributionPoints) > 0 {
		out.Status = Unknown
		out.Sources = append(append(out.Sources, cert.OCSPServer...), cert.CRLDistributionPoints...)
	}
	if s == nil {
		return out
	}
	good := false
	scoped := map[string]bool{}
	note := func(err error) {
		if err != nil && out.Why == "" {
			out.Why = err.Error()
		}
	}
	for _, r := range s.ocsps {
		if !r.about(cert, issuer) {
			continue
		}
		v, err := r.check(cert, issuer, signedAt, now)
		note(err)
		if v.revoked {
			return Answer{Status: Revoked, At: v.at}
		}
		good = good || v.good
	}
	for _, c := range s.crls {
		if !c.by(issuer) {
			continue
		}
		v, err := c.check(cert, issuer, signedAt, now)
		note(err)
		if v.revoked {
			return Answer{Status: Revoked, At: v.at}
		}
		good = good || v.good && c.scope == nil
		for _, name := range c.scope {
			scoped[name] = scoped[name] || v.good
		}
	}
	if good || coversAll(cert.CRLDistributionPoints, scoped) {
		return Answer{Status: Good}
	}
	return out
}

// coversAll reports whether every distribution point has its fresh partial CRL.
func coversAll(points []string, scoped map[string]bool) bool {
	for _, p := range points {
		if !scoped[p] {
			return false
		}
	}
	return len(points) > 0
}

// verdict is what one list or response says.
type verdict struct {
	good, revoked bool
	at            time.Time
}

// fresh reports whether a window holds now. A window without end is never fresh:
// it would be believed for ever.
func fresh(what string, thisUpdate, nextUpdate, now time.Time) error {
	switch {
	case nextUpdate.IsZero():
		return fmt.Errorf("%s does not say until when it holds", what)
	case thisUpdate.After(now.Add(maxSkew)):
		return fmt.Errorf("%s is of %s, which is in the future", what, stamp(thisUpdate))
	case now.After(nextUpdate):
		return fmt.Errorf("%s was good until %s", what, stamp(nextUpdate))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// certHash names a certificate, for remembering verdicts about
// signatures.
func certHash(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

var errNotByIssuer = errors.New("it is not signed by the certificate's issuer")
