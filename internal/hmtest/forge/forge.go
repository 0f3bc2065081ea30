// Package forge is a small Sigstore in memory whose keys tests can misuse: it
// issues certificates and SCTs, keeps logs of both kinds, stamps times and signs
// whatever it is asked to, well or badly. It is for tests alone and nothing about
// it is secret.
//
// The zero [Options] make the cheapest instance (P-256 throughout); [Public]
// makes one of the public instance's shape. What is made can be had as claims,
// as bundle files of every version and as the layers of cosign's older format.
package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"net/url"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// World is an instance of Sigstore: authorities and logs with their keys.
type World struct {
	Now      time.Time  // certificates begin here; whole seconds, UTC
	CA       *Authority // issues signing certificates
	CARoot   *Authority // above CA; nil when CA is the root
	CT, V1   *ecdsa.PrivateKey
	V2       ed25519.PrivateKey
	V2Public ed25519.PublicKey
	TSARoot  *Authority
	TSA      *Authority
	// TreeSize is how many leaves the logs have, at least 3; the entry is the
	// second or, in larger trees, one near the middle.
	TreeSize int64
	Root     *trust.Root // believes all of it
}

// Options say how an instance is built.
type Options struct {
	Now          time.Time      // default: the current second
	CA           elliptic.Curve // of the certificate authority; default P-256
	Intermediate bool           // a CA below the root issues
	TSA          elliptic.Curve // of the timestamp authority's root; its leaf is P-256
	TreeSize     int64          // default 3
}

// Public are the options of the public instance's shape.
func Public() Options {
	return Options{CA: elliptic.P384(), Intermediate: true, TSA: elliptic.P384(), TreeSize: 1_500_000_000}
}

// Authority is a certificate with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Must is a value that cannot fail to be made here.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// NewKey is a new private key.
func NewKey(c elliptic.Curve) *ecdsa.PrivateKey { return Must(ecdsa.GenerateKey(c, rand.Reader)) }

// Issue makes a certificate; by nil means that self signs it.
func Issue(template *x509.Certificate, by *Authority, public crypto.PublicKey, self crypto.Signer) *x509.Certificate {
	parent, key := template, self
	if by != nil {
		parent, key = by.Cert, by.Key
	}
	der := Must(x509.CreateCertificate(rand.Reader, template, parent, public, key))
	return Must(x509.ParseCertificate(der))
}

// CATemplate is a CA's certificate, valid a year before now and nine after.
func CATemplate(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0)}
}

// NewCA makes a CA; change may spoil it.
func NewCA(template *x509.Certificate, curve elliptic.Curve, by *Authority) *Authority {
	key := NewKey(curve)
	return &Authority{Issue(template, by, key.Public(), key), key}
}

// New makes an instance.
func New(o Options) *World {
	for _, c := range []*elliptic.Curve{&o.CA, &o.TSA} {
		if *c == nil {
			*c = elliptic.P256()
		}
	}
	w := &World{Now: o.Now.Truncate(time.Second).UTC(), CT: NewKey(elliptic.P256()), V1: NewKey(elliptic.P256()), TreeSize: max(o.TreeSize, 3)}
	if o.Now.IsZero() {
		w.Now = time.Now().Truncate(time.Second).UTC()
	}
	if o.Intermediate {
		template := CATemplate("ca root", w.Now)
		template.MaxPathLen, template.MaxPathLenZero = 1, false
		w.CARoot = NewCA(template, o.CA, nil)
	}
	w.CA = NewCA(CATemplate("ca", w.Now), o.CA, w.CARoot)
	w.TSARoot = NewCA(CATemplate("tsa root", w.Now), o.TSA, nil)
	w.TSA = w.NewTSA(nil)
	w.V2Public, w.V2, _ = ed25519.GenerateKey(rand.Reader)
	w.Root = w.TrustRoot(nil)
	return w
}

