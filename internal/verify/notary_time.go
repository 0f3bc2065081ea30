package verify

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// forNotaryTimes is the purpose of timestamp authorities' chains under a tsa store.
const forNotaryTimes purpose = "stamps times for the Notary Project"

// authenticTimestamp wants every certificate to have been valid when the signature
// was made, by the word of somebody who is trusted for it: the signing authority,
// a timestamp authority, or our own clock now.
func (n *notaryCase) authenticTimestamp() *refusal {
	if n.env.SigningScheme == notary.SchemeSigningAuthority {
		at := n.env.SigningTime
		if r := n.validAt(at, at, "the signature was made at "+stamp(at)); r != nil {
			return r
		}
		n.out.times = []evidence.Timestamp{{Kind: "signing-authority", By: n.authority(), At: at}}
		return nil
	}
	stamped := slices.ContainsFunc(n.statement.Stores, func(s notation.StoreName) bool { return s.Type == notation.StoreTSA })
	if stamped && n.statement.AfterExpiryOnly {
		stamped = slices.ContainsFunc(n.certs, func(c *x509.Certificate) bool { return n.now.After(c.NotAfter) })
	}
	if !stamped {
		return n.validAt(n.now, n.now, "it is "+stamp(n.now)+" and no trusted timestamp says that the signature is older")
	}
	return n.countersignature()
}

// validAt wants every certificate to be valid from one time to another.
func (n *notaryCase) validAt(from, to time.Time, why string) *refusal {
	for _, c := range n.certs {
		if w := (trust.Window{Start: c.NotBefore, End: c.NotAfter}); !w.Contains(from) || !w.Contains(to) {
			return refuse(CertExpired, "the certificate of %q was valid %s, but %s", clip(c.Subject.String()), w, why)
		}
	}
	return nil
}

// countersignature verifies the RFC 3161 token over the signature.
func (n *notaryCase) countersignature() *refusal {
	if len(n.claim.Timestamps) != 1 {
		return refuse(TimeUntrusted, "the statement %q wants a timestamp, and the signature has none", clip(n.statement.Name)).
			hint("have the artifact signed with a timestamp authority")
	}
	roots, r := n.stores(notation.StoreTSA)
	if r != nil {
		return r
	}
	t, err := parseContentInfo(n.claim.Timestamps[0])
	if err != nil {
		return refuse(TimeUntrusted, "the timestamp of the signature cannot be believed: %s", err)
	}
	if !t.stamps(n.env.Signature) {
		return refuse(TimeUntrusted, "the timestamp of the signature is about another signature")
	}
	chain, r := n.stampers(t, roots)
	if r != nil {
		return r
	}
	if t.genTime.After(n.now.Add(maxSkew)) {
		return refuse(TimeUntrusted, "the signature is of %s, which is in the future", stamp(t.genTime)).hint("check this machine's clock")
	}
	if r := n.validAt(t.genTime.Add(-t.accuracy), t.genTime.Add(t.accuracy), "the signature is of "+stamp(t.genTime)); r != nil {
		return r
	}
	n.stamps = chain
	if r, _ := n.revoked(chain, time.Time{}); r != nil {
		return r
	}
	n.out.times = []evidence.Timestamp{{Kind: "rfc3161", By: chain[0].Subject.String(), At: t.genTime}}
	return nil
}

// stampers is the chain from the token's signer to a root of the tsa stores.
func (n *notaryCase) stampers(t *token, roots []*x509.Certificate) ([]*x509.Certificate, *refusal) {
	for _, der := range t.certificates {
		if _, err := x509.ParseCertificate(der); err != nil {
			return nil, refuse(TimeUntrusted, "the timestamp of %s brings a certificate that cannot be read", stamp(t.genTime))
		}
	}
	if len(t.signers(&trust.Authority{})) == 0 {
		return nil, refuse(TimeUntrusted, "the timestamp of %s does not bring the certificate that it says to be signed with", stamp(t.genTime))
	}
	why := refuse(TimeUntrusted, "the timestamp of %s is by no authority of the tsa stores of the statement %q", stamp(t.genTime), clip(n.statement.Name))
	for _, root := range roots {
		a := &trust.Authority{CommonName: root.Subject.String(), Anchor: root}
		for _, signer := range t.signers(a) {
			chain := n.stampChain(t, signer, root)
			switch {
			case chain == nil:
			case !t.verifies(signer):
				why = refuse(TimeUntrusted, "the timestamp of %s is not signed by %q, which it names", stamp(t.genTime), clip(signer.Subject.String()))
			case !timestamping(signer) || !signsAlone(signer) || !allSignCertificates(chain[1:]):
				why = refuse(TimeUntrusted, "the certificates of the timestamp's authority %q are not for timestamping alone", clip(signer.Subject.String()))
			default:
				return chain, nil
			}
		}
	}
	return nil, why
}

func allSignCertificates(cas []*x509.Certificate) bool {
	return !slices.ContainsFunc(cas, func(c *x509.Certificate) bool { return c.KeyUsage&x509.KeyUsageCertSign == 0 })
}

// stampChain verifies a timestamp authority's chain at the token's time; nil when
// it does not lead to the root. Roots must have signed themselves, so the store's
// are ends of chains.
func (n *notaryCase) stampChain(t *token, signer, root *x509.Certificate) []*x509.Certificate {
	ders := append(append([][]byte{signer.Raw}, t.certificates...), root.Raw)
	key := keyOf(forNotaryTimes, n.cfg.Notary.Generation, ders...)
	if v, ok := n.cfg.Chains.find(key, []time.Time{t.genTime}); ok {
		return v.certs
	}
	pool, intermediates := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(root)
	for _, der := range t.certificates {
		if c, err := x509.ParseCertificate(der); err == nil && c.IsCA {
			intermediates.AddCert(c)
		}
	}
	found, err := signer.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, CurrentTime: t.genTime,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
	if err != nil || len(found[0]) < 2 {
		return nil
	}
	return n.cfg.Chains.keep(key, found[0]).certs
}
