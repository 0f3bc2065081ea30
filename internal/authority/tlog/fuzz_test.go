package tlog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func validRequest(t testing.TB, message string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(message))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(der))
}

func FuzzParseRequest(f *testing.F) {
	f.Add(validRequest(f, "m"))
	f.Add([]byte(`{"hashedRekordRequestV002":{"digest":"AA","signature":{"content":"AA","verifier":{"x509Certificate":{"rawBytes":"MAA"},"keyDetails":5}}}}`))
	f.Add([]byte(`{"hashed_rekord_request_v002":null}`))
	f.Add([]byte(`{"dsseRequestV002":{}}`))
	f.Add([]byte(`{"a":[[[[[[[[[[]]]]]]]]]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseRequest(data)
		if err != nil {
			return
		}
		// What is accepted is a valid entry: JSON, and the same when it is read again.
		c := e.canonical()
		if !json.Valid(c) {
			t.Fatalf("not JSON: %s", c)
		}
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseTilePath(f *testing.F) {
	for _, s := range []string{"0/000", "1/x001/234.p/5", "entries/000", "entries/x999/x999/999.p/255", "data/000", "63/000", "-1/000", "0/000.p/256"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := parseTilePath(path)
		if err != nil {
			return
		}
		if tile.W < 1 || tile.W > tileWidth || tile.N < 0 || tile.L < -1 || tile.L > 63 {
			t.Fatalf("%q: %+v", path, tile)
		}
		back := strings.Replace(strings.TrimPrefix(tile.Path(), "tile/8/"), "data/", "entries/", 1)
		if back != path {
			t.Fatalf("%q is also spelled %q", path, back)
		}
		tree := new(tree)
		if tree.has(tile) {
			t.Fatalf("the empty log has %q", path)
		}
	})
}
