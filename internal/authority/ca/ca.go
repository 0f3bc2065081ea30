// Package ca is the authority's certificate authority: it speaks the Fulcio API
// v2, lets package issuers check an identity token, checks the proof that the caller
// has a private key, and gives a ten-minute certificate that binds the two, with an
// embedded signed certificate timestamp (SCT): of its own CT key, or of a CT log
// that the certificate was submitted to first.
//
// Its keys are trusted: whoever has them can make certificates for any identity.
// Requests and tokens are not. There is no public CT log behind an SCT of its own
// key; who runs the authority vouches for both keys, and the SCT is there because
// every Sigstore verifier wants one.
//
// Beside the service it has what makes CA certificates: those of a new folder, and
// an offline root's (ceremony.go).
package ca

import (
	"bytes"
	"context"
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

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
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

// Config is what a CA needs to know.
type Config struct {
	CAKey crypto.Signer // ECDSA P-256 or P-384
	// Chain is the certificate of CAKey first and a self-signed root last. They may
	// be one: a root that signs certificates itself.
	Chain []*x509.Certificate
	// CTKey signs the SCTs: ECDSA P-256, not the CAKey. With CTLog it is not needed.
	CTKey crypto.Signer
	// CTLog, when not nil, is the log that every certificate is submitted to before
	// it is issued, and whose SCT it carries.
	CTLog   *CTLog
	Issuers *issuers.Set
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: silent
}

// CA issues certificates. It is safe for concurrent use.
type CA struct {
	cfg       Config
	logID     [32]byte // SHA-256 of the CT key's SPKI (RFC 6962, 3.2)
	issuerKey [32]byte // SHA-256 of the CA key's SPKI (RFC 6962, 3.2)
	chainPEM  []string
	from, to  time.Time // when all of the chain is valid
}

// New checks the configuration and makes a CA.
func New(cfg Config) (*CA, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CAKey == nil || len(cfg.Chain) == 0 || cfg.CTKey == nil && cfg.CTLog == nil || cfg.Issuers == nil {
		return nil, errors.New("CA: the CA's key and chain, a CT key and the issuers are needed")
	}
	var ct crypto.PublicKey
	if cfg.CTLog == nil {
		ct = cfg.CTKey.Public()
	}
	if err := CheckKeys(cfg.CAKey.Public(), cfg.Chain, ct); err != nil {
		return nil, err
	}
	c := &CA{cfg: cfg, issuerKey: sha256.Sum256(cfg.Chain[0].RawSubjectPublicKeyInfo), from: cfg.Chain[0].NotBefore, to: cfg.Chain[0].NotAfter}
	for _, one := range cfg.Chain {
		c.chainPEM = append(c.chainPEM, certPEM(one.Raw))
		if one.NotBefore.After(c.from) {
			c.from = one.NotBefore
		}
		if one.NotAfter.Before(c.to) {
			c.to = one.NotAfter
		}
	}
	if cfg.CTLog != nil {
		return c, nil
	}
	spki, err := x509.MarshalPKIXPublicKey(ct)
	if err != nil {
		return nil, fmt.Errorf("CA: CT key: %w", err)
	}
	c.logID = sha256.Sum256(spki)
	return c, nil
}

// CheckKeys refuses keys and a chain that a CA could not use. The CT key may be nil:
// then a log elsewhere has it.
func CheckKeys(public crypto.PublicKey, chain []*x509.Certificate, ct crypto.PublicKey) error {
	if err := forCA(public); err != nil {
		return fmt.Errorf("CA: the key: %w", err)
	}
	if err := CheckChain(chain, public); err != nil {
		return fmt.Errorf("CA: %w", err)
	}
	if ct == nil {
		return nil
	}
	k, ok := ct.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return errors.New("CA: the CT key is not an ECDSA P-256 key")
	}
	if k.Equal(public) {
		return errors.New("CA: the CT key must be another key than the CA's")
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

// issue makes the certificate. Its content is encoded without the SCT, as the SCT
// signs it (RFC 6962, 3.2), and with it as the last extension, so that leaving it out
// gives what was signed.
func (c *CA) issue(ctx context.Context, public crypto.PublicKey, who issuers.Identity) ([]byte, error) {
	now := c.cfg.Now()
	if now.Before(c.from) || now.Add(Lifetime).After(c.to) {
		return nil, &clockError{now, c.from, c.to}
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	template, err := c.template(spki, who, now)
	if err != nil {
		return nil, err
	}
	content, err := newTBS(template, c.cfg.Chain[0], spki)
	if err != nil {
		return nil, err
	}
	sct, err := c.transparency(ctx, content, now)
	if err != nil {
		return nil, err
	}
	return c.sealed(content, sct)
}

// transparency is the extension with the SCT of a certificate: of our own key, or of
// the log that its precertificate has been submitted to.
func (c *CA) transparency(ctx context.Context, content tbs, now time.Time) (pkix.Extension, error) {
	bare, err := content.with()
	if err != nil {
		return pkix.Extension{}, err
	}
	if c.cfg.CTLog == nil {
		return c.sct(bare, now)
	}
	precertificate, err := c.sealed(content, poison())
	if err != nil {
		return pkix.Extension{}, err
	}
	return c.cfg.CTLog.submit(ctx, precertificate, c.cfg.Chain, c.precertEntry(bare), now)
}

// sealed is a certificate with one extension more.
func (c *CA) sealed(content tbs, last pkix.Extension) ([]byte, error) {
	whole, err := content.with(last)
	if err != nil {
		return nil, err
	}
	return c.seal(whole)
}

// template is the certificate for a key without what a CT log has to do with it.
func (c *CA) template(spki []byte, who issuers.Identity, now time.Time) (*x509.Certificate, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	extensions, err := who.Extensions.Render()
	if err != nil {
		return nil, err
	}
	if who.OtherName != "" {
		san, err := otherName(who.OtherName)
		if err != nil {
			return nil, err
		}
		extensions = append([]pkix.Extension{san}, extensions...)
	}
	keyID := sha256.Sum256(spki)
	start := now.UTC().Truncate(time.Second).Add(-backdate)
	return &x509.Certificate{
		SerialNumber: serial, NotBefore: start, NotAfter: start.Add(Lifetime),
		SubjectKeyId:    keyID[:20],
		EmailAddresses:  who.Emails,
		URIs:            who.URIs,
		ExtraExtensions: extensions,
	}, nil
}

// otherName is the subject alternative name of a user name (Fulcio,
// docs/oid-info.md, 1.3.6.1.4.1.57264.1.7), critical as there is no other subject.
func otherName(name string) (pkix.Extension, error) {
	value, err := asn1.MarshalWithParams(struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8,explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}, name}, "tag:0")
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err = asn1.Marshal([]asn1.RawValue{{FullBytes: value}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: value}, err
}

// clockError says that no certificate would be valid under the CA's own: its time is
// over, or the clock was set back.
type clockError struct{ now, from, to time.Time }

func (e *clockError) Error() string {
	return fmt.Sprintf("this authority's clock says %s, and its own certificate is valid from %s to %s",
		e.now.UTC().Format(time.RFC3339), e.from.UTC().Format(time.RFC3339), e.to.UTC().Format(time.RFC3339))
}

// oidSCTList is RFC 6962, 3.3.
func oidSCTList() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
}

// precertEntry is what the SCT of a certificate signs between its timestamp and its
// extensions (RFC 6962, 3.2): entry type, issuer key hash and TBS.
func (c *CA) precertEntry(tbs []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddUint16(1) // precert_entry
		b.AddBytes(c.issuerKey[:])
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	}
}

