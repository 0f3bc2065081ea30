package oracle_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-openapi/runtime"
	"github.com/go-openapi/strfmt"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/types"
	_ "github.com/sigstore/rekor/pkg/types/dsse/v0.0.1"
	_ "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1"
	rekorverify "github.com/sigstore/rekor/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

type object = map[string]any

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// rekors is the body that Rekor's own code logs for a proposed entry.
func rekors(proposed []byte) ([]byte, error) {
	pe, err := models.UnmarshalProposedEntry(bytes.NewReader(proposed), runtime.JSONConsumer())
	if err != nil {
		return nil, err
	}
	e, err := types.CreateVersionedEntry(pe)
	if err != nil {
		return nil, err
	}
	return types.CanonicalizeEntry(context.Background(), e)
}

// signers are the keys, each with the digest that it signs for a hashedrekord.
func signers() []hashedSigner {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	return []hashedSigner{
		{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), crypto.SHA256},
		{must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), crypto.SHA384},
		{must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), crypto.SHA512},
		{must(rsa.GenerateKey(rand.Reader, 2048)), crypto.SHA256},
		{ed, crypto.SHA512},
	}
}

type hashedSigner struct {
	key  crypto.Signer
	hash crypto.Hash
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// verifiers are the forms in which a signer can be named: key, certificate, chain.
func verifiers(key crypto.Signer) [][]byte {
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(1_600_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), EmailAddresses: []string{"alice@example.com"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_700_000_600, 0)}
	caDER := must(x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey))
	cert := block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)))
	return [][]byte{
		block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key.Public()))),
		cert,
		append(append([]byte("\n"), cert...), block("CERTIFICATE", caDER)...),
	}
}

// signedEnvelope is a DSSE envelope with a signature of each key.
func signedEnvelope(message []byte, keys ...crypto.Signer) string {
	pae := evidence.PAE(evidence.InTotoPayloadType, message)
	var sigs []object
	for _, k := range keys {
		data, opts := pae, crypto.SignerOpts(crypto.Hash(0))
		if _, ok := k.(ed25519.PrivateKey); !ok {
			sum := sha256.Sum256(pae)
			data, opts = sum[:], crypto.SHA256
		}
		sigs = append(sigs, object{"keyid": "", "sig": must(k.Sign(rand.Reader, data, opts))})
	}
	return string(must(json.Marshal(object{"payload": message, "payloadType": evidence.InTotoPayloadType, "signatures": sigs})))
}

// proposals are entries of every shape that both take.
func proposals() (out [][]byte) {
	propose := func(kind string, spec object) {
		out = append(out, must(json.Marshal(object{"apiVersion": "0.0.1", "kind": kind, "spec": spec})))
	}
	for _, s := range signers() {
		key, h := s.key, s.hash
		for i, v := range verifiers(key) {
			message := fmt.Appendf(nil, "message %d", i)
			digest := h.New()
			digest.Write(message)
			sum := digest.Sum(nil)
			var opts crypto.SignerOpts = h
			if _, ok := key.(ed25519.PrivateKey); ok {
				opts = &ed25519.Options{Hash: h}
			}
			propose("hashedrekord", object{
				"data":      object{"hash": object{"algorithm": fmt.Sprintf("sha%d", h.Size()*8), "value": hex.EncodeToString(sum)}},
				"signature": object{"content": must(key.Sign(rand.Reader, sum, opts)), "publicKey": object{"content": v}}})
			propose("dsse", object{"proposedContent": object{"envelope": signedEnvelope(message, key), "verifiers": [][]byte{v}}})
			other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			propose("dsse", object{"proposedContent": object{"envelope": signedEnvelope(message, other, key), "verifiers": [][]byte{v, verifiers(other)[0]}}})
		}
	}
	return out
}

func rekorLog(t *testing.T) (*rekorv1.Log, *ecdsa.PrivateKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	l, err := rekorv1.Open(t.TempDir(), rekorv1.Config{Host: "127.0.0.1", Key: key, TreeID: must(rekorv1.NewTreeID(key.Public()))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, key
}

func propose(l *rekorv1.Log, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	l.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/log/entries", bytes.NewReader(body)))
	return w
}

// entryOf is the entry in an answer, in Rekor's own model.
func entryOf(t *testing.T, answer []byte) (e models.LogEntryAnon, body []byte) {
	t.Helper()
	var m models.LogEntry
	if err := json.Unmarshal(answer, &m); err != nil || len(m) != 1 {
		t.Fatalf("%s: %v", answer, err)
	}
	if err := m.Validate(strfmt.Default); err != nil {
		t.Error(err)
	}
	for _, e = range m {
	}
	return e, must(base64.StdEncoding.DecodeString(e.Body.(string)))
}

// TestRekorsOwnCode: what our Rekor v1 log writes is what Rekor writes, and what
// it answers is what Rekor's client verifies.
func TestRekorsOwnCode(t *testing.T) {
	l, key := rekorLog(t)
	verifier := must(signature.LoadECDSAVerifier(&key.PublicKey, crypto.SHA256))
	for _, proposed := range proposals() {
		want, err := rekors(proposed)
		if err != nil {
			t.Errorf("Rekor refuses %.300s: %v", proposed, err)
			continue
		}
		w := propose(l, proposed)
		if w.Code != http.StatusCreated {
			t.Errorf("%d %s for %.300s", w.Code, w.Body, proposed)
			continue
		}
		e, got := entryOf(t, w.Body.Bytes())
		if !bytes.Equal(got, want) {
			t.Errorf("we log\n%s\nRekor logs\n%s", got, want)
		}
		if err := rekorverify.VerifyLogEntry(t.Context(), &e, verifier); err != nil {
			t.Error(err)
		}
	}
}

// TestNeverLaxerThanRekor: what of a valid entry with a changed byte we still
// take, Rekor takes, too, and logs the same.
func TestNeverLaxerThanRekor(t *testing.T) {
	l, _ := rekorLog(t)
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	taken, refused := 0, 0
	for _, proposed := range proposals() {
		for range 60 {
			changed := bytes.Clone(proposed)
			i := rnd.IntN(len(changed))
			switch rnd.IntN(3) {
			case 0:
				changed[i] ^= 1 << rnd.IntN(8)
			case 1:
				changed = append(changed[:i], changed[i+1:]...)
			default:
				more := `{}[]",: 0aA=`[rnd.IntN(12)]
				changed = append(changed[:i], append([]byte{more}, changed[i:]...)...)
			}
			w := propose(l, changed)
			if w.Code == http.StatusConflict {
				continue // the change means nothing, and the entry is there
			}
			if w.Code != http.StatusCreated {
				refused++
				continue
			}
			taken++
			want, err := rekors(changed)
			if err != nil {
				t.Errorf("we take what Rekor refuses (%v): %s", err, changed)
				continue
			}
			if _, got := entryOf(t, w.Body.Bytes()); !bytes.Equal(got, want) {
				t.Errorf("of %s we log\n%s\nRekor logs\n%s", changed, got, want)
			}
		}
	}
	t.Logf("%d taken, %d refused", taken, refused)
	if taken == 0 || refused == 0 {
		t.Error("the test tests nothing")
	}
}
