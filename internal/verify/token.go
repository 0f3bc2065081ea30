package verify

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // for crypto.SHA1: names certificates in old tokens
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-dev/hallmark/internal/cms"
)

// token is an RFC 3161 time stamp, parsed and consistent with itself: content
// type and message digest attributes are right, the algorithms agree. Its
// signature is not checked yet.
type token struct {
	genTime     time.Time
	accuracy    time.Duration // by which genTime may be off either way
	imprintHash crypto.Hash
	imprint     []byte

	hash        crypto.Hash // signature's
	algorithm   x509.PublicKeyAlgorithm
	signedAttrs []byte // re-tagged as a SET: what is signed (RFC 5652, 5.4)
	sig         []byte

	issuer, serial []byte // of the signer's certificate, DER; or
	keyID          []byte // its subject key identifier
	certIDs        []essCertID
	certificates   [][]byte // DER, as embedded; nothing is believed of them
}

// essCertID is what the signer says which certificate is its own (RFC 2634, 5.4,
// with SHA-1, which is no more than a name here; RFC 5816).
type essCertID struct {
	hash           crypto.Hash
	digest         []byte
	issuer, serial []byte // DER, nil when left out
}

var errToken = errors.New("it is not a well-formed RFC 3161 time stamp")

// context is the context-specific tag n; constructed when it wraps elements.
func context(n uint8) cbasn1.Tag     { return cbasn1.Tag(n).ContextSpecific() }
func constructed(n uint8) cbasn1.Tag { return context(n).Constructed() }

// readOID reads an object identifier as the bytes of its DER content, to be
// compared with constants.
func readOID(in *cryptobyte.String) (cryptobyte.String, bool) {
	var id cryptobyte.String
	if !in.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) || len(id) == 0 || id[len(id)-1]&0x80 != 0 {
		return nil, false
	}
	for i, b := range id { // no arc begins with an empty digit
		if b == 0x80 && (i == 0 || id[i-1]&0x80 == 0) {
			return nil, false
		}
	}
	return id, true
}

// Object identifiers as the content of their DER.
const (
	oidSignedData   = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"         // 1.2.840.113549.1.7.2
	oidTSTInfo      = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04" // 1.2.840.113549.1.9.16.1.4
	oidContentType  = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"         // 1.2.840.113549.1.9.3
	oidMessageHash  = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"         // 1.2.840.113549.1.9.4
	oidSigningCert1 = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x0c" // 1.2.840.113549.1.9.16.2.12
	oidSigningCert2 = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f" // 1.2.840.113549.1.9.16.2.47

	oidSHA256      = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384      = "\x60\x86\x48\x01\x65\x03\x04\x02\x02" // 2.16.840.1.101.3.4.2.2
	oidSHA512      = "\x60\x86\x48\x01\x65\x03\x04\x02\x03" // 2.16.840.1.101.3.4.2.3
	oidECDSA256    = "\x2a\x86\x48\xce\x3d\x04\x03\x02"     // 1.2.840.10045.4.3.2
	oidECDSA384    = "\x2a\x86\x48\xce\x3d\x04\x03\x03"     // 1.2.840.10045.4.3.3
	oidECDSA512    = "\x2a\x86\x48\xce\x3d\x04\x03\x04"     // 1.2.840.10045.4.3.4
	oidECPublicKey = "\x2a\x86\x48\xce\x3d\x02\x01"         // 1.2.840.10045.2.1
	oidRSA         = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // 1.2.840.113549.1.1.1
	oidRSAWith256  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // 1.2.840.113549.1.1.11
	oidRSAWith384  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" // 1.2.840.113549.1.1.12
	oidRSAWith512  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" // 1.2.840.113549.1.1.13
	oidEd25519     = "\x2b\x65\x70"                         // 1.3.101.112
)

