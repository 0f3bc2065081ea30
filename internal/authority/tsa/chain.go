package tsa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// chainLife is how long a new chain is valid. Tokens are checked long after
// they were made, so a chain is not short-lived.
const chainLife = 10 * 365 * 24 * time.Hour

// NewChain makes a P-256 key for a TSA and its chain, leaf first, then a root
// that issues nothing else: its key is forgotten when NewChain returns.
func NewChain(now time.Time) (leafKey crypto.Signer, chain []*x509.Certificate, err error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// Clocks on other machines may be a little behind.
	start := now.UTC().Truncate(time.Second).Add(-time.Minute)
	root := &x509.Certificate{
		SerialNumber: randomSerial(), NotBefore: start, NotAfter: start.Add(chainLife),
		Subject:               pkix.Name{Organization: []string{"Hallmark"}, CommonName: "Hallmark timestamp root"},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	rootCert, err := issue(root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, err
	}
	// RFC 3161 2.3: this usage alone, critical, which ExtKeyUsage cannot say.
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: randomSerial(), NotBefore: start, NotAfter: start.Add(chainLife),
		Subject:               pkix.Name{Organization: []string{"Hallmark"}, CommonName: "Hallmark timestamp authority"},
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtraExtensions:       []pkix.Extension{{Id: extKeyUsage(), Critical: true, Value: usage}},
	}
	leafCert, err := issue(leaf, rootCert, key.Public(), rootKey)
	if err != nil {
		return nil, nil, err
	}
	return key, []*x509.Certificate{leafCert, rootCert}, nil
}

func issue(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// randomSerial has 127 random bits (RFC 5280 4.1.2.2: positive, at most 20 octets).
func randomSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails since Go 1.24
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
