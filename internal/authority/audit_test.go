package authority_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// loggedEntry is an entry as a log acknowledged it.
type loggedEntry struct {
	index int64
	leaf  tlog.Hash
	again func(url string) (*loggedEntry, error) // asks for it once more
	// Of the log for older clients: what must be the same for ever, one string.
	promise string
}

// watchedLog is one of the authority's logs with everything that somebody who
// forgets nothing knows of it.
type watchedLog struct {
	prefix string // of its API
	key    note.Verifier

	mu      sync.Mutex
	entries []*loggedEntry      // acknowledged, the oldest first
	checked int                 // of entries, those that were looked for
	seen    map[int64]tlog.Hash // roots of checkpoints by their size
	roots   []int64             // sizes that are not compared with the tree yet

	hashes storedHashes // of the tree, as far as it was read
	size   int64        // of it, in entries
}

// storedHashes are the hashes of a tree in the order of package tlog.
type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(s)) {
			return nil, errors.New("the tree is smaller")
		}
		out[i] = s[at]
	}
	return out, nil
}

// watchLog begins to watch the log below prefix, whose key the trusted root has.
func watchLog(url, prefix string, root *trust.Root) (*watchedLog, error) {
	signed, err := get(url + prefix + "/checkpoint")
	if err != nil {
		return nil, err
	}
	for _, k := range root.TLogs {
		w := &watchedLog{prefix: prefix, key: logVerifier{k.Origin, k}, seen: map[int64]tlog.Hash{}}
		if _, err := w.checkpoint(signed); err == nil {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no key of the trusted root signs the log at %s", prefix)
}

// logVerifier checks the signature line of a log of either API.
type logVerifier struct {
	name string
	key  trust.LogKey
}

func (v logVerifier) Name() string    { return v.name }
func (v logVerifier) KeyHash() uint32 { return binary.BigEndian.Uint32(v.key.ID) }
func (v logVerifier) Verify(msg, sig []byte) bool {
	switch k := v.key.Key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, msg, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	}
	return false
}

// checkpoint is a signed tree head.
type checkpoint struct {
	size int64
	root tlog.Hash
}

// checkpoint reads one that the log's key signed.
func (w *watchedLog) checkpoint(signed []byte) (c checkpoint, err error) {
	n, err := note.Open(signed, note.VerifierList(w.key))
	if err != nil {
		return c, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != w.key.Name() && !strings.HasPrefix(lines[0], w.key.Name()+" - ") {
		return c, fmt.Errorf("not a checkpoint of this log: %q", n.Text)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	copy(c.root[:], root)
	if err == nil {
		c.size, err = strconv.ParseInt(lines[1], 10, 64)
	}
	return c, err
}

// read reads the entries up to a size.
func (w *watchedLog) read(url string, size int64) error {
	for w.size < size {
		tile := tlog.Tile{H: 8, L: -1, N: w.size / 256, W: int(min(256, size-w.size/256*256))}
		path := strings.Replace(tile.Path(), "tile/8/data/", "/tile/entries/", 1)
		data, err := get(url + w.prefix + path)
		if err != nil {
			return err
		}
		for at := w.size / 256 * 256; len(data) > 0; at++ {
			n := 2 + int(binary.BigEndian.Uint16(data))
			if at == w.size {
				more, err := tlog.StoredHashesForRecordHash(at, tlog.RecordHash(data[2:n]), w.hashes)
				if err != nil {
					return err
				}
				w.hashes = append(w.hashes, more...)
				w.size++
			}
			data = data[n:]
		}
	}
	return nil
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, data)
	}
	return data, err
}

// acknowledge checks an answer's proof and keeps what it promised.
func (w *watchedLog) acknowledge(e *loggedEntry, size int64, hashes [][]byte, signed string) error {
	c, err := w.checkpoint([]byte(signed))
	if err != nil {
		return err
	}
	if c.size != size {
		return fmt.Errorf("FORK: a proof for %d entries with a checkpoint of %d", size, c.size)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(e.index), uint64(size), e.leaf[:], hashes, c.root[:]); err != nil {
		return fmt.Errorf("FORK: entry %d: %w", e.index, err)
	}
	return w.see(c)
}

// see remembers a checkpoint. Two of one size must be of one tree.
func (w *watchedLog) see(c checkpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if root, ok := w.seen[c.size]; ok && root != c.root {
		return fmt.Errorf("FORK: two checkpoints of %d entries", c.size)
	} else if !ok && c.size > 0 {
		w.seen[c.size] = c.root
		w.roots = append(w.roots, c.size)
	}
	return nil
}

func (w *watchedLog) keep(e *loggedEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, e)
}

func (w *watchedLog) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries)
}

