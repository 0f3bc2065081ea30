package chain

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// tail is what the log itself says after the floor about the keys that are asked about.
type tail struct {
	first   int64   // index of the first leaf that was read
	maps    []int64 // indexes of map leaves
	id      string
	owner   string
	name    string
	of      map[string]*history
	holder  string
	touched bool            // the name's holder is known from the log
	lost    map[string]bool // keys that had the name, and gave it up
}

// history is what happened to a key in the tail.
type history struct {
	records []at
	notices []string
}

type at struct {
	ledger.Leaf
	index int64
}

// compare reads the leaves after the floor and makes sure that the map is what they say.
func (q *question) compare(ctx context.Context) error {
	t := &tail{first: q.cfg.Floor.Size, id: q.id, owner: q.owner, name: q.name, of: map[string]*history{}, lost: map[string]bool{}}
	t.touched = t.first == 0
	if n := q.head.Size - t.first; n > q.cfg.MaxTail {
		return refuse(ledger.CodeNoQuorum, q.head.Origin, "use a newer release of the builder, which knows a later state of the store",
			"the policy store's log has grown by %d leaves since the state that is known; at most %d are compared with the map, and nobody else vouches for it", n, q.cfg.MaxTail)
	}
	err := translog.Scan(ctx, q.view, t.first, q.head.Size, func(b translog.Bundle) (translog.Bundle, error) { return b, nil }, t.read)
	if err != nil {
		return badLog(err, q.head.Origin)
	}
	q.tail = t
	for _, key := range []string{q.id, q.owner} {
		if key == "" {
			continue // the owner is not known, nor the name
		}
		if err := q.compareKey(key); err != nil {
			return err
		}
	}
	if q.name == "" {
		t.lost = nil
		return nil
	}
	switch {
	case !t.touched || t.holder == q.holder:
		return nil
	case q.holder == "":
		return q.mapLies(ledger.CodeMapOmits, "leaves out the name %s, which %s has", q.name, t.holder)
	}
	return q.mapLies(ledger.CodeBadMap, "gives the name %s to %s; by the log %q has it", q.name, q.holder, t.holder)
}

// read takes in a bundle of leaves. Most are about others, and are only hashed.
func (t *tail) read(b translog.Bundle) error {
	for i, data := range b.Entries {
		index := b.First + int64(i)
		key := member(data, `"key":"`)
		if key == nil {
			if l, err := ledger.ParseLeaf(data); err != nil || l.Kind != ledger.KindMap || l.Size != index {
				return refuse(ledger.CodeBadLog, fmt.Sprint(index), "keep the leaf and ask the store's operator", "leaf %d of the policy store's log is none", index)
			}
			t.maps = append(t.maps, index)
			continue
		}
		if k := string(key); k != t.id && k != t.owner && k != t.holder && string(member(data, `"name":"`)) != t.name {
			continue
		}
		l, err := ledger.ParseLeaf(data)
		if err != nil {
			return refuse(ledger.CodeBadLog, fmt.Sprint(index), "keep the leaf and ask the store's operator", "leaf %d of the policy store's log is none: %s", index, err)
		}
		t.bind(l)
		if l.Key == t.id || l.Key == t.owner {
			t.take(l, index)
		}
	}
	return nil
}

// member is the text of a string member of canonical JSON, nil without one.
func member(data []byte, name string) []byte {
	_, after, ok := bytes.Cut(data, []byte(name))
	value, _, ok2 := bytes.Cut(after, []byte{'"'})
	if !ok || !ok2 {
		return nil
	}
	return value
}

// bind follows who has the name, by the rule of ledger.State.
func (t *tail) bind(l ledger.Leaf) {
	switch {
	case l.Kind != ledger.KindRecord:
	case l.Key == t.holder && l.Name != t.name:
		t.lost[l.Key], t.holder = true, ""
	case l.Name == t.name && t.holder == "" && t.touched:
		t.holder = l.Key
		delete(t.lost, l.Key)
	}
}

func (t *tail) take(l ledger.Leaf, index int64) {
	h := t.of[l.Key]
	if h == nil {
		h = &history{}
		t.of[l.Key] = h
	}
	if l.Kind == ledger.KindRecord {
		h.records = append(h.records, at{l, index})
	} else {
		h.notices = append(h.notices, l.Digest)
	}
}

func (q *question) mapLies(code, format string, args ...any) error {
	return refuse(code, q.head.Origin, "keep what the store serves: it shows that its operator lied", "the policy store's map %s", fmt.Sprintf(format, args...))
}

// compareKey makes sure that the map's line of a key is what the log says.
func (q *question) compareKey(key string) error {
	e, inMap := q.entries[key]
	h := q.tail.of[key]
	if h == nil {
		if inMap && (q.tail.first == 0 || e.Index >= q.tail.first) {
			return q.mapLies(ledger.CodeBadMap, "has %s, which the log has not", key)
		}
		return nil
	}
	if !inMap {
		return q.mapLies(ledger.CodeMapOmits, "leaves out %s, of which the log has %d records", key, len(h.records))
	}
	for i, r := range h.records {
		if i > 0 && r.Version != h.records[i-1].Version+1 || i == 0 && q.tail.first == 0 && r.Version != 1 {
			return refuse(ledger.CodeBadLog, key, "keep what the store serves and ask its operator", "the policy store's log has version %d of %s out of order", r.Version, key)
		}
	}
	if n := len(h.records); n > 0 {
		if last := h.records[n-1]; last.Version != e.Version || last.Digest != e.Record || last.index != e.Index {
			code := ledger.CodeBadMap
			if e.Version < last.Version || e.Version == last.Version && e.Record != last.Digest {
				code = ledger.CodeMapOld
			}
			return q.mapLies(code, "has version %d of %s (%s); the log has version %d (%s)", e.Version, key, e.Record, last.Version, last.Digest)
		}
	} else if e.Index >= q.tail.first {
		return q.mapLies(ledger.CodeBadMap, "has a record of %s that the log has not", key)
	}
	if e.Notices < len(h.notices) {
		return q.mapLies(ledger.CodeMapOld, "has %d notices of %s; the log has more", e.Notices, key)
	}
	if q.tail.first == 0 {
		list := ""
		if len(h.notices) > 0 {
			list = ledger.DigestOf(ledger.NoticeList(h.notices))
		}
		if len(h.notices) != e.Notices || list != e.List {
			return q.mapLies(ledger.CodeMapOld, "has %d notices of %s; the log has %d", e.Notices, key, len(h.notices))
		}
	}
	return nil
}

// covers is the size of the first head that covers a leaf, 0 when the tail does not say.
func (t *tail) covers(index int64) int64 {
	if index < t.first {
		return 0
	}
	i, _ := slices.BinarySearch(t.maps, index)
	if i == len(t.maps) {
		return 0
	}
	return t.maps[i] + 1
}
