package rekorv1

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// FuzzProposed: whatever is posted is refused, or becomes a body that is
// canonical, that is found by its keys, and that is the same when it is proposed
// again.
func FuzzProposed(f *testing.F) {
	key := p256()
	f.Add(hashedrekord(key, keyPEM(key.Public()), "x"))
	f.Add(hashedrekord(key, certificateFor(key, "a@example.com"), "x"))
	f.Add(dsse(envelopeOf(`{}`, key), keyPEM(key.Public())))
	for _, c := range refusedEntries() {
		if len(c.body) < 4096 {
			f.Add(c.body)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := canonicalize(data)
		if err != nil {
			return
		}
		if jcs, err := jsoncanonicalizer.Transform(body); err != nil || !bytes.Equal(jcs, body) {
			t.Fatalf("not canonical: %v %s", err, body)
		}
		if len(keysOf(body)) < 2 {
			t.Fatalf("not found: %s", body)
		}
		if bytes.Contains(body, []byte(`"kind":"hashedrekord"`)) {
			if again, err := canonicalize(body); err != nil || !bytes.Equal(again, body) {
				t.Fatalf("%v %s", err, again)
			}
		}
	})
}

func FuzzVerifier(f *testing.F) {
	key := p256()
	f.Add(keyPEM(key.Public()))
	f.Add(certificateFor(key, "a@example.com"))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := readVerifier(data)
		if err != nil {
			return
		}
		again, err := readVerifier(v.text)
		if err != nil || !bytes.Equal(again.text, v.text) {
			t.Fatalf("not canonical: %v %s", err, v.text)
		}
	})
}

func FuzzQueries(f *testing.F) {
	f.Add([]byte(`{"email":"a@example.com","hash":"sha256:00","operator":"and","publicKey":{"format":"x509","content":"AAAA"}}`))
	f.Add([]byte(`{"entryUUIDs":["00"],"logIndexes":[1],"entries":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var q queryWire
		if strictjson.Unmarshal(data, &q) == nil {
			if keys, _, err := q.keys(); err == nil && len(keys) > 3 {
				t.Fatal(keys)
			}
		}
		var w retrieveWire
		if strictjson.Unmarshal(data, &w) == nil && !json.Valid(data) {
			t.Fatal("not JSON")
		}
	})
}
