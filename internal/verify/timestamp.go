package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// maxTimestamps bounds what one claim may make us verify.
const maxTimestamps = 32

// timestamps verifies every token over the signature, or over the envelope as it
// was written where the format has it so. Tokens by authorities that
// the trust root does not know prove nothing and are passed over, but when there
// are tokens, one must be believed; and a token of a known authority that does
// not hold refuses the claim.
func (j judge) timestamps(c *evidence.Claim) ([]evidence.Timestamp, *refusal) {
	tokens, stamped := c.Timestamps, [][]byte{c.Signature()}
	if c.Envelope != nil && len(c.Envelope.JSON) > 0 {
		stamped = append(stamped, c.Envelope.JSON)
	}
	if len(tokens) > maxTimestamps {
		return nil, refuse(Malformed, "the claim has %d timestamps; at most %d are read", len(tokens), maxTimestamps)
	}
	var out []evidence.Timestamp
	var unknown *refusal
	for i, der := range tokens {
		ts, known, r := j.timestamp(der, stamped)
		switch {
		case r != nil && known:
			return nil, r
		case r != nil:
			unknown = r
		default:
			for _, other := range tokens[:i] {
				if bytes.Equal(other, der) {
					return nil, refuse(Malformed, "the claim carries the same timestamp twice")
				}
			}
			out = append(out, ts)
		}
	}
	if len(out) == 0 {
		return nil, unknown
	}
	return out, nil
}

// timestamp verifies one token over one of the stamped texts. known says whether it is by an authority of the
// trust root, or broken in itself.
func (j judge) timestamp(der []byte, stamped [][]byte) (ts evidence.Timestamp, known bool, r *refusal) {
	t, err := parseToken(der)
	if err != nil {
		return ts, true, refuse(TimeUntrusted, "a timestamp of the claim cannot be believed: %s", err)
	}
	if !slices.ContainsFunc(stamped, t.stamps) {
		return ts, true, refuse(TimeUntrusted, "a timestamp of the claim is about another signature")
	}
	var why *refusal
	for i := range j.root.TSAs {
		a := &j.root.TSAs[i]
		for _, signer := range t.signers(a) {
			switch r := j.verifyToken(t, a, signer); {
			case r == nil:
				return evidence.Timestamp{Kind: "rfc3161", By: a.Name(), At: t.genTime}, true, nil
			case r.known:
				known, why = true, r.refusal
			}
		}
	}
	if name, ok := j.namesakeTSA(t); why == nil && ok {
		why = outdated(TimeUntrusted, "the timestamp", clip(name), t.genTime)
	}
	if why == nil {
		why = refuse(TimeUntrusted, "the timestamp of %s is by no authority of the trust root", stamp(t.genTime)).
			unknownHere().hint("check that --trusted-root belongs to the Sigstore instance that signed")
	}
	return ts, known, why
}

// signers are the certificates that may have signed the token under an
// authority: the one that the authority lists, or else those that the token
// brings. A token that brings certificates must bring its signer's.
func (t *token) signers(a *trust.Authority) []*x509.Certificate {
	var out []*x509.Certificate
	brought := len(t.certificates) == 0
	for _, der := range t.certificates {
		if a.Leaf != nil {
			brought = brought || bytes.Equal(der, a.Leaf.Raw)
			continue
		}
		if cert, err := x509.ParseCertificate(der); err == nil && !cert.IsCA && t.madeBy(cert) {
			out = append(out, cert)
		}
	}
	if a.Leaf != nil && brought && t.madeBy(a.Leaf) {
		out = append(out, a.Leaf)
	}
	return out
}

// tokenRefusal is a refusal, and whether the authority is to blame for it.
type tokenRefusal struct {
	*refusal
	known bool
}

// verifyToken checks the signature and that the signer was the authority's at the
// token's own time.
func (j judge) verifyToken(t *token, a *trust.Authority, signer *x509.Certificate) *tokenRefusal {
	if a.Leaf == nil && !j.leadsTo(t, a, signer) {
		return &tokenRefusal{refuse(TimeUntrusted, "unknown"), false}
	}
	bad := func(format string, args ...any) *tokenRefusal {
		return &tokenRefusal{refuse(TimeUntrusted, format, args...), true}
	}
	window := trust.Window{Start: signer.NotBefore, End: signer.NotAfter}
	switch {
	case !t.verifies(signer):
		return bad("the timestamp of %s is not signed by %s, which it names", stamp(t.genTime), a.Name())
	case !a.ValidFor.Contains(t.genTime):
		return bad("the timestamp is of %s; the trust root believes its authority %s", stamp(t.genTime), a.ValidFor)
	case !window.Contains(t.genTime):
		return bad("the timestamp is of %s, but its authority's certificate was valid %s", stamp(t.genTime), window)
	case !timestamping(signer):
		return bad("the certificate of the timestamp's authority is not for timestamping alone")
	case a.Anchor != nil && !j.leadsTo(t, a, signer):
		return bad("the timestamp is of %s, when its authority's certificates were not all valid", stamp(t.genTime))
	}
	return nil
}

// leadsTo reports whether the signer's certificate leads to the authority's
// anchor at the token's time.
func (j judge) leadsTo(t *token, a *trust.Authority, signer *x509.Certificate) bool {
	var extra []*x509.Certificate
	if a.Leaf == nil {
		for _, der := range t.certificates {
			if c, err := x509.ParseCertificate(der); err == nil && c.IsCA {
				extra = append(extra, c)
			}
		}
	}
	return j.stamper(signer, a, extra, t.genTime)
}

// timestamping reports whether a certificate is for timestamping and nothing
// else, and says so critically (RFC 3161, 2.3).
func timestamping(cert *x509.Certificate) bool {
	if usableFor(cert, x509.ExtKeyUsageTimeStamping, "") != nil || len(cert.ExtKeyUsage) != 1 || len(cert.UnknownExtKeyUsage) != 0 {
		return false
	}
	oidEKU := asn1.ObjectIdentifier{2, 5, 29, 37}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidEKU) {
			return e.Critical
		}
	}
	return false
}
