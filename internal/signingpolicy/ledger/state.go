package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Status of a key in the map. It is a hint: the chain of records decides.
const (
	StatusActive    = "active"
	StatusTombstone = "tombstone"
)

// Entry is what the map says of a key.
type Entry struct {
	Key     string
	Version int64
	Record  string // "sha256:…" of the newest record's payload
	Index   int64  // of its leaf
	// Notices is how many notices there are, and List "sha256:…" of their list (NoticeList), ""
	// of none.
	Notices int
	List    string
	Status  string
}

// Line is the entry as its shard has it, without the end of the line.
func (e Entry) Line() string {
	notices := "0:-"
	if e.Notices > 0 {
		notices = fmt.Sprintf("%d:%s", e.Notices, e.List)
	}
	return fmt.Sprintf("%s %d %s %d %s %s", e.Key, e.Version, e.Record, e.Index, notices, e.Status)
}

// NoticeList is the list of a key's notices, one digest on each line, in the log's order.
func NoticeList(digests []string) []byte {
	return []byte(strings.Join(digests, "\n") + "\n")
}

// ParseNoticeList reads a list.
func ParseNoticeList(data []byte) ([]string, error) {
	text, ok := strings.CutSuffix(string(data), "\n")
	list := strings.Split(text, "\n")
	if !ok || len(list) > MaxNotices {
		return nil, errors.New("it is no list of notices")
	}
	for _, d := range list {
		if !validDigest(d) {
			return nil, errors.New("it is no list of notices")
		}
	}
	return list, nil
}

// MaxNotices is how many notices a key can have.
const MaxNotices = 4096

// DigestOf is "sha256:…" of data.
func DigestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// State is what the map must be after some leaves of the log: a pure function of them. The zero
// State is that of an empty log.
type State struct {
	size    int64
	entries map[string]*held
	names   map[string]string // name -> key of the repository
}

type held struct {
	Entry
	name    string
	notices []string
}

// Size is how many leaves were applied.
func (s *State) Size() int64 { return s.size }

// Apply takes in the next leaf. An error says which rule of the log it breaks; the state is then
// as it was.
func (s *State) Apply(l Leaf) error {
	if s.entries == nil {
		s.entries, s.names = map[string]*held{}, map[string]string{}
	}
	e := s.entries[l.Key]
	switch l.Kind {
	case KindMap:
		if l.Size != s.size {
			return fmt.Errorf("a map of %d leaves is leaf %d", l.Size, s.size)
		}
	case KindNotice:
		switch {
		case e == nil:
			return fmt.Errorf("%s has a notice and no policy", l.Key)
		case len(e.notices) == MaxNotices:
			return fmt.Errorf("%s has too many notices", l.Key)
		case slices.Contains(e.notices, l.Digest):
			return fmt.Errorf("%s has a notice twice", l.Key)
		}
		e.notices = append(e.notices, l.Digest)
		e.Notices, e.List = len(e.notices), DigestOf(NoticeList(e.notices))
	case KindRecord:
		if e == nil {
			e = &held{Entry: Entry{Key: l.Key}}
		}
		if l.Version != e.Version+1 {
			return fmt.Errorf("version %d of %s follows version %d", l.Version, l.Key, e.Version)
		}
		s.entries[l.Key] = e
		e.Version, e.Record, e.Index, e.Status = l.Version, l.Digest, s.size, StatusActive
		if l.Action == actionTombstone {
			e.Status = StatusTombstone
		}
		s.bind(e, l.Name)
	default:
		return errors.New("a leaf of an unknown kind")
	}
	s.size++
	return nil
}

// bind gives a repository its name. A name stays with who has it until they take another one: a
// repository that was deleted and made again does not get it by being there.
func (s *State) bind(e *held, name string) {
	if e.name != name && s.names[e.name] == e.Key {
		delete(s.names, e.name)
	}
	e.name = name
	if name != "" && s.names[name] == "" {
		s.names[name] = e.Key
	}
}

// Entry is the state of a key.
func (s *State) Entry(key string) (Entry, bool) {
	if e := s.entries[key]; e != nil {
		return e.Entry, true
	}
	return Entry{}, false
}

// NoticesOf are the digests of a key's notices. They are not to be modified.
func (s *State) NoticesOf(key string) []string {
	if e := s.entries[key]; e != nil {
		return e.notices
	}
	return nil
}

// Holder is the key of the repository that has a name, "" of none.
func (s *State) Holder(name string) string { return s.names[name] }

// Clone is a copy that changes for itself.
func (s *State) Clone() *State {
	c := &State{size: s.size, entries: make(map[string]*held, len(s.entries)), names: make(map[string]string, len(s.names))}
	for k, e := range s.entries {
		copied := *e
		copied.notices = slices.Clip(e.notices)
		c.entries[k] = &copied
	}
	for k, v := range s.names {
		c.names[k] = v
	}
	return c
}

// ShardBits is how many bits of a key's hash choose its shard, for shards of some 20 KiB.
func (s *State) ShardBits() int {
	bits := 0
	for bits < MaxShardBits && len(s.entries)+len(s.names) > 256<<bits {
		bits++
	}
	return bits
}

// Map is the whole map.
type Map struct {
	Bits   int
	Shards [][]byte
	levels [][]tlog.Hash // levels[0] are the shards' hashes
}

// Map computes the map in 2^bits shards.
func (s *State) Map(bits int) *Map {
	lines := make([][]string, 1<<bits)
	for k, e := range s.entries {
		i := ShardOf(k, bits)
		lines[i] = append(lines[i], e.Line())
	}
	for name, key := range s.names {
		i := ShardOf(name, bits)
		lines[i] = append(lines[i], name+arrow+key)
	}
	m := &Map{Bits: bits, Shards: make([][]byte, len(lines))}
	for i, all := range lines {
		slices.Sort(all) // a space sorts before all that a key has, so that this is the order of keys
		var shard []byte
		for _, l := range all {
			shard = append(append(shard, l...), '\n')
		}
		m.Shards[i] = shard
	}
	m.hash()
	return m
}

func (m *Map) hash() {
	level := make([]tlog.Hash, len(m.Shards))
	for i, shard := range m.Shards {
		level[i] = tlog.RecordHash(shard)
	}
	m.levels = [][]tlog.Hash{level}
	for len(level) > 1 {
		next := make([]tlog.Hash, len(level)/2)
		for i := range next {
			next[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		m.levels = append(m.levels, next)
		level = next
	}
}

// Root is the root of the RFC 6962 tree over the shards.
func (m *Map) Root() tlog.Hash { return m.levels[len(m.levels)-1][0] }

// Proof is the audit path of a shard: hashes of 32 bytes, from the bottom up.
func (m *Map) Proof(shard int) []byte {
	var out []byte
	for _, level := range m.levels[:len(m.levels)-1] {
		out = append(out, level[shard^1][:]...)
		shard /= 2
	}
	return out
}

// Leaf is the closing leaf that commits to the map after size leaves.
func (m *Map) Leaf(size int64) Leaf {
	root := m.Root()
	return Leaf{Kind: KindMap, Size: size, ShardBits: m.Bits, Root: base64.StdEncoding.EncodeToString(root[:])}
}

func parseHash(text string) (tlog.Hash, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != tlog.HashSize || base64.StdEncoding.EncodeToString(raw) != text {
		return tlog.Hash{}, errors.New("no hash")
	}
	return tlog.Hash(raw), nil
}
