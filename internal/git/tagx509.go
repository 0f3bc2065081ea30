package git

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// cmsCode is the code of what is wrong with a CMS signature.
func cmsCode(p cms.Problem) string {
	switch p {
	case cms.TooWeak:
		return CodeKeyTooWeak
	case cms.Kind:
		return CodeKeyKind
	case cms.Unknown, cms.Unverified:
		return CodeSigner
	}
	return CodeMalformed
}

// x509By verifies a CMS signature by the public key (SPKI) of a listed certificate. What
// certificates the signature carries, and at which time it says that it was made, plays no
// part; a listed certificate must be valid at our clock.
func (v verification) x509By(keys []TagKey) (*Signer, *policy.Reason) {
	der, err := cms.Unarmor(v.sig.Armored)
	if err != nil {
		return nil, v.denied(CodeMalformed, "%v", err)
	}
	var certs []*x509.Certificate
	for _, k := range keys {
		if k.Kind == "x509" && k.X509 != nil {
			certs = append(certs, k.X509)
		}
	}
	sig, err := cms.Verify(der, v.sig.Payload, certs)
	if err != nil {
		return nil, v.denied(cmsCode(cms.ProblemOf(err)), "%v", err)
	}
	pin := sig.Certificate.RawSubjectPublicKeyInfo
	fingerprint := strings.TrimPrefix(cms.SPKI(sig.Certificate), "sha256:")
	why := v.notListed("x509 "+fingerprint, keys)
	for i, k := range keys {
		if k.Kind != "x509" || k.X509 == nil || !bytes.Equal(k.X509.RawSubjectPublicKeyInfo, pin) {
			continue
		}
		if err := checkX509(k.X509); err != nil {
			return nil, v.denied(CodeKeyTooWeak, "is signed by x509 %s: %v", fingerprint, err)
		}
		why = v.alive(k, "x509 "+fingerprint)
		if c := k.X509; why == nil && (v.now.Before(c.NotBefore) || v.now.After(c.NotAfter)) {
			why = v.denied(CodeKeyExpired, "is signed by x509 %s, a certificate of %s that is valid from %s to %s; the signing time in it does not count",
				fingerprint, k.Principal, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
		if why == nil {
			return &Signer{Key: i, Principal: k.Principal, Kind: "x509", KeyID: fingerprint, Fingerprint: fingerprint, Hash: sig.Hash}, nil
		}
	}
	return nil, why
}

// checkX509 refuses certificates whose key is never accepted.
func checkX509(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minTagRSABits {
			return fmt.Errorf("its RSA key has less than %d bits", minTagRSABits)
		}
	case *ecdsa.PublicKey:
		if key.Params().BitSize < 256 {
			return fmt.Errorf("its curve has less than 256 bits")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of algorithm %v is not accepted", c.PublicKeyAlgorithm)
	}
	return nil
}

// hashName is our name of a hash.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "sha256"
	case crypto.SHA384:
		return "sha384"
	case crypto.SHA512:
		return "sha512"
	case crypto.SHA3_256:
		return "sha3-256"
	case crypto.SHA3_512:
		return "sha3-512"
	}
	return ""
}