// audit reads the log as it is now: it must extend every checkpoint that was ever
// seen, every acknowledged entry must be at its index, and those that are new since
// the last audit, and some older ones, are asked for again.
func (w *watchedLog) audit(t *testing.T, url string, everything bool) {
	t.Helper()
	signed, err := get(url + w.prefix + "/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	now, err := w.checkpoint(signed)
	if err == nil {
		err = errors.Join(w.see(now), w.read(url, now.size))
	}
	if err != nil {
		t.Fatalf("%s: %v", w.prefix, err)
	}
	for _, size := range w.roots {
		root, err := tlog.TreeHash(size, w.hashes)
		if size > now.size || err != nil || root != w.seen[size] {
			t.Fatalf("%s: a checkpoint of %d entries was published, and the log of %d contradicts it: %v", w.prefix, size, w.size, err)
		}
	}
	w.roots = nil
	for _, e := range w.entries[w.checked:] {
		if e.index >= w.size || w.hashes[tlog.StoredHashIndex(0, e.index)] != e.leaf {
			t.Fatalf("%s: entry %d was acknowledged and is not there", w.prefix, e.index)
		}
	}
	first := max(0, w.checked-20)
	if everything {
		first = 0
	}
	for _, e := range w.entries[first:] {
		again, err := e.again(url)
		if err != nil || again.index != e.index || again.leaf != e.leaf || again.promise != e.promise {
			t.Fatalf("%s: entry %d, asked for again: %v\n%+v\n%+v", w.prefix, e.index, err, e, again)
		}
	}
	w.checked = len(w.entries)
}

// addV2 has the log of API v2 take an entry, or give it again.
func (w *watchedLog) addV2(url, body string) (*loggedEntry, error) {
	status, data, err := post(url+"/api/v2/log/entries", body)
	if err != nil {
		return nil, err
	}
	var a struct {
		LogIndex, IntegratedTime json.Number
		CanonicalizedBody        []byte
		InclusionProof           struct {
			LogIndex, TreeSize json.Number
			Hashes             [][]byte
			Checkpoint         struct{ Envelope string }
		}
	}
	if err := json.Unmarshal(data, &a); err != nil || status != http.StatusCreated {
		return nil, fmt.Errorf("answer %d %s: %v", status, data, err)
	}
	index, err := number(a.LogIndex)
	size, serr := number(a.InclusionProof.TreeSize)
	if err = errors.Join(err, serr); err != nil {
		return nil, err
	}
	e := &loggedEntry{index: index, leaf: tlog.RecordHash(a.CanonicalizedBody), again: func(url string) (*loggedEntry, error) { return w.addV2(url, body) }}
	return e, w.acknowledge(e, size, a.InclusionProof.Hashes, a.InclusionProof.Checkpoint.Envelope)
}

// number reads protojson's int64, a string in the JSON.
func number(n json.Number) (int64, error) { return n.Int64() }

// addV1 has the log for older clients take an entry, or give it again.
func (w *watchedLog) addV1(url, body string) (*loggedEntry, error) {
	status, data, err := post(url+"/api/v1/log/entries", body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusCreated {
		return nil, fmt.Errorf("answer %d %s", status, data)
	}
	return w.readV1(data, "")
}

// readV1 reads an entry that has the id, or any.
func (w *watchedLog) readV1(data []byte, want string) (*loggedEntry, error) {
	var entries map[string]struct {
		Body                     []byte
		IntegratedTime, LogIndex int64
		LogID                    string
		Verification             struct {
			SignedEntryTimestamp []byte
			InclusionProof       struct {
				Checkpoint         string
				Hashes             []string
				LogIndex, TreeSize int64
			}
		}
	}
	if err := json.Unmarshal(data, &entries); err != nil || len(entries) != 1 {
		return nil, fmt.Errorf("not one entry: %s", data)
	}
	for id, a := range entries {
		if want != "" && id != want {
			return nil, fmt.Errorf("entry %s instead of %s", id, want)
		}
		hashes := make([][]byte, len(a.Verification.InclusionProof.Hashes))
		for i, h := range a.Verification.InclusionProof.Hashes {
			var err error
			if hashes[i], err = hex.DecodeString(h); err != nil {
				return nil, err
			}
		}
		e := &loggedEntry{index: a.LogIndex, leaf: tlog.RecordHash(a.Body),
			promise: fmt.Sprint(id, a.IntegratedTime, a.LogID, base64.StdEncoding.EncodeToString(a.Verification.SignedEntryTimestamp))}
		e.again = func(url string) (*loggedEntry, error) {
			data, err := get(url + "/api/v1/log/entries/" + id)
			if err != nil {
				return nil, err
			}
			return w.readV1(data, id)
		}
		return e, w.acknowledge(e, a.Verification.InclusionProof.TreeSize, hashes, a.Verification.InclusionProof.Checkpoint)
	}
	return nil, nil
}

func post(url, body string) (status int, answer []byte, err error) {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
