package rekorv1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha512" // for crypto.Hash
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	publicKeyPEM   = "PUBLIC KEY"
	certificatePEM = "CERTIFICATE"

	maxVerifier = 64 << 10 // bytes of PEM; an entry of more would be refused anyway
	maxChain    = 10       // certificates, as Rekor
	minRSA      = 2048     // bits
	maxRSA      = 8192     // bits: verifying takes time that grows with them
)

var errSignature = errors.New("the signature is not by this key or certificate over this digest")

// verifier is what an entry says made its signature: a public key, a certificate
// or a certificate with its chain.
type verifier struct {
	text []byte // canonical: PEM (RFC 7468) without anything else
	key  crypto.PublicKey
	cert *x509.Certificate // nil for a key
}

// readVerifier reads PEM: one SubjectPublicKeyInfo, or certificates, leaf first.
func readVerifier(text []byte) (verifier, error) {
	if len(text) > maxVerifier {
		return verifier{}, fmt.Errorf("%d bytes of PEM; at most %d are read", len(text), maxVerifier)
	}
	text = bytes.TrimSpace(text)
	var v verifier
	var chain []*x509.Certificate
	for rest := text; len(rest) > 0; {
		// pem.Decode would skip what stands before a block.
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return verifier{}, errors.New("not a PEM public key or certificate")
		}
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return verifier{}, errors.New("not a PEM public key or certificate")
		}
		rest = bytes.TrimSpace(rest)
		switch {
		case block.Type == certificatePEM && v.key == nil:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return verifier{}, errors.New("a certificate that cannot be read")
			}
			if chain = append(chain, c); len(chain) > maxChain {
				return verifier{}, fmt.Errorf("more than %d certificates", maxChain)
			}
		case block.Type == publicKeyPEM && v.key == nil && chain == nil:
			var err error
			if v.key, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				return verifier{}, errors.New("a public key that cannot be read")
			}
		default:
			return verifier{}, fmt.Errorf("PEM of one public key or of certificates is wanted, not also %.40q", block.Type)
		}
	}
	switch {
	case chain != nil:
		v.cert, v.key = chain[0], chain[0].PublicKey
		for _, c := range chain {
			v.text = append(v.text, pem.EncodeToMemory(&pem.Block{Type: certificatePEM, Bytes: c.Raw})...)
		}
	case v.key != nil:
		der, err := x509.MarshalPKIXPublicKey(v.key)
		if err != nil {
			return verifier{}, errors.New("a public key of a kind that is not known here")
		}
		v.text = pem.EncodeToMemory(&pem.Block{Type: publicKeyPEM, Bytes: der})
	default:
		return verifier{}, errors.New("it is empty")
	}
	if err := checkKey(v.key); err != nil {
		return verifier{}, err
	}
	return v, checkChain(chain)
}

// checkChain wants each certificate to be issued by those behind it, when the
// first began to be valid: old signatures can be logged, too.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) < 2 {
		return nil
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[1 : len(chain)-1] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: chain[0].NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return errors.New("the certificates are no chain")
	}
	return nil
}

func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch name := k.Curve.Params().Name; name {
		case "P-256", "P-384", "P-521":
			return nil
		default:
			return fmt.Errorf("an ECDSA key on %s; P-256, P-384 and P-521 are taken", name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("an RSA key of %d bits; %d to %d are taken", n, minRSA, maxRSA)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("a key of a kind that this log does not take")
}

// verifyDigest verifies a signature over a digest. An Ed25519 signature is
// Ed25519ph: the pure one needs the message, which a log of digests never sees.
func (v verifier) verifyDigest(h crypto.Hash, digest, sig []byte) error {
	ok := false
	switch k := v.key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, h, digest, sig) == nil
	case ed25519.PublicKey:
		if h != crypto.SHA512 {
			return errors.New("an Ed25519 key signs digests as Ed25519ph, with SHA-512")
		}
		ok = ed25519.VerifyWithOptions(k, digest, sig, &ed25519.Options{Hash: h}) == nil
	}
	if !ok {
		return errSignature
	}
	return nil
}

// verifyMessage verifies a signature over a message with the given SHA-256; here
// an Ed25519 signature is the pure one.
func (v verifier) verifyMessage(message, digest, sig []byte) bool {
	if k, ok := v.key.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, message, sig)
	}
	return v.verifyDigest(crypto.SHA256, digest, sig) == nil
}
