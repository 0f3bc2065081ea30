package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// Purposes in the Notary Project. What stands above a signing certificate is
// remembered apart, too, so that a signer's next certificate finds it.
const (
	forNotaryCAs  purpose = "issues signing certificates of the Notary Project"
	forNotaryLeaf purpose = "signs for the Notary Project, with what stands above"
)

// notaryChain reads the certificates above a leaf that was read, and checks that
// they are a chain for signing up to a root that signed itself
// (signature-specification.md, "Certificate Requirements"). A chain is remembered
// when it leads to a store, so that strangers cannot push others out of the cache.
// Only its signatures are: times, usages, names and revocation are judged anew
// every time, here and by the caller.
func notaryChain(cache *ChainCache, t *notation.Trust, leaf *x509.Certificate, ders [][]byte, now time.Time) ([]*x509.Certificate, *refusal) {
	if r := signsForNotary(leaf); r != nil {
		return nil, r
	}
	if len(ders) == 1 {
		if !bytes.Equal(leaf.RawSubject, leaf.RawIssuer) || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil {
			return nil, refuse(CertUntrusted, "the signing certificate stands alone and is not signed by itself; the whole chain up to the root must come with the signature")
		}
		return []*x509.Certificate{leaf}, nil
	}
	times := []time.Time{now}
	key := keyOf(forNotaryLeaf, t.Generation, ders...)
	if verdict, ok := cache.find(key, times); ok {
		return verdict.certs, nil
	}
	above := keyOf(forNotaryCAs, t.Generation, ders[1:]...)
	verdict, known := cache.find(above, times)
	if !known {
		var r *refusal
		if verdict.certs, r = notaryCAs(ders[1:]); r != nil {
			return nil, r
		}
	}
	certs := append([]*x509.Certificate{leaf}, verdict.certs...)
	if !issued(leaf, certs[1]) {
		return nil, refuse(CertUntrusted, "the signing certificate of %q is not signed by the next certificate of the chain, %q",
			clip(leaf.Subject.String()), clip(certs[1].Subject.String()))
	}
	switch cas := certs[1:]; {
	case slices.ContainsFunc(cas, limitsNames): // the verdict depends on the leaf: not for the cache
		return certs, notaryWholePath(leaf, cas)
	case slices.ContainsFunc(cas, t.Holds):
		cache.keep(above, cas)
		cache.keep(key, certs)
	}
	return certs, nil
}

// notaryCAs checks what stands above the leaf, issuer first, root last.
func notaryCAs(ders [][]byte) ([]*x509.Certificate, *refusal) {
	var cas []*x509.Certificate
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse(Malformed, "certificate %d of the chain cannot be read", i+2)
		}
		if r := notaryCA(c, i); r != nil {
			return nil, r
		}
		cas = append(cas, c)
	}
	for i, c := range cas {
		self := issued(c, c)
		switch last := i == len(cas)-1; {
		case last && !self:
			return nil, refuse(CertUntrusted, "the chain ends with %q, which is no root certificate; it must come with the signature", clip(c.Subject.String()))
		case !last && self:
			return nil, refuse(CertUntrusted, "the root certificate of %q stands in the middle of the chain", clip(c.Subject.String()))
		case !last && !issued(c, cas[i+1]):
			return nil, refuse(CertUntrusted, "the certificate of %q is not signed by the next certificate of the chain, %q",
				clip(c.Subject.String()), clip(cas[i+1].Subject.String()))
		}
	}
	return cas, nil
}

func issued(c, by *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, by.RawSubject) && c.CheckSignatureFrom(by) == nil
}

// notaryCA checks a CA with a number of other CAs below it.
func notaryCA(c *x509.Certificate, below int) *refusal {
	name := clip(c.Subject.String())
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return refuse(CertUntrusted, "the certificate of %q in the chain is no CA's", name)
	case c.MaxPathLen >= 0 && c.MaxPathLen < below:
		return refuse(CertUntrusted, "the CA %q may have %d CAs below it, and has %d", name, c.MaxPathLen, below)
	case !keyUsageCritical(c) || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuse(CertUntrusted, "the CA %q does not say critically that it signs certificates", name)
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuse(CertUntrusted, "the certificate of the CA %q has the critical extension %s, which is not understood", name, c.UnhandledCriticalExtensions[0])
	}
	return nil
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// keyUsageCritical reports whether the certificate has a key usage and means it.
func keyUsageCritical(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidKeyUsage) {
			return e.Critical
		}
	}
	return false
}

