package notaryforge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha512" // signs
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// Authority is a certificate with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// World has a root, an intermediate, a signer below it and a timestamp authority.
type World struct {
	Now                  time.Time
	Root, CA, Leaf       *Authority
	TSARoot, TSA         *Authority
	serial               int64 // of the last certificate
	newKey               func() crypto.Signer
	MediaType, Digest    string
	Size                 int64
	Repository, Identity string
}

// P256 makes keys of the usual kind.
func P256() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// NewWorld makes one; all keys are made by newKey, nil: P256.
func NewWorld(now time.Time, newKey func() crypto.Signer) *World {
	if newKey == nil {
		newKey = P256
	}
	w := &World{Now: now.UTC().Truncate(time.Second), newKey: newKey,
		MediaType: "application/vnd.oci.image.manifest.v1+json",
		Digest:    "sha256:73c803930ea3ba1e54bc25c2bdc53edd0284c62ed651fe7b00369da519a3c333", Size: 407,
		Repository: "registry.example:5000/team/app", Identity: "x509.subject:C=US,ST=WA,O=Acme,CN=signer"}
	w.Root = w.Issue(nil, w.CATemplate("Acme root"))
	w.CA = w.Issue(w.Root, w.CATemplate("Acme CA"))
	w.Leaf = w.Issue(w.CA, w.LeafTemplate())
	w.TSARoot = w.Issue(nil, w.CATemplate("TSA root"))
	w.TSA = w.Issue(w.TSARoot, w.TSATemplate())
	return w
}

// Name is a subject of the world.
func Name(cn string) pkix.Name {
	return pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme"}, CommonName: cn}
}

// CATemplate is a CA's certificate.
func (w *World) CATemplate(cn string) *x509.Certificate {
	return &x509.Certificate{Subject: Name(cn), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: w.Now.AddDate(-2, 0, 0), NotAfter: w.Now.AddDate(8, 0, 0)}
}

// LeafTemplate is a signing certificate.
func (w *World) LeafTemplate() *x509.Certificate {
	return &x509.Certificate{Subject: Name("signer"), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(1, 0, 0)}
}

// TSATemplate is a timestamp authority's certificate.
func (w *World) TSATemplate() *x509.Certificate {
	return &x509.Certificate{Subject: Name("TSA"), KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: w.Now.AddDate(-2, 0, 0), NotAfter: w.Now.AddDate(2, 0, 0),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
			Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))}}}
}

// Issue issues a certificate with a new key; by nil signs itself.
func (w *World) Issue(by *Authority, template *x509.Certificate) *Authority {
	return w.IssueFor(by, template, w.newKey())
}

// IssueFor issues a certificate for a key.
func (w *World) IssueFor(by *Authority, template *x509.Certificate, key crypto.Signer) *Authority {
	w.serial++
	t := *template
	t.SerialNumber = big.NewInt(w.serial)
	parent, signer := &t, key
	if by != nil {
		parent, signer = by.Cert, by.Key
	}
	der := must(x509.CreateCertificate(rand.Reader, &t, parent, key.Public(), signer))
	return &Authority{must(x509.ParseCertificate(der)), key}
}

// Chain is DER, in the order given.
func Chain(as ...*Authority) [][]byte {
	var out [][]byte
	for _, a := range as {
		out = append(out, a.Cert.Raw)
	}
	return out
}

// Payload names the world's artifact.
func (w *World) Payload() []byte { return Target(w.MediaType, w.Digest, w.Size, nil) }

// Envelope is a good signature by the world's leaf, an hour old.
func (w *World) Envelope() *Envelope {
	return New(w.Leaf.Key, Chain(w.Leaf, w.CA, w.Root), w.Payload(), w.Now.Add(-time.Hour))
}

// Token is a bare RFC 3161 token over a signature by the world's authority.
func (w *World) Token(by *Authority, at time.Time, sig []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(sig)
	ts := timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: h.Sum(nil), Time: at, SerialNumber: big.NewInt(1),
		Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true, Certificates: []*x509.Certificate{w.TSARoot.Cert}}
	resp := must(ts.CreateResponseWithOpts(by.Cert, by.Key, crypto.SHA256))
	var parts struct {
		Status asn1.RawValue
		Token  asn1.RawValue
	}
	must(asn1.Unmarshal(resp, &parts))
	return parts.Token.FullBytes
}

// Statement is one of a trust policy, as JSON has it.
type Statement map[string]any

// Statement is a good statement for the world's repository at a level.
func (w *World) Statement(level string) Statement {
	return Statement{"name": "acme", "registryScopes": []string{w.Repository}, "signatureVerification": map[string]any{"level": level},
		"trustStores": []string{"ca:acme"}, "trustedIdentities": []string{w.Identity}}
}

// PolicyJSON is a trust policy of statements.
func PolicyJSON(statements ...Statement) []byte {
	return must(json.Marshal(map[string]any{"version": "1.0", "trustPolicies": statements}))
}

// Parts is a trust with the statements and the world's roots in ca:acme,
// signingAuthority:acme and tsa:acme.
func (w *World) Parts(statements ...Statement) notation.Parts {
	return notation.Parts{Policy: PolicyJSON(statements...), Stores: []notation.Store{
		{Type: "ca", Name: "acme", Certificates: Chain(w.Root)},
		{Type: "signingAuthority", Name: "acme", Certificates: Chain(w.Root)},
		{Type: "tsa", Name: "acme", Certificates: Chain(w.TSARoot)},
	}}
}
