package ca

import "testing"

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
		if public, err := request.publicKey(); err == nil && proves(public, "alice@example.com", request.PublicKeyRequest.Proof) {
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
		if public, err := request.publicKey(); err == nil && proves(public, "alice@example.com", request.PublicKeyRequest.Proof) {
			t.Fatal("a proof out of nothing")
		}
	})
}
