package forge

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Rekor1 is the instance's Rekor v1 log as a server: a Merkle tree of what was
// added, in memory, with the API's part that clients of entries and proofs use
// (sigstore/rekor, openapi.yaml). Indexes over all trees begin at [RekorFirst].
type Rekor1 struct {
	// Spoil changes the entry in an answer; nil: the log is honest.
	Spoil func(entry map[string]any)

	w       *World
	mu      sync.Mutex
	entries []evidence.LogEntry
	asked   int
}

// RekorFirst is how many entries the log's earlier trees have.
const RekorFirst = 1000

// NewRekor1 is the instance's log, empty.
func (w *World) NewRekor1() *Rekor1 { return &Rekor1{w: w} }

// Asked is how often an entry was asked for.
func (l *Rekor1) Asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// Add includes a body now and returns the entry with the
// log's promise, without a proof.
func (l *Rekor1) Add(kind, version string, body []byte) evidence.LogEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.w.SignV1(evidence.LogEntry{LogIndex: RekorFirst + int64(len(l.entries)), IntegratedTime: time.Now().Unix(), Kind: kind, Version: version, Body: body})
	l.entries = append(l.entries, e)
	return e
}

// Relog includes the claim's one entry in this log instead, and takes its proof away.
func (l *Rekor1) Relog(c *evidence.Claim) {
	e := c.LogEntries[0]
	c.LogEntries[0] = l.Add(e.Kind, e.Version, e.Body)
}

// ServeHTTP answers GET and POST /api/v1/log/entries.
func (l *Rekor1) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/v1/log/entries" {
		http.NotFound(rw, r)
		return
	}
	index, status := int64(0), http.StatusOK
	if r.Method == http.MethodPost {
		kind, version, body, err := canonical(r)
		if err != nil {
			http.Error(rw, `{"code":400,"message":"`+err.Error()+`"}`, http.StatusBadRequest)
			return
		}
		index, status = l.Add(kind, version, body).LogIndex, http.StatusCreated
	} else {
		index, _ = strconv.ParseInt(r.URL.Query().Get("logIndex"), 10, 64)
	}
	answer := l.answer(index)
	if answer == nil {
		http.Error(rw, `{"code":404,"message":"entry not found"}`, http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	for uuid := range answer {
		rw.Header().Set("ETag", uuid)
		rw.Header().Set("Location", "/api/v1/log/entries/"+uuid)
	}
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(answer)
}

func (l *Rekor1) answer(index int64) object {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	n := index - RekorFirst
	if n < 0 || n >= int64(len(l.entries)) {
		return nil
	}
	e := l.entries[n]
	var leaves [][]byte
	for _, e := range l.entries {
		leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(e.Body))
	}
	root, path := rootOf(leaves), pathTo(leaves, int(n))
	Must(0, proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(n), uint64(len(leaves)), leaves[n], path, root))
	hashes := []string{}
	for _, h := range path {
		hashes = append(hashes, hex.EncodeToString(h))
	}
	size := int64(len(leaves))
	entry := object{"body": B64(e.Body), "integratedTime": e.IntegratedTime, "logID": hex.EncodeToString(e.LogID), "logIndex": e.LogIndex,
		"verification": object{"signedEntryTimestamp": e.Promise, "inclusionProof": object{"checkpoint": l.w.NoteV1(size, root), "hashes": hashes,
			"logIndex": n, "rootHash": hex.EncodeToString(root), "treeSize": size}}}
	if l.Spoil != nil {
		l.Spoil(entry)
	}
	return object{"00000000000000aa" + hex.EncodeToString(leaves[n]): entry}
}

// split is the largest power of two below n (RFC 6962, 2.1).
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func rootOf(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	return rfc6962.DefaultHasher.HashChildren(rootOf(leaves[:k]), rootOf(leaves[k:]))
}

func pathTo(leaves [][]byte, i int) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if i < k {
		return append(pathTo(leaves[:k], i), rootOf(leaves[k:]))
	}
	return append(pathTo(leaves[k:], i-k), rootOf(leaves[:k]))
}

// canonical is the body that the log makes of a proposed dsse or hashedrekord entry.
func canonical(r *http.Request) (kind, version string, body []byte, err error) {
	var proposed struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Spec       struct {
			Proposed struct {
				Envelope  string   `json:"envelope"`
				Verifiers []string `json:"verifiers"`
			} `json:"proposedContent"`
			Data      json.RawMessage `json:"data"`
			Signature json.RawMessage `json:"signature"`
		} `json:"spec"`
	}
	if err := json.NewDecoder(r.Body).Decode(&proposed); err != nil {
		return "", "", nil, err
	}
	spec := any(object{"data": proposed.Spec.Data, "signature": proposed.Spec.Signature})
	if proposed.Kind == "dsse" {
		var envelope struct {
			Payload    []byte `json:"payload"`
			Signatures []struct {
				Sig string `json:"sig"`
			} `json:"signatures"`
		}
		if err := json.Unmarshal([]byte(proposed.Spec.Proposed.Envelope), &envelope); err != nil {
			return "", "", nil, err
		}
		signatures := []object{}
		for i, s := range envelope.Signatures {
			if _, err := base64.StdEncoding.DecodeString(s.Sig); err != nil {
				return "", "", nil, err
			}
			signatures = append(signatures, object{"signature": s.Sig, "verifier": proposed.Spec.Proposed.Verifiers[i]})
		}
		sum := func(b []byte) object { return object{"algorithm": "sha256", "value": evidence.SHA256(b).Hex()} }
		spec = object{"envelopeHash": sum([]byte(proposed.Spec.Proposed.Envelope)), "payloadHash": sum(envelope.Payload), "signatures": signatures}
	}
	return proposed.Kind, proposed.APIVersion, JCS(object{"apiVersion": proposed.APIVersion, "kind": proposed.Kind, "spec": spec}), nil
}