// signedBySCT is the message of an SCT's signature (RFC 6962, 3.2).
func signedBySCT(ms uint64, entry func(*cryptobyte.Builder), extensions []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(0) // v1
	b.AddUint8(0) // certificate_timestamp
	b.AddUint64(ms)
	entry(&b)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
	return b.Bytes()
}

// sctList is the extension with one SCT (RFC 6962, 3.3); signature is its
// digitally-signed struct.
func sctList(logID [32]byte, ms uint64, extensions, signature []byte) (pkix.Extension, error) {
	var list cryptobyte.Builder
	list.AddUint16LengthPrefixed(func(list *cryptobyte.Builder) {
		list.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			b.AddBytes(logID[:])
			b.AddUint64(ms)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
			b.AddBytes(signature)
		})
	})
	raw, err := list.Bytes()
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.Marshal(raw)
	return pkix.Extension{Id: oidSCTList(), Value: value}, err
}

// sct signs a certificate's TBS as a precertificate entry (RFC 6962, 3.2) with our
// own CT key, and returns the extension for it.
func (c *CA) sct(tbs []byte, now time.Time) (pkix.Extension, error) {
	ms := uint64(now.UnixMilli())
	message, err := signedBySCT(ms, c.precertEntry(tbs), nil)
	if err != nil {
		return pkix.Extension{}, err
	}
	digest := sha256.Sum256(message)
	sig, err := c.cfg.CTKey.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("signing the SCT: %w", err)
	}
	var signature cryptobyte.Builder
	signature.AddUint8(4) // sha256 (RFC 5246, 7.4.1.4.1)
	signature.AddUint8(3) // ecdsa
	signature.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	raw, err := signature.Bytes()
	if err != nil {
		return pkix.Extension{}, err
	}
	return sctList(c.logID, ms, nil, raw)
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
