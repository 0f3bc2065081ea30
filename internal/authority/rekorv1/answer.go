package rekorv1

import (
	"encoding/hex"
	"strconv"
	"strings"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
)

// The JSON of Rekor's models.
type (
	// logEntry has one member, named by the entry's id.
	logEntry map[string]anonEntry

	anonEntry struct {
		Body           []byte       `json:"body"`
		IntegratedTime int64        `json:"integratedTime"` // Unix seconds
		LogID          string       `json:"logID"`          // hex
		LogIndex       int64        `json:"logIndex"`
		Verification   verification `json:"verification"`
	}
	verification struct {
		InclusionProof       inclusionProof `json:"inclusionProof"`
		SignedEntryTimestamp []byte         `json:"signedEntryTimestamp"`
	}
	inclusionProof struct {
		Checkpoint string   `json:"checkpoint"`
		Hashes     []string `json:"hashes"` // hex, leaf to root
		LogIndex   int64    `json:"logIndex"`
		RootHash   string   `json:"rootHash"` // hex
		TreeSize   int64    `json:"treeSize"`
	}
	logInfo struct {
		InactiveShards []struct{} `json:"inactiveShards"`
		RootHash       string     `json:"rootHash"`
		SignedTreeHead string     `json:"signedTreeHead"`
		TreeID         string     `json:"treeID"` // decimal
		TreeSize       int64      `json:"treeSize"`
	}
	consistencyProof struct {
		Hashes   []string `json:"hashes"`
		RootHash string   `json:"rootHash"`
	}
)

// answer is the entry at index with everything that proves it under view.
func (l *Log) answer(view tlog.View, index int64, body []byte) (logEntry, error) {
	proof, err := view.Inclusion(index)
	if err != nil {
		return nil, err
	}
	when, err := view.Time(index)
	if err != nil {
		return nil, err
	}
	at := when.Unix()
	set, err := l.signer.promise(body, at, index)
	if err != nil {
		return nil, err
	}
	root := view.Root()
	return logEntry{l.id(sumdb.RecordHash(body)): {
		Body: body, IntegratedTime: at, LogID: hex.EncodeToString(l.signer.id[:]), LogIndex: index,
		Verification: verification{
			SignedEntryTimestamp: set,
			InclusionProof: inclusionProof{
				Checkpoint: string(view.Checkpoint()), Hashes: hexes(proof), LogIndex: index,
				RootHash: hex.EncodeToString(root[:]), TreeSize: view.Size(),
			},
		},
	}}, nil
}

// stored is answer for an entry that is read from disk.
func (l *Log) stored(view tlog.View, index int64) (logEntry, error) {
	body, err := view.Entry(index)
	if err != nil {
		return nil, err
	}
	return l.answer(view, index, body)
}

// id is an entry's 80 hex digits: the tree's number and the leaf's hash.
func (l *Log) id(leaf [32]byte) string { return l.tree + hex.EncodeToString(leaf[:]) }

// find reads an id of 80 hex digits, or of the last 64 of them, and finds its
// entry; well says whether it has the form of one.
func (l *Log) find(view tlog.View, id string) (index int64, found, well bool, err error) {
	raw, err := hex.DecodeString(id)
	tree := hex.EncodeToString(raw[:max(len(raw)-32, 0)])
	if err != nil || len(raw) != 32 && len(raw) != 40 {
		return 0, false, false, nil
	}
	if tree != "" && tree != l.tree {
		return 0, false, true, nil
	}
	index, found, err = view.Find([32]byte(raw[len(raw)-32:]))
	return index, found, true, err
}

func hexes(hashes []sumdb.Hash) []string {
	out := make([]string, len(hashes))
	for i := range hashes {
		out[i] = hex.EncodeToString(hashes[i][:])
	}
	return out
}

// number reads a decimal query parameter of at least least.
func number(text string, least int64) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= least && !strings.HasPrefix(text, "+")
}
