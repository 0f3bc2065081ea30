package tsa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"
)

// scheme is how the token is signed.
type scheme struct {
	hash              crypto.Hash
	digest, signature asn1.ObjectIdentifier
}

func schemeFor(pub *ecdsa.PublicKey) (scheme, error) {
	ecdsaWith := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, last} }
	switch pub.Curve {
	case elliptic.P256():
		return scheme{crypto.SHA256, oidSHA256(), ecdsaWith(2)}, nil
	case elliptic.P384():
		return scheme{crypto.SHA384, oidSHA384(), ecdsaWith(3)}, nil
	}
	return scheme{}, errors.New("timestamp authority: the key is neither P-256 nor P-384")
}

func cmsOID(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113549, 1}, last...)
}

func oidSignedData() asn1.ObjectIdentifier           { return cmsOID(7, 2) }
func oidContentType() asn1.ObjectIdentifier          { return cmsOID(9, 3) }
func oidMessageDigest() asn1.ObjectIdentifier        { return cmsOID(9, 4) }
func oidSigningTime() asn1.ObjectIdentifier          { return cmsOID(9, 5) }
func oidTSTInfo() asn1.ObjectIdentifier              { return cmsOID(9, 16, 1, 4) }
func oidSigningCertificateV2() asn1.ObjectIdentifier { return cmsOID(9, 16, 2, 47) }

// Tags of DER (X.690 8).
const (
	tagInteger         = 0x02
	tagOctetString     = 0x04
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xa0 // constructed
)

