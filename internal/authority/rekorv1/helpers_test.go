package rekorv1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func p256() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// logKey is the same in parent and child.
func logKey() *ecdsa.PrivateKey {
	return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{1}, 32)))
}

func keyPEM(public crypto.PublicKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicKeyPEM, Bytes: must(x509.MarshalPKIXPublicKey(public))})
}

// certificateFor is a certificate with names of every kind that is searched for.
func certificateFor(key crypto.Signer, email string) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "signer"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_700_000_600, 0),
		EmailAddresses: []string{email}, URIs: []*url.URL{must(url.Parse("https://example.com/Workflow.yml"))}}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return pem.EncodeToMemory(&pem.Block{Type: certificatePEM, Bytes: der})
}

type object map[string]any

// hashedrekord is a proposed entry: content, signed by key.
func hashedrekord(key crypto.Signer, verifier []byte, content string) []byte {
	sum := sha256.Sum256([]byte(content))
	sig := must(key.Sign(rand.Reader, sum[:], crypto.SHA256))
	return hashedrekordOf("sha256", sum[:], sig, verifier)
}

func hashedrekordOf(algorithm string, digest, sig, verifier []byte) []byte {
	return must(json.Marshal(object{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": object{
		"data":      object{"hash": object{"algorithm": algorithm, "value": hex.EncodeToString(digest)}},
		"signature": object{"content": b64(sig), "publicKey": object{"content": b64(verifier)}}}}))
}

// envelopeOf is a DSSE envelope with a signature of each key.
func envelopeOf(payload string, keys ...crypto.Signer) string {
	message := evidence.PAE(evidence.InTotoPayloadType, []byte(payload))
	var sigs []object
	for _, k := range keys {
		sum := sha256.Sum256(message)
		digest, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
		if _, ok := k.(ed25519.PrivateKey); ok {
			digest, opts = message, crypto.Hash(0)
		}
		sigs = append(sigs, object{"keyid": "", "sig": b64(must(k.Sign(rand.Reader, digest, opts)))})
	}
	return string(must(json.Marshal(object{"payload": b64([]byte(payload)), "payloadType": evidence.InTotoPayloadType, "signatures": sigs})))
}

func dsse(envelope string, verifiers ...[]byte) []byte {
	var list []string
	for _, v := range verifiers {
		list = append(list, b64(v))
	}
	return must(json.Marshal(object{"apiVersion": "0.0.1", "kind": "dsse", "spec": object{
		"proposedContent": object{"envelope": envelope, "verifiers": list}}}))
}

func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(dir, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func testConfig() Config {
	key := logKey()
	return Config{Host: "127.0.0.1", Key: key, TreeID: must(NewTreeID(key.Public()))}
}

func ask(l *Log, method, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	l.Handler().ServeHTTP(w, r)
	return w
}

// added posts an entry and wants it added.
func added(t testing.TB, l *Log, body []byte) (id string, e anonEntry) {
	t.Helper()
	w := ask(l, http.MethodPost, "/api/v1/log/entries", body)
	if w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return one(t, w.Body.Bytes())
}

func one(t testing.TB, data []byte) (id string, e anonEntry) {
	t.Helper()
	var m logEntry
	if err := json.Unmarshal(data, &m); err != nil || len(m) != 1 {
		t.Fatalf("%s: %v", data, err)
	}
	for id, e = range m {
	}
	return id, e
}
