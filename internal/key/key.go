// Package key opens and uses private signing keys by their references (see [Open]): in
// files, cosign's encrypted format both ways and plain PKCS#8, SEC1 and PKCS#1; in
// variables; in tokens and key management services behind plugins; in an ssh-agent.
//
// A key file is trusted to be its owner's: whoever can replace it can make its
// user sign with another key, but cannot learn the password from that. Whoever
// can read an encrypted one must still guess the password, at 2^16 rounds of
// scrypt a try; whoever can read a plain one owns the key.
package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512 for P-384, P-521 and Ed25519ph
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Signer signs messages with one private key and one algorithm. It is safe for
// concurrent use.
type Signer interface {
	// Public is an *ecdsa.PublicKey, an ed25519.PublicKey or an *rsa.PublicKey.
	Public() crypto.PublicKey
	// KeyDetails names key and algorithm as dev.sigstore.common.v1.PublicKeyDetails
	// does, for example "PKIX_ECDSA_P256_SHA_256".
	KeyDetails() string
	// Hash is what SignDigest wants a digest of; 0 when the algorithm (pure
	// Ed25519) signs nothing but whole messages.
	Hash() crypto.Hash
	// Whole reports whether messages must be signed whole, although there may be a hash:
	// so does an ssh-agent.
	Whole() bool
	// Sign signs a whole message: ASN.1 for ECDSA, PKCS #1 v1.5 for RSA.
	Sign(message []byte) ([]byte, error)
	// SignDigest signs a message of which only the digest is at hand.
	SignDigest(digest []byte) ([]byte, error)
}

// Info says how a key was kept.
type Info struct {
	Kind      Kind
	Encrypted bool   // with a password, in a file or a variable
	Algorithm string // as Generate names it, for example "ecdsa-p256"

	// Of a key behind a plugin: the path of the program, and what it says of itself and
	// of where it found the key, which is for people and may be empty.
	Program, Plugin, Where string
}

// signer is the one Signer; the algorithms differ in hash and name only.
type signer struct {
	private crypto.Signer
	hash    crypto.Hash
	details string
	name    string
}

var _ Signer = (*signer)(nil)

// Algorithms are the names that Generate knows, the default first.
func Algorithms() []string {
	return []string{"ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"}
}

// Generate makes a new private key; algorithm is one of [Algorithms], "" for the default.
func Generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "", "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("no key algorithm is called %q", algorithm)
}

// NewSigner makes a Signer of a private key, with the algorithm that Sigstore
// has by default for such keys: SHA-256 with P-256 and RSA (PKCS #1 v1.5),
// SHA-384 with P-384, SHA-512 with P-521, and pure Ed25519 (see [Prehashed]).
func NewSigner(private crypto.Signer) (Signer, error) {
	return newSigner(private)
}

func newSigner(private crypto.Signer) (*signer, error) {
	s := &signer{private: private}
	switch pub := private.Public().(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			s.hash, s.details, s.name = crypto.SHA256, "PKIX_ECDSA_P256_SHA_256", "ecdsa-p256"
		case elliptic.P384():
			s.hash, s.details, s.name = crypto.SHA384, "PKIX_ECDSA_P384_SHA_384", "ecdsa-p384"
		case elliptic.P521():
			s.hash, s.details, s.name = crypto.SHA512, "PKIX_ECDSA_P521_SHA_512", "ecdsa-p521"
		default:
			return nil, errors.New("an ECDSA key on a curve other than P-256, P-384 and P-521")
		}
	case ed25519.PublicKey:
		s.details, s.name = "PKIX_ED25519", "ed25519"
	case *rsa.PublicKey:
		switch bits := pub.N.BitLen(); bits {
		case 2048, 3072, 4096:
			s.hash, s.name = crypto.SHA256, fmt.Sprintf("rsa-%d", bits)
			s.details = fmt.Sprintf("PKIX_RSA_PKCS1V15_%d_SHA256", bits)
		default:
			return nil, fmt.Errorf("an RSA key of %d bits; 2048, 3072 and 4096 can be used", bits)
		}
		if pub.E < 65537 {
			return nil, fmt.Errorf("an RSA key with the public exponent %d; at least 65537 is needed", pub.E)
		}
	default:
		return nil, fmt.Errorf("a %T; ECDSA, Ed25519 and RSA keys can be used", pub)
	}
	return s, nil
}

