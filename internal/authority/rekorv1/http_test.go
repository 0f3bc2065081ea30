package rekorv1

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"
	formats "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
)

// checkEntry verifies all that an answer says with code that is not ours.
func checkEntry(t testing.TB, l *Log, id string, e anonEntry) {
	t.Helper()
	leaf := rfc6962.DefaultHasher.HashLeaf(e.Body)
	if want := l.tree + hex.EncodeToString(leaf); id != want || len(id) != 80 {
		t.Errorf("id %s, want %s", id, want)
	}
	sum := sha256.Sum256(must(x509.MarshalPKIXPublicKey(logKey().Public())))
	if e.LogID != hex.EncodeToString(sum[:]) {
		t.Errorf("log id %s", e.LogID)
	}
	message := must(jsoncanonicalizer.Transform(must(json.Marshal(map[string]any{
		"body": e.Body, "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": e.LogID}))))
	digest := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(&logKey().PublicKey, digest[:], e.Verification.SignedEntryTimestamp) {
		t.Error("the SET is not the log's")
	}
	p := e.Verification.InclusionProof
	var hashes [][]byte
	for _, h := range p.Hashes {
		hashes = append(hashes, must(hex.DecodeString(h)))
	}
	root := must(hex.DecodeString(p.RootHash))
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.LogIndex), uint64(p.TreeSize), leaf, hashes, root); err != nil {
		t.Error(err)
	}
	if p.LogIndex != e.LogIndex {
		t.Errorf("indexes %d and %d", p.LogIndex, e.LogIndex)
	}
	checkCheckpoint(t, l, p.Checkpoint, uint64(p.TreeSize), root)
}

