package tlog_test

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
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	formats "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	sumdb "golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

const origin = "127.0.0.1"

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func openLog(t testing.TB, dir string, key ed25519.PrivateKey) *tlog.Log {
	t.Helper()
	l, err := tlog.Open(dir, tlog.Config{Origin: origin, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// signed is a valid request for one message.
type signed struct {
	Digest     []byte
	Signature  []byte
	Verifier   string // publicKey or x509Certificate
	Raw        []byte
	KeyDetails any
}

func (s signed) json() []byte {
	b, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": s.Digest,
		"signature": map[string]any{"content": s.Signature, "verifier": map[string]any{
			s.Verifier: map[string]any{"rawBytes": s.Raw}, "keyDetails": s.KeyDetails,
		}},
	}})
	if err != nil {
		panic(err)
	}
	return b
}

func spki(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certificate(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "signer"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func signP256(t testing.TB, key *ecdsa.PrivateKey, message string) signed {
	t.Helper()
	digest := sha256.Sum256([]byte(message))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed{digest[:], sig, "publicKey", spki(t, key.Public()), "PKIX_ECDSA_P256_SHA_256"}
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func post(t testing.TB, url string, body []byte) (int, []byte) {
	t.Helper()
	resp, err := http.Post(url+"/api/v2/log/entries", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

// accept posts and checks the answer with readers that are not ours: protojson
// for the form, transparency-dev for the proof, sumdb/note for the checkpoint.
func accept(t testing.TB, url string, l *tlog.Log, body []byte) *rekor.TransparencyLogEntry {
	t.Helper()
	status, out := post(t, url, body)
	if status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, out)
	}
	tle := new(rekor.TransparencyLogEntry)
	if err := protojson.Unmarshal(out, tle); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	p := tle.GetInclusionProof()
	leaf := rfc6962.DefaultHasher.HashLeaf(tle.GetCanonicalizedBody())
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.GetLogIndex()), uint64(p.GetTreeSize()), leaf, p.GetHashes(), p.GetRootHash()); err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, l.Public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, _, err := formats.ParseCheckpoint([]byte(p.GetCheckpoint().GetEnvelope()), origin, v)
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != uint64(p.GetTreeSize()) || !bytes.Equal(cp.Hash, p.GetRootHash()) || tle.GetLogIndex() != p.GetLogIndex() {
		t.Fatalf("the parts of the answer differ: %s", out)
	}
	if !bytes.Equal(tle.GetLogId().GetKeyId(), l.KeyID()) || tle.GetIntegratedTime() != 0 ||
		tle.GetKindVersion().GetKind() != "hashedrekord" || tle.GetKindVersion().GetVersion() != "0.0.2" {
		t.Fatalf("wrong constants: %s", out)
	}
	return tle
}

func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir(), newKey(t))
	srv := httptest.NewServer(l.Handler())
	defer srv.Close()
	d256, d384, d512 := sha256.Sum256([]byte("m")), sha512.Sum384([]byte("m")), sha512.Sum512([]byte("m"))
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	longKey, err := rsa.GenerateKey(rand.Reader, 2056)
	if err != nil {
		t.Fatal(err)
	}
	longSig, err := longKey.Sign(rand.Reader, d256[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	long := signed{d256[:], longSig, "publicKey", spki(t, longKey.Public()), "PKIX_RSA_PKCS1V15_2048_SHA256"}
	if status, out := post(t, srv.URL, long.json()); status != http.StatusBadRequest || !strings.Contains(string(out), "2056 bits") {
		t.Errorf("an RSA key that is longer than its keyDetails say: %d %s", status, out)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	cases := []struct {
		details string
		number  int
		key     crypto.Signer
		digest  []byte
		opts    crypto.SignerOpts
	}{
		{"PKIX_ECDSA_P256_SHA_256", 5, p256(t), d256[:], crypto.SHA256},
		{"PKIX_ECDSA_P384_SHA_384", 12, p384, d384[:], crypto.SHA384},
		{"PKIX_ECDSA_P521_SHA_512", 13, p521, d512[:], crypto.SHA512},
		{"PKIX_ED25519_PH", 8, edKey, d512[:], &ed25519.Options{Hash: crypto.SHA512}},
		{"PKIX_RSA_PKCS1V15_2048_SHA256", 9, rsaKey, d256[:], crypto.SHA256},
		{"PKIX_RSA_PSS_2048_SHA256", 16, rsaKey, d256[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}},
	}
	for i, c := range cases {
		sig, err := c.key.Sign(rand.Reader, c.digest, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		s := signed{c.digest, sig, "publicKey", spki(t, c.key.Public()), c.details}
		first := accept(t, srv.URL, l, s.json())
		if first.GetLogIndex() != int64(2*i) {
			t.Errorf("%s: index %d, want %d", c.details, first.GetLogIndex(), 2*i)
		}
		// protojson: an enum may be a number; it is the same entry.
		s.KeyDetails = c.number
		if again := accept(t, srv.URL, l, s.json()); again.GetLogIndex() != int64(2*i) {
			t.Errorf("%s: the duplicate has index %d", c.details, again.GetLogIndex())
		}
		s.Verifier, s.Raw = "x509Certificate", certificate(t, c.key)
		if cert := accept(t, srv.URL, l, s.json()); cert.GetLogIndex() != int64(2*i+1) {
			t.Errorf("%s: with certificate: index %d", c.details, cert.GetLogIndex())
		}
		for _, other := range cases {
			if other.details != c.details {
				s.KeyDetails = other.details
				if status, out := post(t, srv.URL, s.json()); status != http.StatusBadRequest {
					t.Errorf("a signature of %s accepted as %s: %s", c.details, other.details, out)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir(), newKey(t))
	srv := httptest.NewServer(l.Handler())
	defer srv.Close()
	key := p256(t)
	good := signP256(t, key, "m")
	body := string(good.json())
	with := func(change func(*signed)) string {
		s := good
		change(&s)
		return string(s.json())
	}
	b64 := base64.StdEncoding.EncodeToString(good.Digest)
	for name, c := range map[string]struct{ body, want string }{
		"empty":               {"", "not JSON"},
		"not an object":       {"[]", "not a JSON object"},
		"trailing":            {body + "{}", "behind"},
		"trailing comma":      {strings.TrimSuffix(body, "}") + ",}", "not JSON"},
		"not UTF-8":           {strings.Replace(body, "digest", "dig\xffest", 1), "UTF-8"},
		"dsse":                {`{"dsseRequestV002":{}}`, "must be hashedrekord"},
		"nothing":             {`{}`, "missing"},
		"null":                {`{"hashedRekordRequestV002":null}`, "missing"},
		"unknown":             {strings.Replace(body, `"digest"`, `"x":1,"digest"`, 1), `unknown member "x"`},
		"wrong case":          {strings.Replace(body, `"digest"`, `"Digest"`, 1), "unknown member"},
		"repeated":            {strings.Replace(body, `"digest"`, `"digest":"AA==","digest"`, 1), "twice"},
		"both spellings":      {strings.Replace(body, `"keyDetails"`, `"key_details":5,"keyDetails"`, 1), "twice"},
		"deep":                {strings.Repeat(`{"a":`, 20), "deep"},
		"digest is a number":  {strings.Replace(body, `"`+b64+`"`, "1", 1), "not a string"},
		"line break":          {strings.Replace(body, b64, b64[:8]+`\n`+b64[8:], 1), "not base64"},
		"loose bits":          {strings.Replace(body, b64, b64[:42]+string(b64[42]+1)+"=", 1), "not base64"},
		"no verifier":         {with(func(s *signed) { s.Verifier = "verifier" }), "unknown member"},
		"both verifiers":      {strings.Replace(body, `"publicKey"`, `"x509Certificate":{"rawBytes":"AA=="},"publicKey"`, 1), "both"},
		"key as certificate":  {with(func(s *signed) { s.Verifier = "x509Certificate" }), "not a DER certificate"},
		"bytes behind key":    {with(func(s *signed) { s.Raw = append(s.Raw[:len(s.Raw):len(s.Raw)], 0) }), "not a DER"},
		"unknown keyDetails":  {with(func(s *signed) { s.KeyDetails = "PKIX_ED25519" }), "not a kind of key"},
		"unknown enum number": {with(func(s *signed) { s.KeyDetails = 7 }), "not a kind of key"},
		"no keyDetails":       {with(func(s *signed) { s.KeyDetails = nil }), "missing"},
		"short digest":        {with(func(s *signed) { s.Digest = s.Digest[:31] }), "31 bytes"},
		"other digest":        {with(func(s *signed) { d := sha256.Sum256(nil); s.Digest = d[:] }), "not by this key"},
		"other signature":     {with(func(s *signed) { s.Signature = signP256(t, key, "n").Signature }), "not by this key"},
		"bytes behind sig":    {with(func(s *signed) { s.Signature = append(s.Signature[:len(s.Signature):len(s.Signature)], 0) }), "not by this key"},
		"other key":           {with(func(s *signed) { s.Raw = spki(t, p256(t).Public()) }), "not by this key"},
	} {
		status, out := post(t, srv.URL, []byte(c.body))
		if status != http.StatusBadRequest || !strings.Contains(string(out), c.want) {
			// A message inside JSON has its quotes escaped.
			if status == http.StatusBadRequest && strings.Contains(strings.ReplaceAll(string(out), `\"`, `"`), c.want) {
				continue
			}
			t.Errorf("%s: %d %s, want 400 with %q", name, status, out, c.want)
		}
	}
	if status, _ := post(t, srv.URL, bytes.Repeat([]byte(" "), 200<<10)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large request: %d", status)
	}
	if l.Size() != 0 {
		t.Errorf("%d refused entries are in the log", l.Size())
	}
	accept(t, srv.URL, l, []byte(body))
}

func TestProtojsonSpellings(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir(), newKey(t))
	srv := httptest.NewServer(l.Handler())
	defer srv.Close()
	body := string(signP256(t, p256(t), "m").json())
	want := accept(t, srv.URL, l, []byte(body)).GetCanonicalizedBody()
	b64 := base64.StdEncoding.EncodeToString(sumOf("m"))
	for name, b := range map[string]string{
		"snake case":   strings.NewReplacer("hashedRekordRequestV002", "hashed_rekord_request_v002", "keyDetails", "key_details", "publicKey", "public_key", "rawBytes", "raw_bytes").Replace(body),
		"URL alphabet": strings.Replace(body, b64, strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(b64), "="), 1),
		"null oneof":   strings.Replace(body, `"publicKey"`, `"x509Certificate":null,"publicKey"`, 1),
		"spaces":       strings.ReplaceAll(body, `":`, "\" : \n"),
	} {
		tle := accept(t, srv.URL, l, []byte(b))
		if diff := cmp.Diff(string(want), string(tle.GetCanonicalizedBody())); diff != "" || tle.GetLogIndex() != 0 {
			t.Errorf("%s: another entry %s", name, diff)
		}
	}
}

func sumOf(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }

func TestDuplicateAfterRestartAndConcurrently(t *testing.T) {
	t.Parallel()
	dir, key, signer := t.TempDir(), newKey(t), p256(t)
	bodies := make([][]byte, 20)
	for i := range bodies {
		bodies[i] = signP256(t, signer, fmt.Sprint(i)).json()
	}
	index := make([]int64, len(bodies))
	for round := range 2 {
		l, err := tlog.Open(dir, tlog.Config{Origin: origin, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(l.Handler())
		var wg sync.WaitGroup
		got := make([]int64, 4*len(bodies))
		for i := range got {
			wg.Go(func() { got[i] = accept(t, srv.URL, l, bodies[i%len(bodies)]).GetLogIndex() })
		}
		wg.Wait()
		for i := range got {
			if round == 0 && i < len(bodies) {
				index[i] = got[i]
			}
			if got[i] != index[i%len(bodies)] {
				t.Errorf("round %d: entry %d has index %d, first %d", round, i%len(bodies), got[i], index[i%len(bodies)])
			}
		}
		if l.Size() != int64(len(bodies)) {
			t.Errorf("size %d", l.Size())
		}
		srv.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedFilesAreRefusedByName(t *testing.T) {
	t.Parallel()
	dir, key, signer := t.TempDir(), newKey(t), p256(t)
	l := openLog(t, dir, key)
	srv := httptest.NewServer(l.Handler())
	for i := range 3 {
		accept(t, srv.URL, l, signP256(t, signer, fmt.Sprint(i)).json())
	}
	srv.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"entries", "checkpoint.sealed"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, bad []byte) {
			t.Helper()
			if bad == nil {
				_ = os.Remove(path)
			} else if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			broken, err := tlog.Open(dir, tlog.Config{Origin: origin, Key: key})
			if err == nil {
				_ = broken.Close()
				t.Fatalf("%s %s: opened", name, what)
			}
			var damaged *durable.CorruptError
			if !errors.As(err, &damaged) || filepath.Base(damaged.Path) != name {
				t.Fatalf("%s %s: %v", name, what, err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, bad) {
				t.Fatalf("%s %s: changed by Open", name, what)
			}
		}
		for i := 0; i < len(good); i += max(1, len(good)/150) {
			flipped := bytes.Clone(good)
			flipped[i] ^= 1 << (i % 8)
			refused(fmt.Sprintf("with a bit of byte %d flipped", i), flipped)
			refused(fmt.Sprintf("cut to %d bytes", i), good[:i:i])
		}
		refused("missing", nil)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if openLog(t, dir, key).Size() != 3 {
		t.Error("the restored log has lost entries")
	}
}

func TestOpenIsExclusiveAndBoundToItsKey(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	l := openLog(t, dir, key)
	if _, err := tlog.Open(dir, tlog.Config{Origin: origin, Key: key}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]tlog.Config{
		"another key":     {Origin: origin, Key: newKey(t)},
		"another origin":  {Origin: "localhost", Key: key},
		"no origin":       {Key: key},
		"origin with +":   {Origin: "a+b", Key: key},
		"origin of lines": {Origin: "a\nb", Key: key},
		"no key":          {Origin: origin},
	} {
		if l, err := tlog.Open(dir, cfg); err == nil {
			_ = l.Close()
			t.Errorf("opened with %s", name)
		}
	}
}

// tileReader reads the log as a stranger does: over HTTP, through tiles.
type tileReader struct {
	t   testing.TB
	url string
}

func (r tileReader) Height() int                      { return 8 }
func (r tileReader) SaveTiles([]sumdb.Tile, [][]byte) {}
func (r tileReader) path(tile sumdb.Tile) (url string) {
	return r.url + "/api/v2/tile/" + tile.Path()[len("tile/8/"):]
}
func (r tileReader) ReadTiles(ts []sumdb.Tile) (out [][]byte, err error) {
	for _, tile := range ts {
		resp, err := http.Get(r.path(tile))
		if err != nil {
			return nil, err
		}
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %d", r.path(tile), resp.StatusCode)
		}
		if cc := resp.Header.Get("Cache-Control"); !strings.Contains(cc, "immutable") {
			r.t.Errorf("%s: Cache-Control %q", tile.Path(), cc)
		}
		out = append(out, data)
	}
	return out, nil
}

func TestReadableAsTiles(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir(), newKey(t))
	const n = 600
	if err := l.AppendForTest(n); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(l.Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if ct, cc := resp.Header.Get("Content-Type"), resp.Header.Get("Cache-Control"); ct != "text/plain; charset=utf-8" || cc != "no-cache" {
		t.Errorf("checkpoint: %q %q", ct, cc)
	}
	lines := strings.SplitN(string(text), "\n", 4)
	root, err := sumdb.ParseHash(lines[2])
	if err != nil || lines[1] != fmt.Sprint(n) {
		t.Fatalf("checkpoint %q: %v", text, err)
	}
	r := tileReader{t, srv.URL}
	// TileHashReader refuses any tile that does not lead to the root.
	hashes := sumdb.TileHashReader(sumdb.Tree{N: n, Hash: root}, r)
	for i := range int64(n) {
		h, err := hashes.ReadHashes([]int64{sumdb.StoredHashIndex(0, i)})
		if err != nil {
			t.Fatal(err)
		}
		if i%100 != 0 && i != n-1 {
			continue
		}
		bundle := fmt.Sprintf("%s/api/v2/tile/entries/%03d", srv.URL, i/256)
		if i/256 == n/256 {
			bundle += fmt.Sprintf(".p/%d", n%256)
		}
		resp, err := http.Get(bundle)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for range i % 256 {
			data = data[2+int(data[0])<<8+int(data[1]):]
		}
		if entry := data[2 : 2+int(data[0])<<8+int(data[1])]; sumdb.RecordHash(entry) != h[0] {
			t.Errorf("entry %d is not what its hash says", i)
		}
	}
	for path, want := range map[string]int{
		"0/002": 404, "0/002.p/88": 200, "0/002.p/7": 200, "0/002.p/89": 404, "0/000.p/256": 400, "0/000.p/0": 400,
		"1/000.p/2": 200, "1/000": 404, "2/000": 404, "63/000": 404, "64/000": 400, "0/0": 400, "0/x000/000": 400, "-1/000": 400,
		"0/000/": 400, "data/000": 400, "entries/000": 200, "entries/002": 404, "entries/002.p/88": 200, "entries/1": 400, "0/x999/x999/x999/x999/x999/x999/x999/999": 400, "0/x999/999": 404,
		"0/x072/x057/x594/x037/x927/936": 404, // 2^56: its first entry's index is 2^64
	} {
		resp, err := http.Get(srv.URL + "/api/v2/tile/" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
		if want != 200 && resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: an error that may be cached", path)
		}
	}
}