// otherUses are key usages that a signing certificate must not have.
const otherUses = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement |
	x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageEncipherOnly | x509.KeyUsageDecipherOnly

// signsAlone reports whether a key is for signatures and nothing but signatures.
func signsAlone(c *x509.Certificate) bool {
	return c.KeyUsage&x509.KeyUsageDigitalSignature != 0 && c.KeyUsage&otherUses == 0
}

// signsForNotary checks a signing certificate's own claims.
func signsForNotary(c *x509.Certificate) *refusal {
	foreign := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection,
		x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning, x509.ExtKeyUsageAny}
	switch {
	case c.IsCA:
		return refuse(CertUntrusted, "the signing certificate is a CA's")
	case !keyUsageCritical(c) || !signsAlone(c):
		return refuse(CertUntrusted, "the signing certificate does not say critically that its key is for digital signatures alone")
	case slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return slices.Contains(foreign, u) }):
		return refuse(CertUntrusted, "the signing certificate is for something else than signing code, too")
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuse(CertUntrusted, "the signing certificate has the critical extension %s, which is not understood", c.UnhandledCriticalExtensions[0])
	}
	if name, _ := notaryAlgorithm(c.PublicKey); name == "" {
		return refuse(CertUntrusted, "the signing certificate's key is of a kind or size that does not sign here; RSA (2048, 3072, 4096 bits) and ECDSA (P-256, P-384, P-521) do")
	}
	return nil
}

var oidNameLimits = asn1.ObjectIdentifier{2, 5, 29, 30}

// limitsNames reports whether a CA limits the names below it.
func limitsNames(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidNameLimits) {
			return true
		}
	}
	return false
}

// notaryWholePath lets crypto/x509 judge a path whose CAs limit names; times and
// usages are judged elsewhere.
func notaryWholePath(leaf *x509.Certificate, cas []*x509.Certificate) *refusal {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(cas[len(cas)-1])
	for _, c := range cas[:len(cas)-1] {
		intermediates.AddCert(c)
	}
	at := validity(append([]*x509.Certificate{leaf}, cas...)).Start
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return refuse(CertUntrusted, "the signing certificate of %q has names that its CAs may not certify", clip(leaf.Subject.String()))
	}
	return nil
}

// notaryAlgorithm is how a key signs: fixed by its kind and size
// (signature-specification.md, "Signature Algorithm Requirements"). "" for others.
func notaryAlgorithm(pub crypto.PublicKey) (string, crypto.Hash) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "ES256", crypto.SHA256
		case elliptic.P384():
			return "ES384", crypto.SHA384
		case elliptic.P521():
			return "ES512", crypto.SHA512
		}
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return "PS256", crypto.SHA256
		case 3072:
			return "PS384", crypto.SHA384
		case 4096:
			return "PS512", crypto.SHA512
		}
	}
	return "", 0
}

// notarySignature checks the envelope's signature by the leaf's key.
func notarySignature(e *evidence.NotaryEnvelope, pub crypto.PublicKey) *refusal {
	name, hash := notaryAlgorithm(pub)
	if name != e.Algorithm {
		return refuse(Malformed, "the signature is said to be %s, but the signing certificate's key signs %s", clip(e.Algorithm), name)
	}
	h := hash.New()
	h.Write(e.Signed)
	digest := h.Sum(nil)
	good := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8 // r and s, each of full length (RFC 7518, 3.4; RFC 9053, 2.1)
		if len(e.Signature) == 2*size {
			r, s := new(big.Int).SetBytes(e.Signature[:size]), new(big.Int).SetBytes(e.Signature[size:])
			good = ecdsa.Verify(k, digest, r, s)
		}
	case *rsa.PublicKey:
		// The salt is as long as the hash (RFC 7518, 3.5; RFC 8230, 2).
		good = rsa.VerifyPSS(k, hash, digest, e.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	if !good {
		return refuse(SignatureBad, "the signature is not by the signing certificate's key over this payload")
	}
	return nil
}