// checkCheckpoint verifies a checkpoint in Rekor v1's form by hand: its key hash
// is no note key's.
func checkCheckpoint(t testing.TB, l *Log, text string, size uint64, root []byte) {
	t.Helper()
	var c formats.Checkpoint
	if _, err := c.Unmarshal([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if want := "127.0.0.1 - " + strconv.FormatInt(l.treeID, 10); c.Origin != want || c.Size != size || !bytes.Equal(c.Hash, root) {
		t.Errorf("%+v; want %s, %d, %x", c, want, size, root)
	}
	signed, signature, _ := strings.Cut(text, "\n\n")
	line, ok := strings.CutPrefix(signature, "\u2014 127.0.0.1 ")
	raw := must(base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\n")))
	digest := sha256.Sum256([]byte(signed + "\n"))
	if !ok || !bytes.Equal(raw[:4], l.KeyID()[:4]) || !ecdsa.VerifyASN1(&logKey().PublicKey, digest[:], raw[4:]) {
		t.Errorf("signature %q", signature)
	}
}

func TestAddAndGet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	key := p256()
	verifier := certificateFor(key, "Alice@Example.com")
	bodies := [][]byte{
		hashedrekord(key, verifier, "one"), dsse(envelopeOf(`{"two":2}`, key), verifier), hashedrekord(key, keyPEM(key.Public()), "three"),
	}
	first := map[string]anonEntry{}
	var ids []string
	for i, body := range bodies {
		before := time.Now().Unix()
		w := ask(l, http.MethodPost, "/api/v1/log/entries", body)
		if w.Code != http.StatusCreated || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		id, e := one(t, w.Body.Bytes())
		if w.Header().Get("ETag") != id || w.Header().Get("Location") != "/api/v1/log/entries/"+id {
			t.Errorf("headers %v", w.Header())
		}
		checkEntry(t, l, id, e)
		if e.LogIndex != int64(i) || e.IntegratedTime < before || e.IntegratedTime > time.Now().Unix() {
			t.Errorf("index %d, time %d", e.LogIndex, e.IntegratedTime)
		}
		first[id] = e
		ids = append(ids, id)
	}
	// The same again is a conflict that names the entry.
	w := ask(l, http.MethodPost, "/api/v1/log/entries", bodies[0])
	var refused struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil || w.Code != http.StatusConflict || refused.Code != http.StatusConflict ||
		!strings.Contains(refused.Message, ids[0]) || w.Header().Get("Location") != "/api/v1/log/entries/"+ids[0] {
		t.Errorf("again: %d %v %s", w.Code, w.Header(), w.Body)
	}

	same := func(l *Log) {
		t.Helper()
		for i, id := range ids {
			for _, path := range []string{"?logIndex=" + strconv.Itoa(i), "/" + id, "/" + id[16:], "/" + strings.ToUpper(id)} {
				w := ask(l, http.MethodGet, "/api/v1/log/entries"+path, nil)
				if w.Code != http.StatusOK {
					t.Fatalf("%s: %d %s", path, w.Code, w.Body)
				}
				got, e := one(t, w.Body.Bytes())
				checkEntry(t, l, got, e)
				// All but the proof, which is to the newest checkpoint, stays.
				want := first[id]
				e.Verification.InclusionProof, want.Verification.InclusionProof = inclusionProof{}, inclusionProof{}
				if diff := cmp.Diff(want, e); got != id || diff != "" {
					t.Errorf("%s: %s %s", path, got, diff)
				}
			}
		}
	}
	same(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	same(l)

	retrieve := func(query string, want ...int) {
		t.Helper()
		w := ask(l, http.MethodPost, "/api/v1/log/entries/retrieve", []byte(query))
		var got []json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || len(got) != len(want) {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		for i, raw := range got {
			if id, e := one(t, raw); id != ids[want[i]] {
				t.Errorf("%s: %s", query, id)
			} else {
				checkEntry(t, l, id, e)
			}
		}
	}
	retrieve(`{"logIndexes":[2,0,17]}`, 2, 0)
	retrieve(fmt.Sprintf(`{"entryUUIDs":[%q,%q,%q]}`, ids[1], ids[0][16:], strings.Repeat("0", 64)), 1, 0)
	retrieve(fmt.Sprintf(`{"entries":[%s],"logIndexes":null}`, bodies[1]), 1)
	retrieve(`{}`)
	retrieve(fmt.Sprintf(`{"entryUUIDs":[%q]}`, "0000000000000001"+ids[0][16:])) // another tree's
}

func TestLogInfoKeyAndConsistency(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	var empty logInfo
	if err := json.Unmarshal(ask(l, http.MethodGet, "/api/v1/log", nil).Body.Bytes(), &empty); err != nil || empty.TreeSize != 0 {
		t.Fatalf("%+v %v", empty, err)
	}
	checkCheckpoint(t, l, empty.SignedTreeHead, 0, rfc6962.DefaultHasher.EmptyRoot())
	roots := map[int][]byte{}
	for i := range 9 {
		key := p256()
		_, e := added(t, l, hashedrekord(key, keyPEM(key.Public()), "content"))
		roots[i+1] = must(hex.DecodeString(e.Verification.InclusionProof.RootHash))
	}
	var info logInfo
	if err := json.Unmarshal(ask(l, http.MethodGet, "/api/v1/log", nil).Body.Bytes(), &info); err != nil {
		t.Fatal(err)
	}
	if info.TreeSize != 9 || info.TreeID != strconv.FormatInt(l.treeID, 10) || info.RootHash != hex.EncodeToString(roots[9]) {
		t.Errorf("%+v", info)
	}
	checkCheckpoint(t, l, info.SignedTreeHead, 9, roots[9])
	if w := ask(l, http.MethodGet, "/api/v1/checkpoint", nil); w.Body.String() != info.SignedTreeHead {
		t.Errorf("%s", w.Body)
	}
	if w := ask(l, http.MethodGet, "/api/v1/tile/0/000.p/9", nil); w.Code != http.StatusOK || w.Body.Len() != 9*32 {
		t.Errorf("tile: %d, %d bytes", w.Code, w.Body.Len())
	}
	w := ask(l, http.MethodGet, "/api/v1/log/publicKey?treeID="+info.TreeID, nil)
	block, _ := pem.Decode(w.Body.Bytes())
	if w.Header().Get("Content-Type") != "application/x-pem-file" || block == nil || !bytes.Equal(block.Bytes, must(x509.MarshalPKIXPublicKey(logKey().Public()))) {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	for first := 1; first <= 9; first++ {
		for last := first; last <= 9; last++ {
			var p consistencyProof
			w := ask(l, http.MethodGet, fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d", first, last), nil)
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusOK || p.RootHash != info.RootHash {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			var hashes [][]byte
			for _, h := range p.Hashes {
				hashes = append(hashes, must(hex.DecodeString(h)))
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(first), uint64(last), hashes, roots[first], roots[last]); err != nil {
				t.Errorf("%d to %d: %v", first, last, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	key := p256()
	added(t, l, hashedrekord(key, keyPEM(key.Public()), "content"))
	long := append(bytes.Repeat([]byte(" "), maxRequest), '{', '}')
	eleven := `[0` + strings.Repeat(",0", 10) + `]`
	for _, c := range []struct {
		method, path, body string
		status             int
		why                string
	}{
		{"GET", "/api/v1/log/entries", "", 400, "logIndex"},
		{"GET", "/api/v1/log/entries?logIndex=-1", "", 400, "logIndex"},
		{"GET", "/api/v1/log/entries?logIndex=1", "", 404, "it has 1"},
		{"GET", "/api/v1/log/entries?logIndex=99999999999999999999", "", 400, "logIndex"},
		{"GET", "/api/v1/log/entries/abc", "", 400, "64 or 80"},
		{"GET", "/api/v1/log/entries/" + strings.Repeat("g", 64), "", 400, "64 or 80"},
		{"GET", "/api/v1/log/entries/" + strings.Repeat("0", 72), "", 400, "64 or 80"},
		{"GET", "/api/v1/log/entries/" + strings.Repeat("0", 64), "", 404, "no such entry"},
		{"GET", "/api/v1/log/entries/" + strings.Repeat("0", 80), "", 404, "no such entry"},
		{"POST", "/api/v1/log/entries", `{"kind":"intoto","apiVersion":"0.0.2","spec":{}}`, 400, "kind dsse"},
		{"POST", "/api/v1/log/entries", "{", 400, "error processing entry"},
		{"POST", "/api/v1/log/entries", string(long), 413, "larger than"},
		{"POST", "/api/v1/log/entries/retrieve", `{"logIndexes":` + eleven + `}`, 422, "more than max allowed 10"},
		{"POST", "/api/v1/log/entries/retrieve", `{"logIndexes":[-1]}`, 400, "below 0"},
		{"POST", "/api/v1/log/entries/retrieve", `{"entryUUIDs":["x"]}`, 400, "64 or 80"},
		{"POST", "/api/v1/log/entries/retrieve", `{"entries":[{"kind":"rpm","apiVersion":"0.0.1","spec":{}}]}`, 400, "rpm"},
		{"POST", "/api/v1/log/entries/retrieve", `{"query":1}`, 400, "unknown"},
		{"GET", "/api/v1/log/proof", "", 400, "lastSize"},
		{"GET", "/api/v1/log/proof?firstSize=0&lastSize=1", "", 400, "from 1"},
		{"GET", "/api/v1/log/proof?firstSize=2&lastSize=1", "", 400, "less than"},
		{"GET", "/api/v1/log/proof?lastSize=2", "", 400, "currently observable"},
		{"GET", "/api/v1/log/proof?lastSize=1&treeID=5", "", 400, "only the tree"},
		{"GET", "/api/v1/log/publicKey?treeID=5", "", 400, "only the tree"},
		{"POST", "/api/v1/index/retrieve", `{"hash":"xyz"}`, 400, "hex digits"},
		{"POST", "/api/v1/index/retrieve", `{"hash":"md5:d41d8cd98f00b204e9800998ecf8427e"}`, 400, "hex digits"},
		{"POST", "/api/v1/index/retrieve", `{"operator":"xor"}`, 400, "operator"},
		{"POST", "/api/v1/index/retrieve", `{"email":"` + strings.Repeat("a", maxQuery+1) + `"}`, 400, "at most"},
		{"POST", "/api/v1/index/retrieve", `{"publicKey":{"format":"pgp","content":"AAAA"}}`, 400, "x509"},
		{"POST", "/api/v1/index/retrieve", `{"publicKey":{"format":"x509","content":"AAAA"}}`, 400, "PEM"},
	} {
		w := ask(l, c.method, c.path, []byte(c.body))
		var e struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != c.status || e.Code != c.status || !strings.Contains(e.Message, c.why) {
			t.Errorf("%s %s %.60s: %d %s", c.method, c.path, c.body, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/api/v1/log/entries", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if l.Handler().ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", w.Code)
	}
	if l.Size() != 1 {
		t.Errorf("%d entries", l.Size())
	}
}

// Entries of many signatures by long chains are too large for a bundle of tiles.
func TestEntryTooLarge(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	key := p256()
	payload := strings.Repeat("x", 1<<20) // a payload of any size is only hashed
	added(t, l, dsse(envelopeOf(payload, key), certificateFor(key, strings.Repeat("a", 20_000)+"@example.com")))
	w := ask(l, http.MethodPost, "/api/v1/log/entries", dsse(envelopeOf("{}", key), certificateFor(key, strings.Repeat("a", 40_000)+"@example.com")))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "at most "+strconv.Itoa(tlog.MaxEntry)) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// heldBody is a body whose end does not come before it is released.
type heldBody struct {
	io.Reader
	release chan struct{}
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		<-b.release
	}
	return n, err
}

// TestLargeRequestsTakeTurns: small ones never wait for large ones, and no more
// than maxLarge of those are in memory.
func TestLargeRequestsTakeTurns(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	large := bytes.Repeat([]byte(" "), smallRequest+1)
	release := make(chan struct{})
	answers := make(chan int)
	for range maxLarge + 3 {
		go func() {
			w := httptest.NewRecorder()
			l.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/log/entries", &heldBody{bytes.NewReader(large), release}))
			answers <- w.Code
		}()
	}
	for len(l.large) < maxLarge {
		time.Sleep(time.Millisecond)
	}
	key := p256()
	added(t, l, hashedrekord(key, keyPEM(key.Public()), "small"))
	if n := len(l.large); n != maxLarge {
		t.Errorf("%d large requests at once", n)
	}
	close(release)
	for range maxLarge + 3 {
		if status := <-answers; status != http.StatusBadRequest {
			t.Errorf("%d", status)
		}
	}
	if n := len(l.large); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

func TestStoppedLogSaysSo(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key := p256()
	w := ask(l, http.MethodPost, "/api/v1/log/entries", hashedrekord(key, keyPEM(key.Public()), "x"))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "shutting down") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
