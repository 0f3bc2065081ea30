// Package ca is the authority's certificate authority: it speaks the Fulcio API
// v2, checks an identity token and the proof that the caller has a private key,
// and gives a ten-minute certificate that binds the two, with an embedded signed
// certificate timestamp (SCT) of its own CT key.
//
// Its keys are trusted: whoever has them can make certificates for any identity.
// Requests and tokens are not. There is no public CT log behind the SCT; who
// runs the authority vouches for both keys, and the SCT is there because every
// Sigstore verifier wants one.
package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-dev/hallmark/internal/key"
)

const (
	// Lifetime of a certificate: a signature needs seconds.
	Lifetime = 10 * time.Minute
	// backdate lets clients whose clock is a little behind use it at once.
	backdate = 5 * time.Second
	// rootLifetime of what NewRoot makes.
	rootLifetime = 10 * 365 * 24 * time.Hour
)

// Types of identities that an issuer's tokens carry.
const (
	TypeEmail          = "email"
	TypeGitHubWorkflow = "github-workflow"
)

// KeySource has the public keys of an issuer.
type KeySource interface {
	// PublicKey is the key with this id (JWS header "kid"), nil when there is none.
	// It is safe for concurrent use.
	PublicKey(kid string) crypto.PublicKey
}

// Issuer is an OIDC issuer whose tokens the CA takes. One URL may occur once for
// each type: the token's own claims then say which one it is.
type Issuer struct {
	URL        string   // must equal the token's iss
	ClientID   string   // must be in the token's aud
	Type       string   // TypeEmail or TypeGitHubWorkflow
	Algorithms []string // JWS algorithms; empty is RS256 alone, ES256 may be added
	ServerURL  string   // of TypeGitHubWorkflow: where the repositories are; "" is https://github.com
	Keys       KeySource
}

// Config is what a CA needs to know.
type Config struct {
	CAKey   crypto.Signer     // P-256
	CACert  *x509.Certificate // self-signed, of CAKey
	CTKey   crypto.Signer     // P-256, signs the SCTs; not the CAKey
	Issuers []Issuer
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: silent
}

// CA issues certificates. It is safe for concurrent use.
type CA struct {
	cfg       Config
	logID     [32]byte // SHA-256 of the CT key's SPKI (RFC 6962, 3.2)
	issuerKey [32]byte // SHA-256 of the CA key's SPKI (RFC 6962, 3.2)
	chainPEM  string
}

// New checks the configuration and makes a CA.
func New(cfg Config) (*CA, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CAKey == nil || cfg.CACert == nil || cfg.CTKey == nil {
		return nil, errors.New("CA: the CA's key and certificate and the CT key are needed")
	}
	for what, k := range map[string]crypto.PublicKey{"CA": cfg.CAKey.Public(), "CT": cfg.CTKey.Public()} {
		if pub, ok := k.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
			return nil, fmt.Errorf("CA: the %s key is not an ECDSA P-256 key", what)
		}
	}
	certKey, ok := cfg.CACert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !certKey.Equal(cfg.CAKey.Public()) {
		return nil, errors.New("CA: the certificate is not of the CA's key")
	}
	if certKey.Equal(cfg.CTKey.Public()) {
		return nil, errors.New("CA: the CT key must be another key than the CA's")
	}
	if !cfg.CACert.IsCA || !cfg.CACert.BasicConstraintsValid || cfg.CACert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("CA: the certificate is not one of a CA")
	}
	if err := checkIssuers(cfg.Issuers); err != nil {
		return nil, err
	}
	ctSPKI, err := x509.MarshalPKIXPublicKey(cfg.CTKey.Public())
	if err != nil {
		return nil, fmt.Errorf("CA: CT key: %w", err)
	}
	return &CA{cfg: cfg, logID: sha256.Sum256(ctSPKI), issuerKey: sha256.Sum256(cfg.CACert.RawSubjectPublicKeyInfo),
		chainPEM: certPEM(cfg.CACert.Raw)}, nil
}

