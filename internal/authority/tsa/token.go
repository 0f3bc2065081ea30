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

	"github.com/hallmark-dev/hallmark/internal/authority/der"
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
var accuracy = []byte{der.Sequence, 3, der.Integer, 1, 1}

// granted is PKIStatusInfo (RFC 3161 2.4.2).
var granted = []byte{der.Sequence, 3, der.Integer, 1, 0}

func newFixed(leaf *x509.Certificate, certificates []*x509.Certificate, policy asn1.ObjectIdentifier, s scheme) (fixed, error) {
	var errs []error
	marshal := func(v any) []byte {
		out, err := asn1.Marshal(v)
		errs = append(errs, err)
		return out
	}
	algorithm := func(oid asn1.ObjectIdentifier) []byte {
		out, err := der.Algorithm(oid)
		errs = append(errs, err)
		return out
	}
	name := func(raw []byte) []byte { return der.Element(der.Context(4, true), raw) } // GeneralName.directoryName
	serial := marshal(leaf.SerialNumber)
	var raw [][]byte
	for _, c := range certificates {
		raw = append(raw, c.Raw)
	}
	hash := sha256.Sum256(leaf.Raw)
	f := fixed{
		infoHead:     slices.Concat(marshal(1), marshal(policy)),
		infoTail:     der.Element(der.Context(0, true), name(leaf.RawSubject)),
		dataHead:     slices.Concat(marshal(3), der.Element(der.Set, algorithm(s.digest))), // RFC 5652 5.1, with the version of RFC 3161
		certificates: setOf(der.Context(0, true), raw),
		contentType:  der.Element(der.Sequence, marshal(oidContentType()), der.Element(der.Set, marshal(oidTSTInfo()))),
		// RFC 5035 3. The hash algorithm is SHA-256, its default, and so must not be encoded.
		signingCertificate: der.Element(der.Sequence, marshal(oidSigningCertificateV2()), der.Element(der.Set, der.Element(der.Sequence, der.Element(der.Sequence, der.Element(der.Sequence,
			der.Element(der.OctetString, hash[:]), der.Element(der.Sequence, der.Element(der.Sequence, name(leaf.RawIssuer)), serial)))))),
		digestType:         marshal(oidMessageDigest()),
		timeType:           marshal(oidSigningTime()),
		signerHead:         slices.Concat(marshal(1), der.Element(der.Sequence, leaf.RawIssuer, serial), algorithm(s.digest)),
		signatureAlgorithm: algorithm(s.signature),
		signedData:         marshal(oidSignedData()),
		tstInfo:            marshal(oidTSTInfo()),
	}
	return f, errors.Join(errs...)
}

// setOf is SET OF with another tag: the elements in DER's order (X.690 11.6).
func setOf(tag byte, elements [][]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return der.Element(tag, elements...)
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
	data := der.Element(der.Sequence, s.fixed.dataHead, der.Element(der.Sequence, s.fixed.tstInfo, der.Element(der.Context(0, true), der.Element(der.OctetString, info))),
		certificates, der.Element(der.Set, signerInfo))
	return der.Element(der.Sequence, granted, der.Element(der.Sequence, s.fixed.signedData, der.Element(der.Context(0, true), data))), nil
}

// tstInfo is the DER TSTInfo (RFC 3161 2.4.2).
func (s *TSA) tstInfo(req *request, now time.Time) []byte {
	return der.Element(der.Sequence, s.fixed.infoHead, req.imprint, der.Natural(randomSerial()), der.Generalized(now), accuracy, req.nonce, s.fixed.infoTail)
}

// signerInfo signs info (RFC 5652 5.3, 5.4).
func (s *TSA) signerInfo(info []byte, now time.Time) ([]byte, error) {
	// What is signed is the SET OF itself; in the structure it is tagged [0].
	signed := setOf(der.Set, s.attributes(info, now))
	h := s.scheme.hash.New()
	h.Write(signed)
	signature, err := s.cfg.Key.Sign(rand.Reader, h.Sum(nil), s.scheme.hash)
	if err != nil {
		return nil, err
	}
	signed[0] = der.Context(0, true)
	return der.Element(der.Sequence, s.fixed.signerHead, signed, s.fixed.signatureAlgorithm, der.Element(der.OctetString, signature)), nil
}

// attributes are the signed ones: RFC 5652 11.1-11.3 and, as RFC 5816 wants it,
// the signing certificate with its SHA-256.
func (s *TSA) attributes(info []byte, now time.Time) [][]byte {
	h := s.scheme.hash.New()
	h.Write(info)
	return [][]byte{
		s.fixed.contentType,
		der.Element(der.Sequence, s.fixed.digestType, der.Element(der.Set, der.Element(der.OctetString, h.Sum(nil)))),
		der.Element(der.Sequence, s.fixed.timeType, der.Element(der.Set, der.Time(now))),
		s.fixed.signingCertificate,
	}
}