// NewTSA issues a timestamp authority's leaf; change may spoil it.
func (w *World) NewTSA(change func(*x509.Certificate)) *Authority {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tsa"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(5, 0, 0), SubjectKeyId: []byte("tsa key"),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
			Value: Must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))}}}
	if change != nil {
		change(template)
	}
	key := NewKey(elliptic.P256())
	return &Authority{Issue(template, w.TSARoot, key.Public(), nil), key}
}

// TrustSpec is what a trust root that believes the instance says.
func (w *World) TrustSpec() *trust.RootSpec {
	start := w.Now.AddDate(0, -1, 0)
	chain := []*x509.Certificate{w.CA.Cert}
	if w.CARoot != nil {
		chain = append(chain, w.CARoot.Cert)
	}
	return &trust.RootSpec{
		CAs:    []trust.AuthoritySpec{{URI: "https://ca.test", Chain: chain, Start: start}},
		TSAs:   []trust.AuthoritySpec{{URI: "https://tsa.test", Chain: []*x509.Certificate{w.TSA.Cert, w.TSARoot.Cert}, Start: start}},
		CTLogs: []trust.LogSpec{{BaseURL: "https://ct.test", Key: w.CT.Public(), Start: start}},
		TLogs: []trust.LogSpec{
			{BaseURL: "https://rekor.test", Key: w.V1.Public(), Start: start},
			{BaseURL: "https://log2.test", Key: w.V2Public, Origin: "log2.test", Start: start},
		},
	}
}

// TrustedRoot is the instance's trusted_root.json; change may spoil it.
func (w *World) TrustedRoot(change func(*trust.RootSpec)) []byte {
	s := w.TrustSpec()
	if change != nil {
		change(s)
	}
	return Must(s.JSON())
}

// TrustRoot is TrustedRoot, parsed.
func (w *World) TrustRoot(change func(*trust.RootSpec)) *trust.Root {
	return Must(trust.ParseTrustedRoot(w.TrustedRoot(change)))
}

// LeafOptions are what tests vary about a signing certificate.
type LeafOptions struct {
	Key       crypto.PublicKey
	Email     string
	URI       string
	SAN       []byte // raw extension value instead
	IssuerV1  string
	IssuerV2  string
	Extra     []pkix.Extension
	Usage     x509.ExtKeyUsage
	NotBefore time.Time
	SCT       func(tbs []byte) []byte // extension value; nil: a good one; returning nil: none
	Change    func(*x509.Certificate)
}

// FulcioOID is the identifier of one of Fulcio's extensions.
func FulcioOID(arc int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, arc}
}

// UTF8 is a text as Fulcio's newer extensions hold it.
func UTF8(s string) []byte { return Must(asn1.MarshalWithParams(s, "utf8")) }

// Alice is the identity of claims that name no other.
func Alice() LeafOptions {
	return LeafOptions{Email: "alice@example.com", IssuerV1: "https://issuer.test", IssuerV2: "https://issuer.test"}
}

// Workflow is an identity of the public instance's most frequent kind: a GitHub
// workflow with all of its extensions.
func Workflow() LeafOptions {
	const repository, ref, sha = "https://github.com/example/project", "refs/heads/main", "0123456789abcdef0123456789abcdef01234567"
	o := LeafOptions{URI: repository + "/.github/workflows/release.yml@" + ref,
		IssuerV1: "https://token.actions.githubusercontent.com", IssuerV2: "https://token.actions.githubusercontent.com"}
	for i, text := range []string{2: "push", 3: sha, 4: "release", 5: "example/project", 6: ref} {
		if text != "" {
			o.Extra = append(o.Extra, pkix.Extension{Id: FulcioOID(i), Value: []byte(text)})
		}
	}
	for i, text := range []string{9: o.URI, 10: sha, 11: "github-hosted", 12: repository, 13: sha, 14: ref, 15: "123456789",
		16: "https://github.com/example", 17: "987654", 18: o.URI, 19: sha, 20: "push",
		21: repository + "/actions/runs/1234567890/attempts/1", 22: "public"} {
		if text != "" {
			o.Extra = append(o.Extra, pkix.Extension{Id: FulcioOID(i), Value: UTF8(text)})
		}
	}
	return o
}

