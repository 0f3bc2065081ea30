package cms

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers as the content of their DER.
const (
	oidData        = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01" // 1.2.840.113549.1.7.1
	oidSignedData  = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" // 1.2.840.113549.1.7.2
	oidContentType = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03" // 1.2.840.113549.1.9.3
	oidDigest      = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04" // 1.2.840.113549.1.9.4
	oidSigningTime = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05" // 1.2.840.113549.1.9.5
	oidSHA256      = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384      = "\x60\x86\x48\x01\x65\x03\x04\x02\x02" // 2.16.840.1.101.3.4.2.2
	oidSHA512      = "\x60\x86\x48\x01\x65\x03\x04\x02\x03" // 2.16.840.1.101.3.4.2.3
	oidSHA1        = "\x2b\x0e\x03\x02\x1a"                 // 1.3.14.3.2.26
	oidMD5         = "\x2a\x86\x48\x86\xf7\x0d\x02\x05"     // 1.2.840.113549.2.5
	oidECDSA256    = "\x2a\x86\x48\xce\x3d\x04\x03\x02"     // 1.2.840.10045.4.3.2
	oidECDSA384    = "\x2a\x86\x48\xce\x3d\x04\x03\x03"     // 1.2.840.10045.4.3.3
	oidECDSA512    = "\x2a\x86\x48\xce\x3d\x04\x03\x04"     // 1.2.840.10045.4.3.4
	oidECPublicKey = "\x2a\x86\x48\xce\x3d\x02\x01"         // 1.2.840.10045.2.1
	oidRSA         = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // 1.2.840.113549.1.1.1
	oidRSAWith256  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // 1.2.840.113549.1.1.11
	oidRSAWith384  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" // 1.2.840.113549.1.1.12
	oidRSAWith512  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" // 1.2.840.113549.1.1.13
	oidEd25519     = "\x2b\x65\x70"                         // 1.3.101.112
	maxDepth       = 16                                     // of elements inside each other
	maxAttributes  = 32
)

// tag0 and tag1 are context-specific tags around other elements.
var (
	tag0          = cbasn1.Tag(0).ContextSpecific().Constructed()
	tag1          = cbasn1.Tag(1).ContextSpecific().Constructed()
	tag0Primitive = cbasn1.Tag(0).ContextSpecific()
)

// signed is a SignedData with one signer, whose parts agree with each other. Its signature is
// not checked yet.
type signed struct {
	hash      crypto.Hash
	family    family
	attrs     []byte // the signed attributes as a SET: what is signed (RFC 5652, 5.4)
	digest    []byte // that they name
	time      time.Time
	signature []byte

	issuer, serial []byte // of the signer's certificate, DER, or
	keyID          []byte // its subject key identifier
}

// family is the kind of key of a signature algorithm.
type family int

const (
	familyRSA family = iota + 1
	familyECDSA
	familyEd25519
)

func wrong(p Problem, format string, args ...any) *Error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

func unreadable(what string) *Error {
	return wrong(Malformed, "has a CMS signature that cannot be read: %s", what)
}

// definite rewrites an element of indefinite length, as gpgsm's library writes the outer ones, into
// one of definite length, and gives back what follows it. Elements of definite length are kept as
// they are: whoever reads them demands DER.
func definite(in []byte, depth int) (out, rest []byte, ok bool) {
	if depth == 0 || len(in) < 2 || in[0]&0x1f == 0x1f {
		return nil, nil, false
	}
	if in[1] != 0x80 {
		s := cryptobyte.String(in)
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1Element(&element, &tag) {
			return nil, nil, false
		}
		return element, s, true
	}
	if in[0]&0x20 == 0 {
		return nil, nil, false
	}
	tag := in[0]
	var content []byte
	for in = in[2:]; ; {
		if len(in) < 2 {
			return nil, nil, false
		}
		if in[0] == 0 && in[1] == 0 {
			break
		}
		var one []byte
		if one, in, ok = definite(in, depth-1); !ok {
			return nil, nil, false
		}
		content = append(content, one...)
	}
	return append(header(tag, len(content)), content...), in[2:], true
}

// header is the tag and length of an element in DER.
func header(tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return []byte{tag, byte(n)}
	case n < 0x100:
		return []byte{tag, 0x81, byte(n)}
	case n < 0x10000:
		return []byte{tag, 0x82, byte(n >> 8), byte(n)}
	}
	return []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}

// parse reads a ContentInfo with SignedData (RFC 5652, 3 and 5.1).
func parse(signature []byte) (*signed, error) {
	if len(signature) > MaxSize {
		return nil, unreadable(fmt.Sprintf("%d bytes; at most %d are read", len(signature), MaxSize))
	}
	der, rest, ok := definite(signature, maxDepth)
	if !ok || len(rest) > 0 {
		return nil, unreadable("it is not one element")
	}
	in := cryptobyte.String(der)
	var info, wrapped, body cryptobyte.String
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, unreadable("it is no ContentInfo")
	}
	if id, ok := readOID(&info); !ok || id != oidSignedData || !info.ReadASN1(&wrapped, tag0) || !info.Empty() ||
		!wrapped.ReadASN1(&body, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, unreadable("it is no SignedData")
	}
	return parseSignedData(body)
}