// der is one element of DER with the parts as its content.
func der(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// fixed are the parts that all tokens of a TSA have in common, as DER.
type fixed struct {
	infoHead, infoTail []byte // of TSTInfo: version and policy; the TSA's name
	dataHead           []byte // of SignedData: version and digest algorithms
	certificates       []byte // [0], for those who ask for them
	contentType        []byte // signed attribute
	signingCertificate []byte // signed attribute
	digestType         []byte // type of the attribute that holds the digest
	timeType           []byte // type of the attribute that holds the time
	signerHead         []byte // of SignerInfo: version, issuer and serial number, digest algorithm
	signatureAlgorithm []byte
	signedData         []byte // content type of the whole
	tstInfo            []byte // content type of what is in it
}

// accuracy is one second: genTime has whole ones (RFC 3161 2.4.2).
var accuracy = []byte{tagSequence, 3, tagInteger, 1, 1}

// granted is PKIStatusInfo (RFC 3161 2.4.2).
var granted = []byte{tagSequence, 3, tagInteger, 1, 0}

func newFixed(leaf *x509.Certificate, certificates []*x509.Certificate, policy asn1.ObjectIdentifier, s scheme) (fixed, error) {
	var errs []error
	marshal := func(v any) []byte {
		out, err := asn1.Marshal(v)
		errs = append(errs, err)
		return out
	}
	// RFC 5754 2 and 3.2: without parameters.
	algorithm := func(oid asn1.ObjectIdentifier) []byte { return der(tagSequence, marshal(oid)) }
	name := func(raw []byte) []byte { return der(tagContext0|4, raw) } // GeneralName.directoryName
	serial := marshal(leaf.SerialNumber)
	var raw [][]byte
	for _, c := range certificates {
		raw = append(raw, c.Raw)
	}
	hash := sha256.Sum256(leaf.Raw)
	f := fixed{
		infoHead:     slices.Concat(marshal(1), marshal(policy)),
		infoTail:     der(tagContext0, name(leaf.RawSubject)),
		dataHead:     slices.Concat(marshal(3), der(tagSet, algorithm(s.digest))), // RFC 5652 5.1, with the version of RFC 3161
		certificates: setOf(tagContext0, raw),
		contentType:  der(tagSequence, marshal(oidContentType()), der(tagSet, marshal(oidTSTInfo()))),
		// RFC 5035 3. The hash algorithm is SHA-256, its default, and so must not be encoded.
		signingCertificate: der(tagSequence, marshal(oidSigningCertificateV2()), der(tagSet, der(tagSequence, der(tagSequence, der(tagSequence,
			der(tagOctetString, hash[:]), der(tagSequence, der(tagSequence, name(leaf.RawIssuer)), serial)))))),
		digestType:         marshal(oidMessageDigest()),
		timeType:           marshal(oidSigningTime()),
		signerHead:         slices.Concat(marshal(1), der(tagSequence, leaf.RawIssuer, serial), algorithm(s.digest)),
		signatureAlgorithm: algorithm(s.signature),
		signedData:         marshal(oidSignedData()),
		tstInfo:            marshal(oidTSTInfo()),
	}
	return f, errors.Join(errs...)
}

// setOf is SET OF with another tag: the elements in DER's order (X.690 11.6).
func setOf(tag byte, elements [][]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return der(tag, elements...)
}

// respond is TimeStampResp{granted, token} (RFC 3161 2.4.2).
func (s *TSA) respond(req *request, now time.Time) ([]byte, error) {
	info := s.tstInfo(req, now)
	signerInfo, err := s.signerInfo(info, now)
	if err != nil {
		return nil, err
	}
	var certificates []byte
	if req.certReq {
		certificates = s.fixed.certificates
	}
	data := der(tagSequence, s.fixed.dataHead, der(tagSequence, s.fixed.tstInfo, der(tagContext0, der(tagOctetString, info))),
		certificates, der(tagSet, signerInfo))
	return der(tagSequence, granted, der(tagSequence, s.fixed.signedData, der(tagContext0, data))), nil
}

// tstInfo is the DER TSTInfo (RFC 3161 2.4.2).
func (s *TSA) tstInfo(req *request, now time.Time) []byte {
	return der(tagSequence, s.fixed.infoHead, req.imprint, randomInteger(), generalizedTime(now), accuracy, req.nonce, s.fixed.infoTail)
}

// randomInteger is a positive INTEGER of 127 random bits, in fewest bytes.
func randomInteger() []byte {
	raw := randomSerial().Bytes()
	if len(raw) == 0 || raw[0]&0x80 != 0 {
		raw = append([]byte{0}, raw...)
	}
	return der(tagInteger, raw)
}

func generalizedTime(t time.Time) []byte {
	return der(tagGeneralizedTime, t.AppendFormat(nil, "20060102150405Z"))
}

// signerInfo signs info (RFC 5652 5.3, 5.4).
func (s *TSA) signerInfo(info []byte, now time.Time) ([]byte, error) {
	// What is signed is the SET OF itself; in the structure it is tagged [0].
	signed := setOf(tagSet, s.attributes(info, now))
	h := s.scheme.hash.New()
	h.Write(signed)
	signature, err := s.cfg.Key.Sign(rand.Reader, h.Sum(nil), s.scheme.hash)
	if err != nil {
		return nil, err
	}
	signed[0] = tagContext0
	return der(tagSequence, s.fixed.signerHead, signed, s.fixed.signatureAlgorithm, der(tagOctetString, signature)), nil
}

// attributes are the signed ones: RFC 5652 11.1-11.3 and, as RFC 5816 wants it,
// the signing certificate with its SHA-256.
func (s *TSA) attributes(info []byte, now time.Time) [][]byte {
	h := s.scheme.hash.New()
	h.Write(info)
	// RFC 5652 11.3: UTCTime through 2049.
	at := generalizedTime(now)
	if now.Year() < 2050 {
		at = der(tagUTCTime, now.AppendFormat(nil, "060102150405Z"))
	}
	return [][]byte{
		s.fixed.contentType,
		der(tagSequence, s.fixed.digestType, der(tagSet, der(tagOctetString, h.Sum(nil)))),
		der(tagSequence, s.fixed.timeType, der(tagSet, at)),
		s.fixed.signingCertificate,
	}
}
