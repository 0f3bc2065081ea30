package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
)

// ParseCSR reads a certificate signing request (RFC 2986) in one PEM block and
// checks that its own key signed it, with the hash that belongs to that key. What
// else it asks for is not looked at: a certificate says what the token says.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	der, ok := onePEM(string(text), "CERTIFICATE REQUEST")
	if !ok {
		der, ok = onePEM(string(text), "NEW CERTIFICATE REQUEST")
	}
	if !ok {
		return nil, errors.New("want one PEM block CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("the certificate signing request could not be parsed")
	}
	if err := strong(csr.PublicKey); err != nil {
		return nil, err
	}
	if !signedAsUsual(csr) {
		return nil, fmt.Errorf("the certificate signing request is signed with %s; want the hash that belongs to its key", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("the signature of the certificate signing request does not match its key")
	}
	return csr, nil
}

// signedAsUsual reports whether a request is signed as Fulcio's default client
// algorithms are.
func signedAsUsual(csr *x509.CertificateRequest) bool {
	switch k := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return csr.SignatureAlgorithm == x509.ECDSAWithSHA256
		case elliptic.P384():
			return csr.SignatureAlgorithm == x509.ECDSAWithSHA384
		}
		return csr.SignatureAlgorithm == x509.ECDSAWithSHA512
	case ed25519.PublicKey:
		return csr.SignatureAlgorithm == x509.PureEd25519
	}
	return csr.SignatureAlgorithm == x509.SHA256WithRSA
}

// strong refuses keys that should sign nothing.
func strong(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errors.New("the public key is insecure: want the curve P-256, P-384 or P-521")
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 4096 || bits%8 != 0 || k.N.Bit(0) == 0 || k.E != 65537 {
			return errors.New("the public key is insecure: want RSA with 2048 to 4096 bits and the exponent 65537")
		}
		if factored(k.N) {
			return errors.New("the public key is insecure: its RSA modulus can be factored")
		}
		return nil
	}
	return errors.New("the public key is of an unknown kind: want ECDSA, Ed25519 or RSA")
}

// fermatRounds is how many steps of Fermat's method a modulus must withstand: two
// primes that are close to each other are found in a few.
const fermatRounds = 100

// factored reports whether an RSA modulus is of a kind that is known to be weak: a
// small factor, two primes too close to each other (Fermat), or primes of the
// flawed generator of Infineon's library (CVE-2017-15361).
func factored(n *big.Int) bool {
	roca := true
	rest, power := new(big.Int), new(big.Int)
	for p := int64(3); p < 752; p += 2 {
		prime := big.NewInt(p)
		if !prime.ProbablyPrime(0) {
			continue
		}
		r := rest.Mod(n, prime).Int64()
		if r == 0 {
			return true
		}
		// Its primes are powers of 65537 modulo each of the first 39 primes, and so
		// is their product.
		if p <= 167 && roca {
			roca = false
			for x, first := int64(1), true; first || x != 1; first = false {
				if x == r {
					roca = true
					break
				}
				x = x * 65537 % p
			}
		}
	}
	if roca {
		return true
	}
	// n = a² - b² with a at the square root when the two primes are close.
	a := new(big.Int).Sqrt(n)
	if power.Mul(a, a).Cmp(n) == 0 {
		return true
	}
	for range fermatRounds {
		a.Add(a, big.NewInt(1))
		b2 := power.Sub(power.Mul(a, a), n)
		if b := rest.Sqrt(b2); new(big.Int).Mul(b, b).Cmp(b2) == 0 {
			return true
		}
	}
	return false
}
