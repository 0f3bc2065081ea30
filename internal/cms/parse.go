package cms

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

func wrong(p Problem, format string, args ...any) *Error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

func spki(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

type signed struct{}

func parse(signature []byte) (*signed, error) { return nil, wrong(Malformed, "not yet") }

func (s *signed) verify(content []byte, certs []*x509.Certificate) (*Signature, error) {
	return nil, wrong(Malformed, "not yet")
}

func unarmor(armored []byte) ([]byte, error) { return nil, wrong(Malformed, "not yet") }
