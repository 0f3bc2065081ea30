package forge

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"
)

// TokenOptions are what tests vary about a timestamp.
type TokenOptions struct {
	At       time.Time // default a second after Now
	By       *Authority // default TSA
	Imprint  []byte     // instead of the digest of what is stamped
	Embed    [][]byte   // certificates, DER; nil: the field is left out
	Fraction string     // of a second, with its point
	Attrs    func([][]byte) [][]byte // signed attributes, each DER
	Info     func(object *TSTInfo)
	Version  int // of SignerInfo; 3 names the key instead of the certificate
	Sign     func(der []byte) []byte
	Tail     []byte // after SignerInfo's signature
	Status   int
}

// TSTInfo is the content of a timestamp (RFC 3161, 2.4.2).
type TSTInfo struct {
	Version  int
	Policy   asn1.ObjectIdentifier
	Imprint  TSTImprint
	Serial   *big.Int
	GenTime  asn1.RawValue
	Ordering bool            `asn1:"optional"`
	Nonce    *big.Int        `asn1:"optional"`
	Ext      []asn1.RawValue `asn1:"optional,tag:1"`
}

// TSTImprint is what a timestamp is about.
type TSTImprint struct {
	Alg pkix.AlgorithmIdentifier
	Sum []byte
}

var (
	algSHA256 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}
	algECDSA  = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	oidTST    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
)

// DER is a constructed element of DER.
func DER(class, tag int, parts ...[]byte) []byte {
	return Must(asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: slices.Concat(parts...)}))
}

// Attribute is a CMS attribute with one value (RFC 5652, 5.3).
func Attribute(id asn1.ObjectIdentifier, value []byte) []byte {
	return DER(0, 16, Must(asn1.Marshal(id)), DER(0, 17, value))
}

// Token is an RFC 3161 response over sig.
func (w *World) Token(sig []byte, o TokenOptions) []byte {
	if o.By == nil {
		o.By = w.TSA
	}
	if o.At.IsZero() {
		o.At = w.Now.Add(time.Second)
	}
	sum := sha256.Sum256(sig)
	if o.Imprint != nil {
		copy(sum[:], o.Imprint)
	}
	info := TSTInfo{1, asn1.ObjectIdentifier{1, 2, 3}, TSTImprint{algSHA256, sum[:]}, big.NewInt(9),
		asn1.RawValue{Tag: 24, Bytes: []byte(o.At.UTC().Format("20060102150405") + o.Fraction + "Z")}, false, big.NewInt(5), nil}
	if o.Info != nil {
		o.Info(&info)
	}
	content := Must(asn1.Marshal(info))
	contentSum, certSum := sha256.Sum256(content), sha256.Sum256(o.By.Cert.Raw)
	attrs := [][]byte{
		Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, Must(asn1.Marshal(oidTST))),
		Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, Must(asn1.Marshal(contentSum[:]))),
		Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, DER(0, 16, DER(0, 16, DER(0, 16, Must(asn1.Marshal(certSum[:])))))),
	}
	if o.Attrs != nil {
		attrs = o.Attrs(attrs)
	}
	signature := SignECDSA(o.By.Key, DER(0, 17, attrs...))
	if o.Sign != nil {
		signature = o.Sign(DER(0, 17, attrs...))
	}
	version, sid := 1, DER(0, 16, o.By.Cert.RawIssuer, Must(asn1.Marshal(o.By.Cert.SerialNumber)))
	if o.Version == 3 {
		version, sid = 3, Must(asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, Bytes: o.By.Cert.SubjectKeyId}))
	}
	signer := DER(0, 16, Must(asn1.Marshal(version)), sid, Must(asn1.Marshal(algSHA256)), DER(2, 0, attrs...),
		Must(asn1.Marshal(algECDSA)), Must(asn1.Marshal(signature)), o.Tail)
	parts := [][]byte{Must(asn1.Marshal(3)), DER(0, 17, Must(asn1.Marshal(algSHA256))),
		DER(0, 16, Must(asn1.Marshal(oidTST)), DER(2, 0, Must(asn1.Marshal(content))))}
	if o.Embed != nil {
		parts = append(parts, DER(2, 0, o.Embed...))
	}
	signed := DER(0, 16, append(parts, DER(0, 17, signer))...)
	return DER(0, 16, DER(0, 16, Must(asn1.Marshal(o.Status))),
		DER(0, 16, Must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})), DER(2, 0, signed)))
}