func parseSignedData(in cryptobyte.String) (*signed, error) {
	var version int64
	var algs, encap, certs, infos, info cryptobyte.String
	if !in.ReadASN1Integer(&version) || version < 1 || version > 5 || !in.ReadASN1(&algs, cbasn1.SET) || !in.ReadASN1(&encap, cbasn1.SEQUENCE) {
		return nil, unreadable("it is no SignedData")
	}
	outer, err := readHash(&algs)
	if err != nil {
		return nil, err
	}
	if !algs.Empty() {
		return nil, unreadable("it names several digest algorithms")
	}
	if id, ok := readOID(&encap); !ok || id != oidData || !encap.Empty() {
		return nil, unreadable("it is not detached, or not over plain data")
	}
	var present bool
	if !in.ReadOptionalASN1(&certs, &present, tag0) || !WellFormed(certs, maxDepth) {
		return nil, unreadable("its certificates are not DER")
	}
	if !in.ReadASN1(&infos, cbasn1.SET) || !in.Empty() || !infos.ReadASN1(&info, cbasn1.SEQUENCE) || !infos.Empty() {
		return nil, unreadable("it does not have exactly one signer, or carries revocation lists")
	}
	s := &signed{}
	return s, s.parseSigner(info, outer)
}

// parseSigner reads SignerInfo (RFC 5652, 5.3).
func (s *signed) parseSigner(in cryptobyte.String, outer crypto.Hash) error {
	var version int64
	var sid, attrs, element, sig, unsigned cryptobyte.String
	if !in.ReadASN1Integer(&version) {
		return unreadable("it is no SignerInfo")
	}
	switch {
	case version == 1 && in.ReadASN1(&sid, cbasn1.SEQUENCE):
		var issuer, serial cryptobyte.String
		if !sid.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !sid.ReadASN1Element(&serial, cbasn1.INTEGER) || !sid.Empty() {
			return unreadable("its signer is not named")
		}
		s.issuer, s.serial = issuer, serial
	case version == 3 && in.ReadASN1(&sid, tag0Primitive) && len(sid) > 0:
		s.keyID = sid
	default:
		return unreadable("its signer is not named")
	}
	var err error
	if s.hash, err = readHash(&in); err != nil {
		return err
	}
	if s.hash != outer {
		return unreadable("it names two digest algorithms")
	}
	if !in.ReadASN1Element(&element, tag0) {
		return unreadable("it has no signed attributes")
	}
	s.attrs = append([]byte{byte(cbasn1.SET)}, element[1:]...)
	if whole := element; !whole.ReadASN1(&attrs, tag0) {
		return unreadable("it has no signed attributes")
	}
	if err := s.parseAttributes(attrs); err != nil {
		return err
	}
	if s.family, err = readSignatureAlgorithm(&in, s.hash); err != nil {
		return err
	}
	if !in.ReadASN1(&sig, cbasn1.OCTET_STRING) || len(sig) == 0 {
		return unreadable("it has no signature")
	}
	s.signature = sig
	var present bool // what nobody signed is not looked at
	if !in.ReadOptionalASN1(&unsigned, &present, tag1) || !WellFormed(unsigned, maxDepth) || !in.Empty() {
		return unreadable("something follows its signature")
	}
	return nil
}

// parseAttributes reads the signed attributes (RFC 5652, 11): each once, with one value.
func (s *signed) parseAttributes(attrs cryptobyte.String) error {
	var seen []string
	for !attrs.Empty() {
		var attr, values, value cryptobyte.String
		var tag cbasn1.Tag
		if len(seen) == maxAttributes || !attrs.ReadASN1(&attr, cbasn1.SEQUENCE) {
			return unreadable("its signed attributes are not DER")
		}
		id, ok := readOID(&attr)
		if !ok || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() || slices.Contains(seen, id) || !WellFormed(values, maxDepth) {
			return unreadable("a signed attribute is not DER, or stands twice")
		}
		seen = append(seen, id)
		if id != oidContentType && id != oidDigest && id != oidSigningTime {
			continue
		}
		if !values.ReadAnyASN1Element(&value, &tag) || !values.Empty() {
			return unreadable("a signed attribute does not have exactly one value")
		}
		switch id {
		case oidContentType:
			if of, ok := readOID(&value); !ok || of != oidData || !value.Empty() {
				return unreadable("it is not over plain data")
			}
		case oidDigest:
			var digest cryptobyte.String
			if !value.ReadASN1(&digest, cbasn1.OCTET_STRING) || !value.Empty() || len(digest) != s.hash.Size() {
				return unreadable("its digest has another length")
			}
			s.digest = digest
		case oidSigningTime:
			if s.time, ok = readTime(value, tag); !ok {
				return unreadable("its time cannot be read")
			}
		}
	}
	if s.digest == nil || !slices.Contains(seen, oidContentType) {
		return unreadable("its signed attributes lack content type or digest")
	}
	return nil
}

