package tsa

import (
	"crypto"
	_ "crypto/sha512" // for crypto.Hash.Size of what requests may name
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Failure is a bit of PKIFailureInfo (RFC 3161 2.4.2).
type Failure int

// The failures that we answer with.
const (
	BadAlgorithm        Failure = 0
	BadRequest          Failure = 2
	BadDataFormat       Failure = 5
	TimeNotAvailable    Failure = 14
	UnacceptedPolicy    Failure = 15
	UnacceptedExtension Failure = 16
)

// Rejection says why no token was made.
type Rejection struct {
	Failure Failure
	Text    string
}

func (r *Rejection) Error() string { return "time-stamp request rejected: " + r.Text }

// request is a TimeStampReq (RFC 3161 2.4.1).
type request struct {
	imprint []byte // MessageImprint as it came: the token repeats it
	policy  asn1.ObjectIdentifier
	nonce   []byte // INTEGER as it came, nil without one
	certReq bool
}

func malformed(what string) *Rejection {
	return &Rejection{BadDataFormat, what + " is not DER of RFC 3161"}
}

// maxNonce is four times what clients send.
const maxNonce = 32

// parseRequest reads strict DER: no other encoding, nothing behind it, no
// default value spelled out.
func parseRequest(der []byte) (*request, error) {
	in := cryptobyte.String(der)
	var body cryptobyte.String
	var version int
	if !in.ReadASN1(&body, cbasn1.SEQUENCE) || !in.Empty() || !body.ReadASN1Integer(&version) {
		return nil, malformed("the request")
	}
	if version != 1 {
		return nil, &Rejection{BadRequest, "only version 1 is supported"}
	}
	req := new(request)
	var imprint cryptobyte.String
	if !body.ReadASN1Element(&imprint, cbasn1.SEQUENCE) {
		return nil, malformed("the message imprint")
	}
	req.imprint = imprint
	if err := checkImprint(imprint); err != nil {
		return nil, err
	}
	if body.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) && !body.ReadASN1ObjectIdentifier(&req.policy) {
		return nil, malformed("the policy")
	}
	if body.PeekASN1Tag(cbasn1.INTEGER) {
		if err := req.readNonce(&body); err != nil {
			return nil, err
		}
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) && (!body.ReadASN1Boolean(&req.certReq) || !req.certReq) {
		return nil, malformed("certReq")
	}
	extensions := cbasn1.Tag(0).ContextSpecific().Constructed()
	if body.PeekASN1Tag(extensions) {
		var ignored cryptobyte.String
		if !body.ReadASN1(&ignored, extensions) || !body.Empty() {
			return nil, malformed("the extensions")
		}
		return nil, &Rejection{UnacceptedExtension, "no extension is supported"}
	}
	if !body.Empty() {
		return nil, malformed("the request")
	}
	return req, nil
}

func (req *request) readNonce(body *cryptobyte.String) error {
	rest := *body
	var element, content cryptobyte.String
	if !body.ReadASN1Element(&element, cbasn1.INTEGER) || !rest.ReadASN1(&content, cbasn1.INTEGER) || len(content) == 0 {
		return malformed("the nonce")
	}
	// X.690 8.3.2: the first nine bits are not all equal.
	if len(content) > 1 && (content[0] == 0 && content[1]&0x80 == 0 || content[0] == 0xff && content[1]&0x80 != 0) {
		return malformed("the nonce")
	}
	if len(content) > maxNonce {
		return &Rejection{BadRequest, fmt.Sprintf("the nonce is longer than %d bytes", maxNonce)}
	}
	req.nonce = element
	return nil
}

// checkImprint allows SHA-256, SHA-384 and SHA-512 with digests of their length.
func checkImprint(element cryptobyte.String) error {
	var body, alg, digest cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !element.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!body.ReadASN1(&digest, cbasn1.OCTET_STRING) || !body.Empty() || !alg.ReadASN1ObjectIdentifier(&oid) {
		return malformed("the message imprint")
	}
	// RFC 5754 2: parameters are absent or NULL.
	if !alg.Empty() {
		var null cryptobyte.String
		if !alg.ReadASN1(&null, cbasn1.NULL) || !null.Empty() || !alg.Empty() {
			return &Rejection{BadAlgorithm, "the hash algorithm has parameters"}
		}
	}
	hash, ok := hashByOID(oid)
	if !ok {
		return &Rejection{BadAlgorithm, "the hash algorithm is none of SHA-256, SHA-384 and SHA-512"}
	}
	if len(digest) != hash.Size() {
		return &Rejection{BadRequest, fmt.Sprintf("the digest has %d bytes, %s has %d", len(digest), hash, hash.Size())}
	}
	return nil
}

func oidSHA256() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1} }
func oidSHA384() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2} }
func oidSHA512() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3} }

func hashByOID(oid asn1.ObjectIdentifier) (crypto.Hash, bool) {
	switch {
	case oid.Equal(oidSHA256()):
		return crypto.SHA256, true
	case oid.Equal(oidSHA384()):
		return crypto.SHA384, true
	case oid.Equal(oidSHA512()):
		return crypto.SHA512, true
	}
	return 0, false
}

// reply is the TimeStampResp of a rejection: status, text, failInfo.
func (r *Rejection) reply() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(2) // rejection
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(r.Text)) })
			})
			// X.690 11.2.2: a named bit list ends with its last one bit.
			b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
				bits := make([]byte, r.Failure/8+1)
				bits[r.Failure/8] = 0x80 >> (r.Failure % 8)
				b.AddUint8(uint8(7 - r.Failure%8))
				b.AddBytes(bits)
			})
		})
	})
	return b.Bytes()
}
