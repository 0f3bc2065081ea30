package ledger

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Kinds of leaves.
const (
	KindRecord = "record"
	KindNotice = "notice"
	KindMap    = "map"
)

// Actions of records that leaves name (signingpolicy/record).
const actionTombstone = "tombstone"

// MaxLeaf is the most bytes of a leaf.
const MaxLeaf = 2048

// Leaf is an entry of the log. Of its fields only those of its kind are set.
type Leaf struct {
	Kind string

	// Of a record and of a notice.
	Digest string // "sha256:…" of the payload
	Key    string // as the map has it

	// Of a record. Name is the key under which the repository's name is bound to its id, as the
	// map has it, "" of an owner. It and Action are here so that the log alone decides what the
	// map is: an operator cannot drop a name unseen.
	Version int64
	Name    string
	Action  string // set, tombstone, rebind, recover, reset

	// Of a map: Size is how many leaves are before it, all of which the map commits to.
	Size      int64
	ShardBits int
	Root      string // base64 of the map tree's root hash
}

type wireLeaf struct {
	Action    string `json:"action"`
	Digest    string `json:"digest"`
	Key       string `json:"key"`
	Kind      string `json:"kind" strict:"required"`
	Name      string `json:"name"`
	Root      string `json:"root"`
	ShardBits int    `json:"shardBits"`
	Size      int64  `json:"size"`
	Version   int64  `json:"version"`
}

// Bytes are the leaf as it is in the log: canonical JSON (RFC 8785), of which no string needs an
// escape.
func (l Leaf) Bytes() []byte {
	switch l.Kind {
	case KindRecord:
		return fmt.Appendf(nil, `{"action":"%s","digest":"%s","key":"%s","kind":"record","name":"%s","version":%d}`, l.Action, l.Digest, l.Key, l.Name, l.Version)
	case KindNotice:
		return fmt.Appendf(nil, `{"digest":"%s","key":"%s","kind":"notice"}`, l.Digest, l.Key)
	default:
		return fmt.Appendf(nil, `{"kind":"map","root":"%s","shardBits":%d,"size":%d}`, l.Root, l.ShardBits, l.Size)
	}
}

// ParseLeaf reads a leaf. What [Leaf.Bytes] would write otherwise is refused.
func ParseLeaf(data []byte) (Leaf, error) {
	var w wireLeaf
	if len(data) > MaxLeaf {
		return Leaf{}, fmt.Errorf("it has more than %d bytes", MaxLeaf)
	}
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return Leaf{}, err
	}
	l := Leaf{Kind: w.Kind, Digest: w.Digest, Key: w.Key, Version: w.Version, Name: w.Name, Action: w.Action, Size: w.Size, ShardBits: w.ShardBits, Root: w.Root}
	if err := l.check(); err != nil {
		return Leaf{}, err
	}
	if string(l.Bytes()) != string(data) {
		return Leaf{}, errors.New("it is not in canonical form")
	}
	return l, nil
}

func (l Leaf) check() error {
	switch l.Kind {
	case KindRecord:
		if l.Version < 1 || l.Version > maxNumber {
			return fmt.Errorf("%d is no version", l.Version)
		}
		if l.Name != "" && !repokey.StoredName(l.Name) {
			return errors.New("its name is none")
		}
		switch l.Action {
		case "set", actionTombstone, "rebind", "recover", "reset":
		default:
			return errors.New("its action is unknown")
		}
	case KindNotice:
	case KindMap:
		if _, err := parseHash(l.Root); err != nil {
			return errors.New("its root is no hash")
		}
		if l.ShardBits < 0 || l.ShardBits > MaxShardBits {
			return fmt.Errorf("a map has at most 2^%d shards", MaxShardBits)
		}
		if l.Size < 0 || l.Size > maxNumber {
			return errors.New("its size is none")
		}
		return nil
	default:
		return errors.New("its kind is unknown")
	}
	if !repokey.Stored(l.Key) {
		return errors.New("its key is none")
	}
	if !validDigest(l.Digest) {
		return errors.New("its digest is none")
	}
	return nil
}

// maxNumber is the largest integer that every reader of JSON understands alike.
const maxNumber = 1 << 53

// number reads a decimal number in its only spelling.
func number(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && n <= maxNumber && strconv.FormatInt(n, 10) == text
}