func readTime(value cryptobyte.String, tag cbasn1.Tag) (t time.Time, ok bool) {
	if tag == cbasn1.UTCTime {
		ok = value.ReadASN1UTCTime(&t)
	} else {
		ok = value.ReadASN1GeneralizedTime(&t)
	}
	return t.UTC(), ok && value.Empty()
}

// readOID reads an object identifier as the bytes of its content.
func readOID(in *cryptobyte.String) (string, bool) {
	var id cryptobyte.String
	ok := in.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) && len(id) > 0 && len(id) <= 64
	return string(id), ok
}

// readHash reads an AlgorithmIdentifier of a hash with parameters absent or NULL.
func readHash(in *cryptobyte.String) (crypto.Hash, error) {
	var alg cryptobyte.String
	if !in.ReadASN1(&alg, cbasn1.SEQUENCE) {
		return 0, unreadable("it names no digest algorithm")
	}
	id, ok := readOID(&alg)
	if !ok || !noParameters(alg) {
		return 0, unreadable("its digest algorithm is not DER")
	}
	switch id {
	case oidSHA256:
		return crypto.SHA256, nil
	case oidSHA384:
		return crypto.SHA384, nil
	case oidSHA512:
		return crypto.SHA512, nil
	case oidSHA1, oidMD5:
		return 0, wrong(TooWeak, "has a CMS signature with a hash that can be forged")
	}
	return 0, wrong(Kind, "has a CMS signature with a hash that is not accepted: SHA-256, SHA-384 and SHA-512 are")
}

// readSignatureAlgorithm reads the algorithm of the signature, whose hash, where it says one, must
// be that of the digest.
func readSignatureAlgorithm(in *cryptobyte.String, hash crypto.Hash) (family, error) {
	var alg cryptobyte.String
	if !in.ReadASN1(&alg, cbasn1.SEQUENCE) {
		return 0, unreadable("it names no signature algorithm")
	}
	id, ok := readOID(&alg)
	if !ok {
		return 0, unreadable("its signature algorithm is not DER")
	}
	known := map[string]struct {
		family family
		hash   crypto.Hash
	}{
		oidRSA: {familyRSA, hash}, oidRSAWith256: {familyRSA, crypto.SHA256}, oidRSAWith384: {familyRSA, crypto.SHA384}, oidRSAWith512: {familyRSA, crypto.SHA512},
		oidECPublicKey: {familyECDSA, hash}, oidECDSA256: {familyECDSA, crypto.SHA256}, oidECDSA384: {familyECDSA, crypto.SHA384}, oidECDSA512: {familyECDSA, crypto.SHA512},
		oidEd25519: {familyEd25519, hash},
	}
	k, ok := known[id]
	switch {
	case !ok:
		return 0, wrong(Kind, "has a CMS signature of an algorithm that is not accepted: RSA (PKCS #1 v1.5), ECDSA and Ed25519 are")
	case id != oidECPublicKey && !noParameters(alg):
		return 0, unreadable("its signature algorithm has parameters")
	case k.hash != hash:
		return 0, unreadable("it names two digest algorithms")
	}
	return k.family, nil
}

func noParameters(rest cryptobyte.String) bool {
	var null cryptobyte.String
	return rest.Empty() || rest.ReadASN1(&null, cbasn1.NULL) && null.Empty() && rest.Empty()
}

// WellFormed reports whether all elements inside each other, at most depth levels of them, are
// DER: certificates that nobody asks for are not parsed, and nothing signs that they are there.
func WellFormed(in cryptobyte.String, depth int) bool {
	for !in.Empty() {
		var content cryptobyte.String
		var tag cbasn1.Tag
		if depth == 0 || !in.ReadAnyASN1(&content, &tag) {
			return false
		}
		if tag&0x20 != 0 && !WellFormed(content, depth-1) {
			return false
		}
	}
	return true
}

func unarmor(armored []byte) ([]byte, error) {
	block, rest := pem.Decode(armored)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || len(block.Headers) > 0 || !bytes.HasPrefix(armored, []byte("-----BEGIN ")) {
		return nil, wrong(Malformed, "has a CMS signature that is not one PEM block")
	}
	if !slices.Contains([]string{"SIGNED MESSAGE", "CMS", "PKCS7"}, block.Type) {
		return nil, wrong(Malformed, "has a PEM block of type %.40q, which is no CMS signature", block.Type)
	}
	return block.Bytes, nil
}
