package rekorv1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
)

// TestEntriesOfThePublicLog: what the public instance and its staging logged, as
// the conformance suite's bundles have it, is what we make of the same proposal.
// (There are no dsse entries among them; test/oracle compares those with Rekor's
// own code.)
func TestEntriesOfThePublicLog(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../verify/testdata/conformance/bundle-verify/*/bundle.sigstore.json")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, path := range paths {
		if strings.Contains(path, "_fail") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var b struct {
			VerificationMaterial struct {
				TlogEntries []struct {
					KindVersion struct{ Kind, Version string }
					Body        []byte `json:"canonicalizedBody"`
				}
			}
		}
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, e := range b.VerificationMaterial.TlogEntries {
			if e.KindVersion.Kind != kindHashedrekord || e.KindVersion.Version != entryVersion {
				continue
			}
			compared++
			// The body is a proposal, too.
			if got, err := canonicalize(e.Body); err != nil || !bytes.Equal(got, e.Body) {
				t.Errorf("%s: %v\n%s\n%s", path, err, got, e.Body)
			}
		}
	}
	if compared < 5 {
		t.Errorf("only %d were compared", compared)
	}
}

func TestEveryKindOfKey(t *testing.T) {
	t.Parallel()
	p384, p521 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	rsa2048 := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	message := []byte("message")
	digests := map[string][]byte{}
	s256, s384, s512 := sha256.Sum256(message), sha512.Sum384(message), sha512.Sum512(message)
	digests["sha256"], digests["sha384"], digests["sha512"] = s256[:], s384[:], s512[:]
	for _, key := range []crypto.Signer{p256(), p384, p521, rsa2048, ed} {
		for name, digest := range digests {
			if _, ok := key.(ed25519.PrivateKey); ok && name != "sha512" {
				continue
			}
			opts := crypto.SignerOpts(hashes[name])
			if _, ok := key.(ed25519.PrivateKey); ok {
				opts = &ed25519.Options{Hash: crypto.SHA512}
			}
			sig := must(key.Sign(rand.Reader, digest, opts))
			body, err := canonicalize(hashedrekordOf(name, digest, sig, keyPEM(key.Public())))
			if err != nil {
				t.Errorf("%T %s: %v", key, name, err)
				continue
			}
			if jcs, err := jsoncanonicalizer.Transform(body); err != nil || !bytes.Equal(jcs, body) {
				t.Errorf("%T %s: not JCS: %s", key, name, body)
			}
			sig[len(sig)/2] ^= 1
			if _, err := canonicalize(hashedrekordOf(name, digest, sig, keyPEM(key.Public()))); err == nil {
				t.Errorf("%T %s: a signature of nobody was taken", key, name)
			}
		}
		body, err := canonicalize(dsse(envelopeOf(`{"a":1}`, key), keyPEM(key.Public())))
		if err != nil {
			t.Errorf("%T: %v", key, err)
		}
		if jcs, err := jsoncanonicalizer.Transform(body); err != nil || !bytes.Equal(jcs, body) {
			t.Errorf("%T: not JCS: %s", key, body)
		}
	}
}

func TestEnvelopeOfTwo(t *testing.T) {
	t.Parallel()
	a, b := p256(), p256()
	env := envelopeOf("{}", a, b)
	one, err := canonicalize(dsse(env, keyPEM(a.Public()), keyPEM(b.Public())))
	if err != nil {
		t.Fatal(err)
	}
	// The order of verifiers does not matter: signatures are sorted.
	two, err := canonicalize(dsse(env, keyPEM(b.Public()), keyPEM(a.Public())))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("%v\n%s\n%s", err, one, two)
	}
	var w struct {
		Spec struct {
			Signatures []struct{ Signature, Verifier string }
		}
	}
	if err := json.Unmarshal(one, &w); err != nil || len(w.Spec.Signatures) != 2 || w.Spec.Signatures[0].Signature > w.Spec.Signatures[1].Signature {
		t.Errorf("%s", one)
	}
	for name, verifiers := range map[string][][]byte{
		"one missing":        {keyPEM(a.Public())},
		"a stranger first":   {keyPEM(p256().Public()), keyPEM(a.Public()), keyPEM(b.Public())},
		"none":               nil,
		"a stranger instead": {keyPEM(a.Public()), keyPEM(p256().Public())},
	} {
		if _, err := canonicalize(dsse(env, verifiers...)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestChains(t *testing.T) {
	t.Parallel()
	key, other := p256(), p256()
	leaf := certificateFor(key, "a@example.com")
	if _, err := canonicalize(hashedrekord(key, append(leaf, certificateFor(other, "b@example.com")...), "x")); err == nil || !strings.Contains(err.Error(), "no chain") {
		t.Errorf("two strangers are a chain: %v", err)
	}
	text := append([]byte("\n  "), leaf...)
	text = append(text, "\n\n"...)
	body, err := canonicalize(hashedrekord(key, text, "x"))
	if err != nil || !strings.Contains(string(body), base64.StdEncoding.EncodeToString(leaf)) {
		t.Errorf("spaces around PEM: %v", err)
	}
}

// refusedEntries are proposals that must be refused, with a part of the reason.
func refusedEntries() map[string]struct {
	body []byte
	why  string
} {
	key := p256()
	pub := keyPEM(key.Public())
	good := string(hashedrekord(key, pub, "x"))
	env := envelopeOf("{}", key)
	rsa1024 := keyPEM(must(rsa.GenerateKey(rand.Reader, 1024)).Public())
	digest := bytes.Repeat([]byte{1}, 32)
	type c = struct {
		body []byte
		why  string
	}
	return map[string]c{
		"nothing":                {nil, ""},
		"an array":               {[]byte(`[]`), ""},
		"two objects":            {[]byte(good + good), ""},
		"a member twice":         {[]byte(strings.Replace(good, `"kind":`, `"kind":"rpm","kind":`, 1)), "duplicate"},
		"another case":           {[]byte(strings.Replace(good, `"kind":`, `"Kind":`, 1)), ""},
		"intoto":                 {[]byte(strings.Replace(good, "hashedrekord", "intoto", 1)), "--rekor-entry-type dsse"},
		"rfc3161":                {[]byte(strings.Replace(good, "hashedrekord", "rfc3161", 1)), "no entries of kind rfc3161"},
		"an unknown kind":        {[]byte(strings.Replace(good, "hashedrekord", "poem", 1)), `unknown kind "poem"`},
		"another version":        {[]byte(strings.Replace(good, "0.0.1", "0.0.2", 1)), "version"},
		"another hash":           {[]byte(strings.Replace(good, "sha256", "md5", 1)), "md5"},
		"a hash of another size": {[]byte(strings.Replace(good, "sha256", "sha512", 1)), "128"},
		"a URL":                  {[]byte(strings.Replace(good, `"data":{`, `"data":{"url":"http://example.com",`, 1)), "fetches nothing"},
		"another signature":      {hashedrekordOf("sha256", digest, []byte("sig"), pub), "signature"},
		"no signature":           {hashedrekordOf("sha256", digest, nil, pub), ""},
		"no key":                 {hashedrekordOf("sha256", digest, []byte("sig"), nil), ""},
		"a private key":          {hashedrekordOf("sha256", digest, []byte("sig"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "PRIVATE KEY"},
		"text before the PEM":    {hashedrekordOf("sha256", digest, []byte("sig"), append([]byte("x"), pub...)), "not a PEM"},
		"a small RSA key":        {hashedrekordOf("sha256", digest, []byte("sig"), rsa1024), "1024 bits"},
		"two keys":               {hashedrekordOf("sha256", digest, []byte("sig"), append(pub[:len(pub):len(pub)], pub...)), "one public key"},
		"a long PEM":             {hashedrekordOf("sha256", digest, []byte("sig"), bytes.Repeat([]byte("A"), maxVerifier+1)), "at most"},
		"uppercase hex":          {bytes.Replace([]byte(good), []byte(`"value":"`), []byte(`"value":"A`), 1), "lowercase"},
		"dsse: nothing proposed": {[]byte(`{"apiVersion":"0.0.1","kind":"dsse","spec":{}}`), "proposedContent"},
		"dsse: written fields": {[]byte(strings.Replace(string(dsse(env, pub)), `"proposedContent"`,
			`"payloadHash":{"algorithm":"sha256","value":"00"},"proposedContent"`, 1)), "for the log to write"},
		"dsse: no envelope":       {dsse("", pub), "envelope"},
		"dsse: no verifiers":      {dsse(env), ""},
		"dsse: no signature":      {dsse(`{"payload":"e30=","payloadType":"x","signatures":[]}`, pub), "signatures"},
		"dsse: no type":           {dsse(`{"payload":"e30=","signatures":[{"sig":"AAAA"}]}`, pub), "payloadType"},
		"dsse: payload":           {dsse(`{"payload":"{}","payloadType":"x","signatures":[{"sig":"AAAA"}]}`, pub), "not base64"},
		"dsse: URL alphabet":      {dsse(`{"payload":"e30=","payloadType":"x","signatures":[{"sig":"-_-_"}]}`, pub), "standard base64"},
		"dsse: payload twice":     {dsse(strings.Replace(env, `"payload":`, `"payload":"AAAA","payload":`, 1), pub), "duplicate"},
		"dsse: payload by a case": {dsse(strings.Replace(env, `"payload":`, `"Payload":`, 1), pub), "payload is missing"},
		"dsse: many signatures":   {dsse(`{"payload":"e30=","payloadType":"x","signatures":[`+strings.Repeat(`{"sig":"AAAA"},`, maxSignatures)+`{"sig":"AAAA"}]}`, pub), "1 to 16"},
		"dsse: deep":              {dsse(strings.Repeat("[", 100)+strings.Repeat("]", 100), pub), ""},
	}
}

func TestRefusedEntries(t *testing.T) {
	t.Parallel()
	for name, c := range refusedEntries() {
		body, err := canonicalize(c.body)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q: %s", name, err, c.why, body)
		}
	}
	// Clients that send their whole model send null for what they leave out.
	key := p256()
	pub := keyPEM(key.Public())
	nulls := strings.Replace(string(dsse(envelopeOf("{}", key), pub)), `"proposedContent"`,
		`"payloadHash":null,"envelopeHash":null,"signatures":null,"proposedContent"`, 1)
	if _, err := canonicalize([]byte(nulls)); err != nil {
		t.Error(err)
	}
	if _, err := canonicalize([]byte(strings.Replace(string(hashedrekord(key, pub, "x")), `"data":{`, `"data":{"url":null,`, 1))); err != nil {
		t.Error(err)
	}
}
