// Package cms reads and verifies detached signatures of CMS (RFC 5652, SignedData), as
// git makes them with gpgsm and smimesign, and openssl cms for whoever has nothing else.
// It is narrower than the standard: one signer, SHA-2, signed attributes, and the signer's
// key pinned by whoever verifies. No certificate of the signature is believed and no chain
// is built.
package cms

import (
	"crypto/x509"
	"errors"
	"time"
)

// MaxSize is the largest signature that is read, in bytes.
const MaxSize = 64 << 10

// Problem is what is wrong with a signature.
type Problem int

// Problems.
const (
	Malformed  Problem = iota + 1 // it cannot be read, or is not one detached signature by one signer
	TooWeak                       // a hash that can be forged, or a short key
	Kind                          // an algorithm that is not accepted
	Unknown                       // no given certificate's key made it
	Unverified                    // it is not over this content
)

// Error says what is wrong, as the end of a sentence that begins with the thing signed:
// "has a CMS signature that cannot be read".
type Error struct {
	Problem Problem
	Msg     string
}

func (e *Error) Error() string { return e.Msg }

// ProblemOf is the problem of an error of this package, 0 of any other.
func ProblemOf(err error) Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return 0
}

// Signature is a signature that was verified.
type Signature struct {
	Certificate *x509.Certificate // of those given, the one whose key made it
	// SigningTime is what the signer says, the zero time where it says nothing. It proves nothing.
	SigningTime time.Time
	Hash        string // "sha256", "sha384" or "sha512"
}

// Verify says which of certs made the detached signature (DER, or BER with indefinite
// lengths as gpgsm writes it) over content. The key of the certificate counts, its SPKI;
// whether the certificate is valid, at which time and for whom, is for the caller to say.
// Certificates inside the signature are not looked at. An error is an *Error.
func Verify(signature, content []byte, certs []*x509.Certificate) (*Signature, error) {
	s, err := parse(signature)
	if err != nil {
		return nil, err
	}
	return s.verify(content, certs)
}

// Unarmor decodes the PEM block "SIGNED MESSAGE" (git's) or "CMS" or "PKCS7" (OpenSSL's):
// one block and nothing around it. An error is an *Error.
func Unarmor(armored []byte) ([]byte, error) { return unarmor(armored) }

// SPKI is the pin of a certificate's key: "sha256:" and 64 lower-case hexadecimal digits of the
// SHA-256 of its DER SubjectPublicKeyInfo.
func SPKI(cert *x509.Certificate) string { return spki(cert) }