func checkIssuers(issuers []Issuer) error {
	seen := map[[2]string]bool{}
	for _, i := range issuers {
		if i.URL == "" || i.ClientID == "" || i.Keys == nil || (i.Type != TypeEmail && i.Type != TypeGitHubWorkflow) {
			return fmt.Errorf("CA: issuer %q: URL, client id, keys and a known type are needed", i.URL)
		}
		for _, alg := range i.Algorithms {
			if alg != "RS256" && alg != "ES256" {
				return fmt.Errorf("CA: issuer %q: the algorithm %q is neither RS256 nor ES256", i.URL, alg)
			}
		}
		if k := [2]string{i.URL, i.Type}; seen[k] {
			return fmt.Errorf("CA: issuer %q of type %s is there twice", i.URL, i.Type)
		} else {
			seen[k] = true
		}
	}
	return nil
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// NewRoot makes the key and self-signed certificate of a CA, P-256, for code
// signing only, valid for ten years from now.
func NewRoot(now time.Time, organization, commonName string) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, nil, err
	}
	start := now.UTC().Truncate(time.Second).Add(-time.Minute)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{organization}, CommonName: commonName},
		NotBefore: start, NotAfter: start.Add(rootLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return private, cert, err
}

// serialNumber is positive and 127 random bits (RFC 5280, 4.1.2.2).
func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}

// issue makes the certificate. It is encoded twice: without the SCT to have the
// bytes that the SCT signs (RFC 6962, 3.2), then with it, and signed once. Both come from one
// template and the SCT list is the last extension, so that leaving it out of the
// second gives the first.
func (c *CA) issue(public crypto.PublicKey, who identity) ([]byte, error) {
	now := c.cfg.Now()
	if now.Before(c.cfg.CACert.NotBefore) || now.Add(Lifetime).After(c.cfg.CACert.NotAfter) {
		return nil, &clockError{now, c.cfg.CACert}
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	extensions, err := who.extensions.Render()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	keyID := sha256.Sum256(spki)
	start := now.UTC().Truncate(time.Second).Add(-backdate)
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: start, NotAfter: start.Add(Lifetime),
		SubjectKeyId:    keyID[:20],
		EmailAddresses:  who.emails,
		URIs:            who.uris,
		ExtraExtensions: extensions,
	}
	bare, err := tbs(template, c.cfg.CACert, spki)
	if err != nil {
		return nil, err
	}
	sct, err := c.sct(bare, now)
	if err != nil {
		return nil, err
	}
	whole, err := tbs(template, c.cfg.CACert, spki, sct)
	if err != nil {
		return nil, err
	}
	return c.seal(whole)
}

// clockError says that no certificate would be valid under the CA's own: its time is
// over, or the clock was set back.
type clockError struct {
	now  time.Time
	cert *x509.Certificate
}

func (e *clockError) Error() string {
	return fmt.Sprintf("this authority's clock says %s, and its own certificate is valid from %s to %s",
		e.now.UTC().Format(time.RFC3339), e.cert.NotBefore.UTC().Format(time.RFC3339), e.cert.NotAfter.UTC().Format(time.RFC3339))
}

// oidSCTList is RFC 6962, 3.3.
func oidSCTList() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
}

// sct signs a certificate's TBS as a precertificate entry (RFC 6962, 3.2) and
// returns the extension for it.
func (c *CA) sct(tbs []byte, now time.Time) (pkix.Extension, error) {
	ms := uint64(now.UnixMilli())
	var signed cryptobyte.Builder
	signed.AddUint8(0) // v1
	signed.AddUint8(0) // certificate_timestamp
	signed.AddUint64(ms)
	signed.AddUint16(1) // precert_entry
	signed.AddBytes(c.issuerKey[:])
	signed.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	signed.AddUint16(0) // no extensions
	message, err := signed.Bytes()
	if err != nil {
		return pkix.Extension{}, err
	}
	digest := sha256.Sum256(message)
	sig, err := c.cfg.CTKey.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("signing the SCT: %w", err)
	}
	var list cryptobyte.Builder
	list.AddUint16LengthPrefixed(func(list *cryptobyte.Builder) {
		list.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			b.AddBytes(c.logID[:])
			b.AddUint64(ms)
			b.AddUint16(0)
			b.AddUint8(4) // sha256 (RFC 5246, 7.4.1.4.1)
			b.AddUint8(3) // ecdsa
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
		})
	})
	raw, err := list.Bytes()
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.Marshal(raw)
	return pkix.Extension{Id: oidSCTList(), Value: value}, err
}

// proves checks the proof of possession: a signature over the token's subject.
func proves(public crypto.PublicKey, subject string, proof []byte) bool {
	return len(proof) > 0 && key.Verify(public, []byte(subject), proof) == nil
}

// onePEM is the content of text if it is exactly one PEM block of that type.
func onePEM(text, blockType string) ([]byte, bool) {
	data := []byte(text)
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blockType || len(block.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 ||
		!bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN "+blockType+"-----")) {
		return nil, false
	}
	return block.Bytes, true
}
