package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// FuzzRequest: whatever is posted is refused or understood, never a crash.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"publicKeyRequest":{"publicKey":{"algorithm":"ECDSA","content":"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"},"proofOfPossession":"MEUC"}}`,
		`{"credentials":{"oidcIdentityToken":"a.b.c"},"public_key_request":{"public_key":{"algorithm":2}}}`,
		`{"certificateSigningRequest":"AAAA"}`, `{"publicKeyRequest":null}`, `[]`, `{"publicKeyRequest":{"proofOfPossession":"A"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := parseRequest(data)
		if err != nil {
			return
		}
		if _, err := request.proven("alice@example.com"); err == nil && len(request.CSR) == 0 {
			t.Fatal("a proof out of nothing")
		}
	})
}

// FuzzLegacyRequest is the same for API v1.
func FuzzLegacyRequest(f *testing.F) {
	for _, seed := range []string{
		`{"publicKey":{"content":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE","algorithm":"ecdsa"},"signedEmailAddress":"MEUC","certificateSigningRequest":null}`,
		`{"publicKey":{"content":"LS0tLS1CRUdJTiA="}}`, `{"public_key":null}`, `{"certificateSigningRequest":"AAAA"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := parseLegacyRequest(data)
		if err != nil {
			return
		}
		if _, err := request.proven("alice@example.com"); err == nil && len(request.CSR) == 0 {
			t.Fatal("a proof out of nothing")
		}
	})
}

// FuzzCSR: a request is refused or has a strong key that signed it.
func FuzzCSR(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := NewCSR(k, pkix.Name{CommonName: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Add([]byte("-----BEGIN NEW CERTIFICATE REQUEST-----\nMAA=\n-----END NEW CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if csr, err := ParseCSR(data); err == nil && (strong(csr.PublicKey) != nil || csr.CheckSignature() != nil) {
			t.Fatal("taken")
		}
	})
}

// FuzzChain: certificates are read or refused, never a crash.
func FuzzChain(f *testing.F) {
	_, root, err := NewRoot(time.Now(), "Hallmark", "CA")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(certPEM(root.Raw)))
	f.Add([]byte(certPEM(root.Raw) + certPEM(root.Raw)))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := ParseChain(data)
		if err == nil && (len(chain) == 0 || len(chain) > maxChain) {
			t.Fatal(len(chain))
		}
		if err == nil {
			_ = CheckChain(chain, chain[0].PublicKey)
			_ = CheckTSAChain(chain, chain[0].PublicKey)
		}
	})
}

// FuzzSCT: what a log answers is refused unless it signed it.
func FuzzSCT(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	l, err := NewCTLog("https://ct.example", k.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"sct_version":0,"id":"AAAA","timestamp":1,"extensions":"","signature":"BAMAAA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := l.checked(data, func(*cryptobyte.Builder) {}, time.UnixMilli(1)); err == nil {
			t.Fatal("taken")
		}
	})
}
