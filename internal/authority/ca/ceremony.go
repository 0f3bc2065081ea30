package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What an offline root certifies.
const (
	PurposeCA  = "ca"  // an intermediate CA for code signing
	PurposeTSA = "tsa" // a timestamp authority
)

// maxChain bounds a chain, as verifiers do.
const maxChain = 8

// NewOfflineRoot makes the self-signed certificate of a root that certifies what an
// online authority signs with, and nothing else: path length 1, so that what it
// certifies certifies no further CAs. It has no extended key usage, because it is
// for both purposes (Fulcio, docs/certificate-specification.md).
func NewOfflineRoot(key crypto.Signer, name pkix.Name, start time.Time, life time.Duration) (*x509.Certificate, error) {
	if err := forCA(key.Public()); err != nil {
		return nil, err
	}
	template, err := caTemplate(name, start, life)
	if err != nil {
		return nil, err
	}
	template.MaxPathLen = 1
	return sign(template, template, key.Public(), key)
}

// Certify makes the certificate that a root gives to the key and the subject of a
// certificate signing request, for one purpose: an intermediate CA for code signing
// with path length 0, or a timestamp authority (RFC 3161, 2.3). It ends before the
// root does.
func Certify(root *x509.Certificate, key crypto.Signer, csr *x509.CertificateRequest, purpose string, start time.Time, life time.Duration) (*x509.Certificate, error) {
	if err := CheckChain([]*x509.Certificate{root}, key.Public()); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if err := forCA(csr.PublicKey); err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	if len(csr.Subject.Organization) == 0 || csr.Subject.CommonName == "" {
		return nil, errors.New("certificate signing request: its subject has no organization or no common name")
	}
	if bytes.Equal(csr.RawSubject, root.RawSubject) {
		return nil, errors.New("certificate signing request: its subject is the root's own")
	}
	template, err := caTemplate(csr.Subject, start, life)
	if err != nil {
		return nil, err
	}
	template.RawSubject = csr.RawSubject
	if template.NotBefore.Before(root.NotBefore) {
		template.NotBefore = root.NotBefore
	}
	if template.NotAfter.After(root.NotAfter) {
		return nil, fmt.Errorf("it would be valid until %s, longer than the root: %s", template.NotAfter.Format(time.RFC3339), root.NotAfter.Format(time.RFC3339))
	}
	switch purpose {
	case PurposeCA:
		template.MaxPathLenZero = true
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	case PurposeTSA:
		// This usage alone, critical, which ExtKeyUsage cannot say.
		usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			return nil, err
		}
		template.IsCA, template.KeyUsage = false, x509.KeyUsageDigitalSignature
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}
	default:
		return nil, fmt.Errorf("purpose %q: want %s or %s", purpose, PurposeCA, PurposeTSA)
	}
	return sign(template, root, csr.PublicKey, key)
}

// NewCSR is the request for a certificate of a key, PEM.
func NewCSR(key crypto.Signer, name pkix.Name) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// forCA takes the keys that a CA may have.
func forCA(public crypto.PublicKey) error {
	if k, ok := public.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
		return errors.New("want an ECDSA key on P-256 or P-384")
	}
	return nil
}

func caTemplate(name pkix.Name, start time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	// Clocks on other machines may be a little behind.
	from := start.UTC().Truncate(time.Second).Add(-time.Minute)
	return &x509.Certificate{
		SerialNumber: serial, Subject: name, NotBefore: from, NotAfter: from.Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ParseChain reads certificates in PEM, with nothing between them but space.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, errors.New("it holds something else than PEM certificates")
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, errors.New("it holds a PEM block that is no certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("it holds a certificate that cannot be read")
		}
		if len(out) == maxChain {
			return nil, fmt.Errorf("it holds more than %d certificates", maxChain)
		}
		out, rest = append(out, c), after
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return out, nil
}

// CheckChain wants the chain of a CA whose key this is: its certificate, each
// certified by the next for longer than nothing, and a self-signed root last. What a
// verifier would refuse for ever must not be published.
func CheckChain(chain []*x509.Certificate, public crypto.PublicKey) error {
	if err := checkLinks(chain, public); err != nil {
		return err
	}
	for i, c := range chain {
		switch {
		case !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("certificate %d of the chain (%s) is not one of a CA", i+1, c.Subject)
		case c.MaxPathLen >= 0 && c.MaxPathLen < i:
			return fmt.Errorf("certificate %d of the chain (%s) allows fewer CAs below it", i+1, c.Subject)
		case i == 0 && len(chain) > 1 && !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}):
			return errors.New("the CA's own certificate is not for code signing alone")
		case len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
			return fmt.Errorf("certificate %d of the chain (%s) is not for code signing", i+1, c.Subject)
		}
	}
	return nil
}

// checkLinks wants each certificate to be signed by the next, and the last by itself.
func checkLinks(chain []*x509.Certificate, public crypto.PublicKey) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("a chain of %d certificates; want 1 to %d", len(chain), maxChain)
	}
	key, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(public) {
		return errors.New("the first certificate of the chain is not of the key")
	}
	for i, c := range chain {
		parent := chain[min(i+1, len(chain)-1)]
		if !bytes.Equal(c.RawIssuer, parent.RawSubject) {
			return fmt.Errorf("certificate %d of the chain (%s) was issued by %s, which does not follow it", i+1, c.Subject, c.Issuer)
		}
		if err := parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			return fmt.Errorf("certificate %d of the chain (%s) is not signed by the next: %w", i+1, c.Subject, err)
		}
		if c.NotAfter.After(parent.NotAfter) || c.NotBefore.Before(parent.NotBefore) {
			return fmt.Errorf("certificate %d of the chain (%s) is valid at times when the next is not", i+1, c.Subject)
		}
		if len(c.UnhandledCriticalExtensions) > 0 {
			return fmt.Errorf("certificate %d of the chain (%s) has a critical extension that is not known", i+1, c.Subject)
		}
	}
	return nil
}

// CheckTSAChain wants the chain of a timestamp authority whose key this is.
func CheckTSAChain(chain []*x509.Certificate, public crypto.PublicKey) error {
	if err := checkLinks(chain, public); err != nil {
		return err
	}
	if len(chain) < 2 {
		return errors.New("a timestamp authority's certificate must come from a root")
	}
	for i, c := range chain {
		if i > 0 && (!c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0) {
			return fmt.Errorf("certificate %d of the chain (%s) is not one of a CA", i+1, c.Subject)
		}
	}
	if leaf := chain[0]; leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.UnknownExtKeyUsage) > 0 ||
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return errors.New("the first certificate of the chain is not for timestamps alone")
	}
	return nil
}
