package git

import (
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// hashNames are our names of hashes.
var hashNames = map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512",
	crypto.SHA3_256: "sha3-256", crypto.SHA3_512: "sha3-512"}

func (v verification) x509By(keys []TagKey) (*Signer, *policy.Reason) {
	return nil, v.denied(CodeSigner, "is signed with x509; signatures of this kind are not accepted yet")
}

func checkX509(*x509.Certificate) error { return errors.New("not accepted yet") }
