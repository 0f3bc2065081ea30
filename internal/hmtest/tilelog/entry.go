package tilelog

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
)

// HashedRekord is an entry of kind hashedrekord 0.0.2 about content, signed by a
// certificate (DER) or, with cert nil, by a bare key (DER SubjectPublicKeyInfo).
func HashedRekord(content, signature, cert, key []byte) []byte {
	sum := sha256.Sum256(content)
	return forge.JCS(map[string]any{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": map[string]any{"hashedRekordV002": map[string]any{
		"data":      map[string]any{"algorithm": "SHA2_256", "digest": b64(sum[:])},
		"signature": signature002(signature, cert, key),
	}}})
}

// DSSE is an entry of kind dsse 0.0.2 about a payload.
func DSSE(payload, signature, cert, key []byte) []byte {
	sum := sha256.Sum256(payload)
	return forge.JCS(map[string]any{"apiVersion": "0.0.2", "kind": "dsse", "spec": map[string]any{"dsseV002": map[string]any{
		"payloadHash": map[string]any{"algorithm": "SHA2_256", "digest": b64(sum[:])},
		"signatures":  []any{signature002(signature, cert, key)},
	}}})
}

func signature002(signature, cert, key []byte) map[string]any {
	v := map[string]any{"keyDetails": "PKIX_ECDSA_P256_SHA_256"}
	if cert != nil {
		v["x509Certificate"] = map[string]any{"rawBytes": b64(cert)}
	} else {
		v["publicKey"] = map[string]any{"rawBytes": b64(key)}
	}
	return map[string]any{"content": b64(signature), "verifier": v}
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// Texts are n different entries that are no JSON.
func Texts(from, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "entry %d", from+i)
	}
	return out
}
