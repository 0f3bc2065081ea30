package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
)

// request makes a certificate signing request.
func request(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "whatever"}, EmailAddresses: []string{"mallory@example.com"}, SignatureAlgorithm: algorithm}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func withCSR(csr []byte) map[string]any { return map[string]any{"certificateSigningRequest": csr} }

// TestCSR: a certificate signing request proves that the caller has the key; what it
// asks for is not in the certificate.
func TestCSR(t *testing.T) {
	t.Parallel()
	a := start(t)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, private := range map[string]crypto.Signer{"P-256": p256(t), "P-384": p384, "P-521": p521, "Ed25519": ed, "RSA": rsaKey} {
		csr := request(t, private, 0)
		for _, text := range [][]byte{csr, bytes.ReplaceAll(csr, []byte("CERTIFICATE REQUEST"), []byte("NEW CERTIFICATE REQUEST")), append([]byte("\n"), csr...)} {
			status, answer := a.post(t, a.email(t, "alice@example.com"), withCSR(text))
			leaf := a.certificate(t, status, answer)
			if !private.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) || len(leaf.EmailAddresses) != 1 || leaf.EmailAddresses[0] != "alice@example.com" {
				t.Errorf("%s: %v %v", name, leaf.PublicKey, leaf.EmailAddresses)
			}
		}
	}
	// API v1 has it, too.
	resp, answer := a.legacy(t, http.MethodPost, "/api/v1/signingCert", a.email(t, "alice@example.com"), withCSR(request(t, p384, 0)))
	if resp.StatusCode != http.StatusCreated || !strings.HasPrefix(answer, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

func TestCSRsAreRefused(t *testing.T) {
	t.Parallel()
	a := start(t)
	private, other := p256(t), p256(t)
	good := request(t, private, 0)
	block, _ := pem.Decode(good)
	text := func(der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	// The key of one request with the signature of another.
	theirs, _ := pem.Decode(request(t, other, 0))
	parsed, err := x509.ParseCertificateRequest(theirs.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	exchanged := bytes.Replace(block.Bytes, mine.RawSubjectPublicKeyInfo, parsed.RawSubjectPublicKeyInfo, 1)
	flipped := bytes.Clone(block.Bytes)
	flipped[len(flipped)-1] ^= 1
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa1024 := shortRSA(t)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	token := a.email(t, "alice@example.com")
	for name, tc := range map[string]struct {
		request any
		want    string
	}{
		"another's signature":    {withCSR(text(exchanged)), "does not match"},
		"a bit of the signature": {withCSR(text(flipped)), "does not match"},
		"P-224":                  {withCSR(request(t, p224, x509.ECDSAWithSHA256)), "insecure"},
		"RSA-1024":               {withCSR(request(t, rsa1024, 0)), "insecure"},
		"P-256 with SHA-384":     {withCSR(request(t, private, x509.ECDSAWithSHA384)), "hash that belongs"},
		"P-384 with SHA-256":     {withCSR(request(t, p384, x509.ECDSAWithSHA256)), "hash that belongs"},
		"RSA with SHA-512":       {withCSR(request(t, rsaKey, x509.SHA512WithRSA)), "hash that belongs"},
		"RSA-PSS":                {withCSR(request(t, rsaKey, x509.SHA256WithRSAPSS)), "hash that belongs"},
		"bytes behind":           {withCSR(text(append(bytes.Clone(block.Bytes), 0))), "could not be parsed"},
		"cut":                    {withCSR(text(block.Bytes[:len(block.Bytes)-1])), "could not be parsed"},
		"two requests":           {withCSR(append(bytes.Clone(good), good...)), "one PEM block"},
		"text behind":            {withCSR(append(bytes.Clone(good), "x"...)), "one PEM block"},
		"text before":            {withCSR(append([]byte("x\n"), good...)), "one PEM block"},
		"DER":                    {withCSR(block.Bytes), "one PEM block"},
		"a certificate":          {withCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})), "one PEM block"},
		"no base64":              {[]byte(`{"certificateSigningRequest":"-----BEGIN"}`), "CreateSigningCertificateRequest"},
		"empty":                  {[]byte(`{"certificateSigningRequest":""}`), "missing"},
		"and a key": {map[string]any{"certificateSigningRequest": good, "publicKeyRequest": map[string]any{
			"publicKey": map[string]any{"content": publicPEM(t, private.Public())}, "proofOfPossession": prove(t, private, "alice@example.com")}}, "want one of them"},
	} {
		status, answer := a.post(t, token, tc.request)
		if status != http.StatusBadRequest || !strings.Contains(answer, tc.want) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	resp, answer := a.legacy(t, http.MethodPost, "/api/v1/signingCert", token, map[string]any{"certificateSigningRequest": good,
		"publicKey": map[string]any{"content": []byte(publicPEM(t, private.Public()))}, "signedEmailAddress": prove(t, private, "alice@example.com")})
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(answer, "want one of them") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	if resp, _ := a.legacy(t, http.MethodPost, "/api/v1/signingCert", "", withCSR(good)); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("no token: %d", resp.StatusCode)
	}
}

// TestWeakModuli: RSA moduli that can be factored, though they are long enough.
func TestWeakModuli(t *testing.T) {
	t.Parallel()
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	next := new(big.Int).Add(p, big.NewInt(2))
	for !next.ProbablyPrime(20) {
		next.Add(next, big.NewInt(2))
	}
	// Powers of 65537 modulo each small prime, as the primes of CVE-2017-15361 are.
	roca, product := new(big.Int), big.NewInt(1)
	for q := int64(2); q <= 167; q++ {
		if big.NewInt(q).ProbablyPrime(20) {
			product.Mul(product, big.NewInt(q))
		}
	}
	roca.Exp(big.NewInt(65537), big.NewInt(5), product)
	for roca.BitLen() < 2048 {
		roca.Add(roca, new(big.Int).Mul(product, new(big.Int).Lsh(big.NewInt(1), uint(2047-product.BitLen()))))
	}
	small := new(big.Int).Mul(p, next)
	small.Sub(small, new(big.Int).Mod(small, big.NewInt(2*751))).Add(small, big.NewInt(751))
	for name, n := range map[string]*big.Int{
		"two close primes": new(big.Int).Mul(p, next), "a square": new(big.Int).Mul(p, p), "a small factor": small, "Infineon's": roca,
	} {
		if ca.Strong(&rsa.PublicKey{N: n, E: 65537}) == nil {
			t.Errorf("%s (%d bits): taken", name, n.BitLen())
		}
	}
	for range 3 {
		if err := ca.Strong(mustRSA(t)); err != nil {
			t.Error(err)
		}
	}
}

// shortRSA is a key of 1024 bits, which crypto/rsa makes no more.
func shortRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	prime := func() *big.Int {
		p, err := rand.Prime(rand.Reader, 512)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		p, q := prime(), prime()
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if n := new(big.Int).Mul(p, q); d != nil && n.BitLen() == 1024 {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}
