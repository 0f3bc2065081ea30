package ledger

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
)

// Limits of a map.
const (
	MaxShardBits = 16
	MaxShard     = 1 << 20 // bytes
	MaxProof     = MaxShardBits * tlog.HashSize
)

const arrow = " -> "

// Shard is a part of the map that was followed up to the root.
type Shard struct {
	entries map[string]Entry
	names   map[string]string
}

// OpenShard reads a shard of the map that a closing leaf commits to, and verifies that it is the
// one with this number. A shard that is not is a [Refusal].
func OpenShard(leaf Leaf, number int, data, proof []byte) (*Shard, error) {
	root, err := parseHash(leaf.Root)
	bad := func(format string, args ...any) error {
		return Refuse(CodeBadShard, fmt.Sprintf("map/%d/%d", leaf.Size, number), "keep what the store serves and ask its operator; a mirror may be whole",
			"shard %d of the store's map %s", number, fmt.Sprintf(format, args...))
	}
	if err != nil || leaf.Kind != KindMap || number < 0 || number >= 1<<leaf.ShardBits {
		return nil, bad("is of no map")
	}
	if len(proof) != leaf.ShardBits*tlog.HashSize {
		return nil, bad("has a proof of %d bytes where %d are to be", len(proof), leaf.ShardBits*tlog.HashSize)
	}
	hash := tlog.RecordHash(data)
	for i, at := 0, number; i < leaf.ShardBits; i, at = i+1, at/2 {
		other := tlog.Hash(proof[i*tlog.HashSize:][:tlog.HashSize])
		if at%2 == 0 {
			hash = tlog.NodeHash(hash, other)
		} else {
			hash = tlog.NodeHash(other, hash)
		}
	}
	if hash != root {
		return nil, bad("is not the one that the log commits to")
	}
	s, err := parseShard(data, number, leaf.ShardBits)
	if err != nil {
		return nil, bad("%s", err)
	}
	return s, nil
}

// parseShard reads a shard: sorted, each key once, and no key of another shard.
func parseShard(data []byte, number, bits int) (*Shard, error) {
	s := &Shard{entries: map[string]Entry{}, names: map[string]string{}}
	if len(data) > MaxShard {
		return nil, fmt.Errorf("has more than %d bytes", MaxShard)
	}
	last := ""
	for rest := string(data); rest != ""; {
		line, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return nil, fmt.Errorf("does not end with a line")
		}
		rest = after
		key, err := s.line(line)
		switch {
		case err != nil:
			return nil, err
		case key <= last:
			return nil, fmt.Errorf("is not sorted, or has a key twice: %s", clip(key))
		case ShardOf(key, bits) != number:
			return nil, fmt.Errorf("has the key %s of another shard", clip(key))
		}
		last = key
	}
	return s, nil
}

func (s *Shard) line(line string) (string, error) {
	wrong := fmt.Errorf("has a line that is none: %q", clip(line))
	if name, key, ok := strings.Cut(line, arrow); ok {
		if !repokey.StoredName(name) || !repokey.Stored(key) {
			return "", wrong
		}
		s.names[name] = key
		return name, nil
	}
	f := strings.Split(line, " ")
	if len(f) != 6 || !repokey.Stored(f[0]) || !validDigest(f[2]) || f[5] != StatusActive && f[5] != StatusTombstone {
		return "", wrong
	}
	e := Entry{Key: f[0], Record: f[2], Status: f[5]}
	var ok, ok2 bool
	e.Version, ok = number(f[1])
	e.Index, ok2 = number(f[3])
	if !ok || !ok2 || e.Version == 0 {
		return "", wrong
	}
	if f[4] != "0:-" {
		count, list, _ := strings.Cut(f[4], ":")
		n, ok := number(count)
		if !ok || n == 0 || n > MaxNotices || !validDigest(list) {
			return "", wrong
		}
		e.Notices, e.List = int(n), list
	}
	s.entries[e.Key] = e
	return e.Key, nil
}

// Entry is the state of a key, false when the map provably does not have it. The key must be one
// of this shard.
func (s *Shard) Entry(key string) (Entry, bool) {
	e, ok := s.entries[key]
	return e, ok
}

// Holder is the key to which a name is bound, "" when it provably is not.
func (s *Shard) Holder(name string) string { return s.names[name] }