// parseToken reads a TimeStampResp (RFC 3161, 2.4.2) in DER. What no signature
// covers must be what it has to be, or is not there.
func parseToken(der []byte) (*token, error) {
	in := cryptobyte.String(der)
	var resp, status, contentInfo cryptobyte.String
	var granted int64
	if !in.ReadASN1(&resp, cbasn1.SEQUENCE) || !in.Empty() || !resp.ReadASN1(&status, cbasn1.SEQUENCE) {
		return nil, errToken
	}
	if !status.ReadASN1Integer(&granted) || granted != 0 {
		return nil, errors.New("the authority did not grant it")
	}
	var text cryptobyte.String
	if !status.Empty() && (!status.ReadASN1(&text, cbasn1.SEQUENCE) || !status.Empty()) {
		return nil, errToken
	}
	if !resp.ReadASN1Element(&contentInfo, cbasn1.SEQUENCE) || !resp.Empty() {
		return nil, errToken
	}
	return parseContentInfo(contentInfo)
}

// maxToken bounds a token in bytes. Those of known authorities have some thousands,
// and an object identifier takes eight times its bytes when it is read.
const maxToken = 1 << 20

// parseContentInfo reads a bare TimeStampToken (RFC 3161, 2.4.2) in DER.
func parseContentInfo(der []byte) (*token, error) {
	if len(der) > maxToken {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(der), maxToken)
	}
	in := cryptobyte.String(der)
	var contentInfo, signedData cryptobyte.String
	if !in.ReadASN1(&contentInfo, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errToken
	}
	if id, ok := readOID(&contentInfo); !ok || string(id) != oidSignedData ||
		!contentInfo.ReadASN1(&signedData, constructed(0)) || !contentInfo.Empty() {
		return nil, errToken
	}
	var body cryptobyte.String
	if !signedData.ReadASN1(&body, cbasn1.SEQUENCE) || !signedData.Empty() {
		return nil, errToken
	}
	return parseSignedData(body)
}

// parseSignedData reads CMS SignedData (RFC 5652, 5.1) with one signer.
func parseSignedData(in cryptobyte.String) (*token, error) {
	var version int64
	var algs, encap, wrapped, content, infos, info cryptobyte.String
	if !in.ReadASN1Integer(&version) || version != 3 || !in.ReadASN1(&algs, cbasn1.SET) || !in.ReadASN1(&encap, cbasn1.SEQUENCE) {
		return nil, errToken
	}
	digestAlg, ok := readHash(&algs)
	if !ok || !algs.Empty() {
		return nil, errors.New("it does not name exactly one digest algorithm of SHA-2")
	}
	if id, ok := readOID(&encap); !ok || string(id) != oidTSTInfo || !encap.ReadASN1(&wrapped, constructed(0)) || !encap.Empty() ||
		!wrapped.ReadASN1(&content, cbasn1.OCTET_STRING) || !wrapped.Empty() {
		return nil, errToken
	}
	t := &token{}
	if err := t.parseInfo(content); err != nil {
		return nil, err
	}
	var certs cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&certs, &present, constructed(0)) {
		return nil, errToken
	}
	for !certs.Empty() {
		var cert cryptobyte.String
		if len(t.certificates) == 16 || !certs.ReadASN1Element(&cert, cbasn1.SEQUENCE) || !cms.WellFormed(cert, 32) {
			return nil, errToken
		}
		t.certificates = append(t.certificates, cert)
	}
	if !in.ReadASN1(&infos, cbasn1.SET) || !in.Empty() || !infos.ReadASN1(&info, cbasn1.SEQUENCE) || !infos.Empty() {
		return nil, errors.New("it does not have exactly one signer, or carries revocation lists")
	}
	return t, t.parseSigner(info, digestAlg, content)
}

