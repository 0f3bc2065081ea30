package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strconv"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// chain is a verified path from a certificate to an authority's anchor.
type chain struct {
	authority *trust.Authority
	certs     []*x509.Certificate // leaf first
	window    trust.Window        // intersection of all validities
}

// issuer is the certificate that signed the leaf.
func (c *chain) issuer() *x509.Certificate { return c.certs[1] }

// parseLeaf reads a signing certificate and makes sure that it is for signing code.
func parseLeaf(der []byte) (*x509.Certificate, *refusal) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(Malformed, "the signing certificate cannot be read")
	}
	// A SAN that only has an OtherName is critical and unknown to crypto/x509;
	// identity reads it.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool {
		return id.Equal(oidSAN)
	})
	if r := usableFor(cert, x509.ExtKeyUsageCodeSigning, "signing code"); r != nil {
		return nil, r
	}
	return cert, nil
}

// usableFor checks a leaf's own claims; x509.Verify checks those of the chain,
// but takes a certificate without any extended key usage for anything.
func usableFor(cert *x509.Certificate, usage x509.ExtKeyUsage, what string) *refusal {
	switch {
	case cert.IsCA:
		return refuse(CertUntrusted, "the certificate is a CA's and not one for %s", what)
	case !slices.Contains(cert.ExtKeyUsage, usage):
		return refuse(CertUntrusted, "the certificate is not for %s", what)
	case cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return refuse(CertUntrusted, "the certificate's key is not for signatures")
	case cert.Version != 3:
		return refuse(CertUntrusted, "the certificate is of X.509 version %d; want 3", cert.Version)
	}
	return nil
}

// signingChains verifies the leaf at every trusted time and returns the paths
// that hold at all of them.
func (j judge) signingChains(leaf *x509.Certificate, extra []*x509.Certificate, times []time.Time) ([]chain, *refusal) {
	for _, t := range times {
		if !(trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter}).Contains(t) {
			return nil, refuse(CertExpired, "the signing certificate was valid %s, but the signature was made at %s",
				trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter}, stamp(t))
		}
	}
	var found []chain
	named, expired := false, ""
	for i := range j.root.CAs {
		ca := &j.root.CAs[i]
		chains := j.signers(leaf, ca, extra, times)
		if len(chains) > 0 {
			if t := outside(ca.ValidFor, times); !t.IsZero() {
				named = true
				expired = "the trust root believes " + ca.Name() + " only " + ca.ValidFor.String() + ", but the signature was made at " + stamp(t)
				continue
			}
			found = append(found, chains...)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case named:
		return nil, refuse(CertUntrusted, "%s", expired)
	}
	if j.namesakeCA(leaf) {
		return nil, outdated(CertUntrusted, "the signing certificate", clip(strconv.Quote(leaf.Issuer.String())), leaf.NotBefore)
	}
	return nil, refuse(CertUntrusted, "the signing certificate, issued by %q, leads to no authority of the trust root", clip(leaf.Issuer.String())).
		unknownHere().hint("check that --trusted-root belongs to the Sigstore instance that signed")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// outside is the first time that lies outside the window, zero when none does.
func outside(w trust.Window, times []time.Time) time.Time {
	for _, t := range times {
		if !w.Contains(t) {
			return t
		}
	}
	return time.Time{}
}

// covers reports whether all times lie in the window.
func covers(w trust.Window, times []time.Time) bool {
	for _, t := range times {
		if !w.Contains(t) {
			return false
		}
	}
	return true
}

// signers are the paths from a signing certificate to an authority's anchor.
func (j judge) signers(leaf *x509.Certificate, a *trust.Authority, extra []*x509.Certificate, times []time.Time) []chain {
	if a.Anchor == nil || len(times) == 0 {
		return nil
	}
	if c := j.throughCache(leaf, a, times); c != nil {
		return []chain{*c}
	}
	return fullPaths(leaf, a, extra, x509.ExtKeyUsageCodeSigning, times)
}

// fullPaths verifies a certificate up to one authority's anchor, for a purpose,
// at all times. The whole path must be valid at each of them. Only a CA can be a
// path by itself: the anchor.
func fullPaths(leaf *x509.Certificate, a *trust.Authority, extra []*x509.Certificate, usage x509.ExtKeyUsage, times []time.Time) []chain {
	if a.Anchor == nil || len(times) == 0 {
		return nil
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(a.Anchor)
	for _, c := range slices.Concat(a.Intermediates, extra) {
		intermediates.AddCert(c)
	}
	found, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates,
		CurrentTime: times[0], KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil
	}
	var out []chain
	for _, certs := range found {
		c := chain{authority: a, certs: certs, window: validity(certs)}
		if (len(certs) > 1 || leaf.IsCA) && covers(c.window, times) && certs[len(certs)-1].Equal(a.Anchor) {
			out = append(out, c)
		}
	}
	return out
}

// validity is the time in which all certificates are valid.
func validity(certs []*x509.Certificate) trust.Window {
	w := trust.Window{Start: certs[0].NotBefore, End: certs[0].NotAfter}
	for _, c := range certs[1:] {
		if c.NotBefore.After(w.Start) {
			w.Start = c.NotBefore
		}
		if c.NotAfter.Before(w.End) {
			w.End = c.NotAfter
		}
	}
	return w
}

// bundleIntermediates reads the certificates that a bundle brings besides its
// leaf. They help to build a path and are believed no more than the leaf is.
func bundleIntermediates(ders [][]byte) ([]*x509.Certificate, *refusal) {
	var out []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, refuse(Malformed, "a certificate of the claim's chain cannot be read")
		case !c.IsCA:
			return nil, refuse(Malformed, "the claim's chain holds a second certificate that is no CA's")
		case bytes.Equal(c.RawIssuer, c.RawSubject):
			return nil, refuse(Malformed, "the claim's chain holds a root certificate; roots come from the trust root alone")
		}
		out = append(out, c)
	}
	return out, nil
}