// Prehashed is s for use with a transparency log: its entries (hashedrekord)
// hold digests, so an Ed25519 key signs as Ed25519ph (RFC 8032, 5.1) there. All
// other signers hash anyway and are returned as they are.
//
// Stock cosign 3.1 verifies only the pure form with a key, and asks logs for
// the prehashed one; it cannot verify what it logs itself with such a key.
func Prehashed(s Signer) Signer {
	if own, ok := s.(*signer); ok && own.hash == 0 {
		ph := *own
		ph.hash, ph.details = crypto.SHA512, "PKIX_ED25519_PH"
		return &ph
	}
	return s
}

func (s *signer) Public() crypto.PublicKey { return s.private.Public() }
func (s *signer) KeyDetails() string       { return s.details }
func (s *signer) Hash() crypto.Hash        { return s.hash }

func (s *signer) Whole() bool {
	_, agent := s.private.(*agentKey)
	return s.hash == 0 || agent
}

func (s *signer) Sign(message []byte) ([]byte, error) {
	// An ssh-agent hashes itself; all others get the digest.
	return crypto.SignMessage(s.private, rand.Reader, message, s.hash)
}

func (s *signer) SignDigest(digest []byte) ([]byte, error) {
	if s.hash == 0 {
		return nil, errors.New("a pure Ed25519 key signs whole messages, not digests")
	}
	if len(digest) != s.hash.Size() {
		return nil, fmt.Errorf("a digest of %d bytes where %v has %d", len(digest), s.hash, s.hash.Size())
	}
	return s.private.Sign(rand.Reader, digest, s.hash)
}

// PublicPEM is a public key as a PEM block "PUBLIC KEY" (PKIX, RFC 5280).
func PublicPEM(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Fingerprint is "sha256:" and the hexadecimal SHA-256 of the key's DER
// SubjectPublicKeyInfo; "" for what is no public key.
func Fingerprint(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Hint is what bundles carry to say which key signed: the base64 SHA-256 of the
// key's DER SubjectPublicKeyInfo, as cosign writes it.
func Hint(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// errSignature is deliberately all that a failed verification says.
var errSignature = errors.New("the signature does not match")

// Verify checks a signature with every algorithm that the key's kind may sign
// with: ECDSA (ASN.1) with the curve's hash, P-384 and P-521 also with SHA-256;
// Ed25519 and Ed25519ph; RSA PKCS #1 v1.5 and PSS with SHA-256.
func Verify(public crypto.PublicKey, message, sig []byte) error {
	digest := func(h crypto.Hash) []byte {
		d := h.New()
		d.Write(message)
		return d.Sum(nil)
	}
	ok := false
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, digest(curveHash(pub.Curve)), sig) ||
			pub.Curve != elliptic.P256() && ecdsa.VerifyASN1(pub, digest(crypto.SHA256), sig)
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return errors.New("an Ed25519 public key of the wrong length")
		}
		ok = ed25519.Verify(pub, message, sig) ||
			ed25519.VerifyWithOptions(pub, digest(crypto.SHA512), sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		d := digest(crypto.SHA256)
		ok = rsa.VerifyPKCS1v15(pub, crypto.SHA256, d, sig) == nil ||
			rsa.VerifyPSS(pub, crypto.SHA256, d, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	default:
		return fmt.Errorf("a %T cannot verify", public)
	}
	if !ok {
		return errSignature
	}
	return nil
}

func curveHash(c elliptic.Curve) crypto.Hash {
	switch c {
	case elliptic.P384():
		return crypto.SHA384
	case elliptic.P521():
		return crypto.SHA512
	}
	return crypto.SHA256
}

// AlgorithmOf is what [Generate] calls the algorithm of a public key; "" for one that
// cannot be used.
func AlgorithmOf(public crypto.PublicKey) string {
	s, err := newSigner(PublicOnly{public})
	if err != nil {
		return ""
	}
	return s.name
}