// Leaf issues a signing certificate.
func (w *World) Leaf(o LeafOptions) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: serial(), KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: w.Now, NotAfter: w.Now.Add(10 * time.Minute),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if !o.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = o.NotBefore, o.NotBefore.Add(10*time.Minute)
	}
	if o.Usage != 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{o.Usage}
	}
	switch {
	case o.SAN != nil:
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: o.SAN})
	case o.URI != "":
		template.URIs = []*url.URL{Must(url.Parse(o.URI))}
	case o.Email != "":
		template.EmailAddresses = []string{o.Email}
	}
	if o.IssuerV1 != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: FulcioOID(1), Value: []byte(o.IssuerV1)})
	}
	if o.IssuerV2 != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: FulcioOID(8), Value: UTF8(o.IssuerV2)})
	}
	template.ExtraExtensions = append(template.ExtraExtensions, o.Extra...)
	if o.Change != nil {
		o.Change(template)
	}
	pre := Issue(template, w.CA, o.Key, nil)
	if o.SCT == nil {
		o.SCT = func(tbs []byte) []byte { return SCTExtension(w.SCT(tbs, nil)) }
	}
	if value := o.SCT(pre.RawTBSCertificate); value != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value})
		pre = Issue(template, w.CA, o.Key, nil)
	}
	return pre
}

func serial() *big.Int {
	b := make([]byte, 19)
	_, _ = rand.Read(b)
	return new(big.Int).SetBytes(append([]byte{1}, b...))
}

// SCT is one serialized SCT (RFC 6962, 3.2) over a certificate without SCTs.
func (w *World) SCT(tbs []byte, extensions []byte) []byte {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(w.Now.UnixMilli()))
	issuer := sha256.Sum256(w.CA.Cert.RawSubjectPublicKeyInfo)
	ext := append(binary.BigEndian.AppendUint16(nil, uint16(len(extensions))), extensions...)
	signed := append([]byte{0, 0}, stamp...)
	signed = append(append(signed, 0, 1), issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), ext...)
	sig := SignECDSA(w.CT, signed)
	logID := LogID(w.CT.Public())
	out := append([]byte{0}, logID...)
	out = append(append(append(out, stamp...), ext...), 4, 3)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(sig))), sig...)
}

// SCTExtension is the value of a certificate's SCT extension.
func SCTExtension(scts ...[]byte) []byte {
	var list []byte
	for _, s := range scts {
		list = append(binary.BigEndian.AppendUint16(list, uint16(len(s))), s...)
	}
	return Must(asn1.Marshal(append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)))
}

// LogID is the SHA-256 of a key's SubjectPublicKeyInfo.
func LogID(public crypto.PublicKey) []byte {
	sum := sha256.Sum256(Must(x509.MarshalPKIXPublicKey(public)))
	return sum[:]
}

// SignECDSA signs data's SHA-256.
func SignECDSA(key *ecdsa.PrivateKey, data []byte) []byte {
	sum := sha256.Sum256(data)
	return Must(ecdsa.SignASN1(rand.Reader, key, sum[:]))
}

// B64 is standard base64.
func B64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// Artifact is what claims are about that say nothing else.
var Artifact = []byte("the artifact\n")

// StatementAbout is an image signature's statement; subject is the JSON of its subjects.
func StatementAbout(subject string) []byte {
	return []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[` + subject + `],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
}

// ArtifactSubject is the JSON of a subject that is Artifact.
func ArtifactSubject() string {
	return `{"digest":{"sha256":"` + evidence.SHA256(Artifact).Hex() + `"},"annotations":{"env":"prod"}}`
}