// readHash reads an AlgorithmIdentifier of SHA-256, SHA-384 or SHA-512 with
// parameters absent or NULL.
func readHash(in *cryptobyte.String) (crypto.Hash, bool) {
	var alg cryptobyte.String
	if !in.ReadASN1(&alg, cbasn1.SEQUENCE) {
		return 0, false
	}
	id, ok := readOID(&alg)
	if !ok || !noParameters(alg) {
		return 0, false
	}
	switch string(id) {
	case oidSHA256:
		return crypto.SHA256, true
	case oidSHA384:
		return crypto.SHA384, true
	case oidSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// noParameters reports whether what is left of an AlgorithmIdentifier is nothing or NULL.
func noParameters(rest cryptobyte.String) bool {
	var null cryptobyte.String
	return rest.Empty() || rest.ReadASN1(&null, cbasn1.NULL) && null.Empty() && rest.Empty()
}

// parseInfo reads TSTInfo (RFC 3161, 2.4.2).
func (t *token) parseInfo(content cryptobyte.String) error {
	var info, imprint, sum, genTime, skipped cryptobyte.String
	var version int64
	var policy asn1.ObjectIdentifier
	serial := new(big.Int)
	if !content.ReadASN1(&info, cbasn1.SEQUENCE) || !content.Empty() ||
		!info.ReadASN1Integer(&version) || version != 1 ||
		!info.ReadASN1ObjectIdentifier(&policy) ||
		!info.ReadASN1(&imprint, cbasn1.SEQUENCE) ||
		!info.ReadASN1Integer(serial) ||
		!info.ReadASN1(&genTime, cbasn1.GeneralizedTime) {
		return errToken
	}
	var ok bool
	if t.imprintHash, ok = readHash(&imprint); !ok || !imprint.ReadASN1(&sum, cbasn1.OCTET_STRING) || !imprint.Empty() || len(sum) != t.imprintHash.Size() {
		return errors.New("its message imprint is not a SHA-2 digest")
	}
	t.imprint = sum
	if t.genTime, ok = parseGenTime(string(genTime)); !ok {
		return errors.New("its time is not written as RFC 3161 wants it")
	}
	// ordering and nonce say nothing that is used; tsa names the authority, which
	// the certificate does better.
	var ordering bool
	if t.accuracy, ok = readAccuracy(&info, policy.String()); !ok {
		return errToken
	}
	if info.PeekASN1Tag(cbasn1.BOOLEAN) && !info.ReadASN1Boolean(&ordering) ||
		info.PeekASN1Tag(cbasn1.INTEGER) && !info.ReadASN1Integer(new(big.Int)) ||
		info.PeekASN1Tag(constructed(0)) && !info.ReadASN1(&skipped, constructed(0)) {
		return errToken
	}
	if info.PeekASN1Tag(constructed(1)) {
		return errors.New("it carries extensions, which are not understood")
	}
	if !info.Empty() {
		return errToken
	}
	return nil
}

// readAccuracy reads the Accuracy of a TSTInfo, if there is one. Under ETSI's
// baseline policy it is a second where it is left out (ETSI EN 319 421, 5.2).
func readAccuracy(info *cryptobyte.String, policy string) (time.Duration, bool) {
	var accuracy, part cryptobyte.String
	var total time.Duration
	if info.PeekASN1Tag(cbasn1.SEQUENCE) {
		var seconds int64
		if !info.ReadASN1(&accuracy, cbasn1.SEQUENCE) ||
			accuracy.PeekASN1Tag(cbasn1.INTEGER) && (!accuracy.ReadASN1Integer(&seconds) || seconds < 0 || seconds > 1<<31) {
			return 0, false
		}
		total = time.Duration(seconds) * time.Second
		for tag, unit := range []time.Duration{time.Millisecond, time.Microsecond} {
			if !accuracy.PeekASN1Tag(context(uint8(tag))) {
				continue
			}
			if !accuracy.ReadASN1(&part, context(uint8(tag))) || len(part) == 0 || len(part) > 2 || part[0] > 0x7f {
				return 0, false
			}
			n := 0
			for _, b := range part {
				n = n<<8 | int(b)
			}
			if n < 1 || n > 999 {
				return 0, false
			}
			total += time.Duration(n) * unit
		}
		if !accuracy.Empty() {
			return 0, false
		}
	}
	if total == 0 && policy == "0.4.0.2023.1.1" {
		total = time.Second
	}
	return total, true
}

// parseGenTime reads YYYYMMDDhhmmss[.s…]Z, where a fraction does not end in 0.
func parseGenTime(s string) (time.Time, bool) {
	const layout = "20060102150405Z"
	if len(s) < len(layout) || len(s) > len(layout)+10 || s[len(s)-1] != 'Z' {
		return time.Time{}, false
	}
	for i, c := range s[:len(s)-1] {
		if (c < '0' || c > '9') && !(c == '.' && i == 14) {
			return time.Time{}, false
		}
	}
	if len(s) > len(layout) && (s[14] != '.' || s[len(s)-2] == '0' || s[len(s)-2] == '.') {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, s[:14]+s[14:])
	return t, err == nil
}

// parseSigner reads SignerInfo (RFC 5652, 5.3).
func (t *token) parseSigner(in cryptobyte.String, outer crypto.Hash, content []byte) error {
	var version int64
	if !in.ReadASN1Integer(&version) {
		return errToken
	}
	var sid cryptobyte.String
	switch {
	case version == 1 && in.ReadASN1(&sid, cbasn1.SEQUENCE):
		var issuer, serial cryptobyte.String
		if !sid.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !sid.ReadASN1Element(&serial, cbasn1.INTEGER) || !sid.Empty() {
			return errToken
		}
		t.issuer, t.serial = issuer, serial
	case version == 3 && in.ReadASN1(&sid, context(0)) && len(sid) > 0:
		t.keyID = sid
	default:
		return errors.New("it does not say which certificate signed it")
	}
	digestAlg, ok := readHash(&in)
	if !ok || digestAlg != outer {
		return errors.New("its signer's digest algorithm is not the one that it names")
	}
	var attrs, alg, sig cryptobyte.String
	if !in.ReadASN1Element(&attrs, constructed(0)) || !in.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!in.ReadASN1(&sig, cbasn1.OCTET_STRING) || !in.Empty() {
		return errors.New("its signer info has no signed attributes, or attributes that are not signed")
	}
	t.sig = sig
	if t.algorithm, t.hash, ok = signatureAlgorithm(alg, digestAlg); !ok {
		return errors.New("its signature algorithm is not supported")
	}
	t.signedAttrs = append([]byte{byte(cbasn1.SET)}, attrs[1:]...)
	var list cryptobyte.String
	if !attrs.ReadASN1(&list, constructed(0)) {
		return errToken
	}
	return t.parseAttributes(list, digestAlg, content)
}

// signatureAlgorithm reads an AlgorithmIdentifier's content. Identifiers that
// name only a key leave the hash to the digest algorithm.
func signatureAlgorithm(in cryptobyte.String, digest crypto.Hash) (x509.PublicKeyAlgorithm, crypto.Hash, bool) {
	id, ok := readOID(&in)
	if !ok || !noParameters(in) {
		return 0, 0, false
	}
	switch string(id) {
	case oidECDSA256:
		return x509.ECDSA, crypto.SHA256, in.Empty()
	case oidECDSA384:
		return x509.ECDSA, crypto.SHA384, in.Empty()
	case oidECDSA512:
		return x509.ECDSA, crypto.SHA512, in.Empty()
	case oidECPublicKey:
		return x509.ECDSA, digest, in.Empty()
	case oidRSAWith256:
		return x509.RSA, crypto.SHA256, true
	case oidRSAWith384:
		return x509.RSA, crypto.SHA384, true
	case oidRSAWith512:
		return x509.RSA, crypto.SHA512, true
	case oidRSA:
		return x509.RSA, digest, true
	case oidEd25519:
		return x509.Ed25519, digest, in.Empty()
	}
	return 0, 0, false
}

// parseAttributes checks the signed attributes: content type, message digest
// and the signer's certificate must be there, each once.
func (t *token) parseAttributes(list cryptobyte.String, digestAlg crypto.Hash, content []byte) error {
	seen := make([]cryptobyte.String, 0, 8)
	known := func(id string) bool {
		return slices.ContainsFunc(seen, func(s cryptobyte.String) bool { return string(s) == id })
	}
	for !list.Empty() {
		var attr, values cryptobyte.String
		if !list.ReadASN1(&attr, cbasn1.SEQUENCE) {
			return errToken
		}
		id, ok := readOID(&attr)
		if !ok || known(string(id)) || len(seen) == 32 || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return errToken
		}
		seen = append(seen, id)
		switch string(id) {
		case oidContentType:
			if v, ok := readOID(&values); !ok || string(v) != oidTSTInfo || !values.Empty() {
				return errors.New("its signed content type is another")
			}
		case oidMessageHash:
			var sum cryptobyte.String
			h := digestAlg.New()
			h.Write(content)
			if !values.ReadASN1(&sum, cbasn1.OCTET_STRING) || !values.Empty() || !bytes.Equal(sum, h.Sum(nil)) {
				return errors.New("its signed digest is not that of its content")
			}
		case oidSigningCert1, oidSigningCert2:
			if !t.parseCertID(values, string(id) == oidSigningCert1) {
				return errors.New("it does not say in the way of RFC 5816 which certificate signed it")
			}
		}
	}
	if !known(oidContentType) || !known(oidMessageHash) || len(t.certIDs) == 0 {
		return errors.New("a signed attribute is missing: content type, message digest or signing certificate")
	}
	return nil
}

// parseCertID reads the first ESSCertID of SigningCertificate or ESSCertIDv2 of
// SigningCertificateV2 (RFC 5035, 3): the first is the signer's, the others only
// limit which path may be used.
func (t *token) parseCertID(in cryptobyte.String, v1 bool) bool {
	var signingCert, certs, id, digest cryptobyte.String
	if !in.ReadASN1(&signingCert, cbasn1.SEQUENCE) || !in.Empty() ||
		!signingCert.ReadASN1(&certs, cbasn1.SEQUENCE) || !certs.ReadASN1(&id, cbasn1.SEQUENCE) {
		return false
	}
	e := essCertID{hash: crypto.SHA256}
	if v1 {
		e.hash = crypto.SHA1
	} else if id.PeekASN1Tag(cbasn1.SEQUENCE) {
		var ok bool
		if e.hash, ok = readHash(&id); !ok {
			return false
		}
	}
	if !id.ReadASN1(&digest, cbasn1.OCTET_STRING) || len(digest) != e.hash.Size() {
		return false
	}
	e.digest = digest
	if id.Empty() {
		t.certIDs = append(t.certIDs, e)
		return true
	}
	var issuerSerial, names, directory, name, serial cryptobyte.String
	if !id.ReadASN1(&issuerSerial, cbasn1.SEQUENCE) || !id.Empty() ||
		!issuerSerial.ReadASN1(&names, cbasn1.SEQUENCE) ||
		!names.ReadASN1(&directory, constructed(4)) || !names.Empty() ||
		!directory.ReadASN1Element(&name, cbasn1.SEQUENCE) || !directory.Empty() ||
		!issuerSerial.ReadASN1Element(&serial, cbasn1.INTEGER) || !issuerSerial.Empty() {
		return false
	}
	e.issuer, e.serial = name, serial
	t.certIDs = append(t.certIDs, e)
	return true
}

// madeBy reports whether the token says that this certificate signed it.
func (t *token) madeBy(cert *x509.Certificate) bool {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return false
	}
	if t.keyID != nil && !bytes.Equal(t.keyID, cert.SubjectKeyId) ||
		t.keyID == nil && (!bytes.Equal(t.issuer, cert.RawIssuer) || !bytes.Equal(t.serial, serial)) {
		return false
	}
	for _, e := range t.certIDs {
		if e.issuer != nil && (!bytes.Equal(e.issuer, cert.RawIssuer) || !bytes.Equal(e.serial, serial)) {
			return false
		}
		h := e.hash.New()
		h.Write(cert.Raw)
		if !bytes.Equal(h.Sum(nil), e.digest) {
			return false
		}
	}
	return len(t.certIDs) > 0
}

// verifies reports whether the certificate's key made the signature.
func (t *token) verifies(cert *x509.Certificate) bool {
	return cert.PublicKeyAlgorithm == t.algorithm && len(schemes(cert.PublicKey)) > 0 &&
		verifyData(cert.PublicKey, t.hash, t.signedAttrs, t.sig)
}

// stamps reports whether the token is about this signature.
func (t *token) stamps(sig []byte) bool {
	if t.imprintHash == crypto.SHA256 {
		sum := sha256.Sum256(sig)
		return bytes.Equal(sum[:], t.imprint)
	}
	h := t.imprintHash.New()
	h.Write(sig)
	return bytes.Equal(h.Sum(nil), t.imprint)
}
