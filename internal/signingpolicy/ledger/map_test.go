package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
)

// random is a log of some hundred leaves about few keys, of which none breaks a rule.
func random(seed uint64, n int) []ledger.Leaf {
	r := rand.New(rand.NewPCG(seed, 1))
	versions := map[string]int64{}
	var leaves []ledger.Leaf
	for i := range n {
		id := 1 + r.IntN(40)
		k := fmt.Sprintf("github.com/id/%d", id)
		if versions[k] > 0 && r.IntN(3) == 0 {
			leaves = append(leaves, ledger.Leaf{Kind: ledger.KindNotice, Key: k, Digest: digest(fmt.Sprint("notice", i))})
			continue
		}
		versions[k]++
		leaves = append(leaves, record(k, fmt.Sprintf("github.com/name/org/r%d", r.IntN(50)), "set", versions[k]))
	}
	return leaves
}

// naive computes the lines of the map in another way: from the whole log at once.
func naive(leaves []ledger.Leaf) []string {
	var lines []string
	names, of := map[string]string{}, map[string]string{}
	last, notices := map[string]int{}, map[string][]string{}
	for i, l := range leaves {
		switch l.Kind {
		case ledger.KindNotice:
			notices[l.Key] = append(notices[l.Key], l.Digest)
		case ledger.KindRecord:
			last[l.Key] = i
			if before := of[l.Key]; before != l.Name && names[before] == l.Key {
				delete(names, before)
			}
			of[l.Key] = l.Name
			if _, held := names[l.Name]; !held {
				names[l.Name] = l.Key
			}
		}
	}
	for k, i := range last {
		n := "0:-"
		if list := notices[k]; len(list) > 0 {
			n = fmt.Sprintf("%d:%s", len(list), digest(strings.Join(list, "\n")+"\n"))
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %d %s active", k, leaves[i].Version, leaves[i].Digest, i, n))
	}
	for name, k := range names {
		lines = append(lines, name+" -> "+k)
	}
	sort.Strings(lines)
	return lines
}

func TestMapIsTheReplayedLog(t *testing.T) {
	for seed := range uint64(5) {
		leaves := random(seed, 400)
		var s ledger.State
		for _, l := range leaves {
			if err := s.Apply(l); err != nil {
				t.Fatal(err)
			}
		}
		for _, bits := range []int{0, 1, 5} {
			m := s.Map(bits)
			var lines []string
			for i, shard := range m.Shards {
				leaf := m.Leaf(s.Size())
				if _, err := ledger.OpenShard(leaf, i, shard, m.Proof(i)); err != nil {
					t.Fatal(err)
				}
				if len(shard) > 0 {
					lines = append(lines, strings.Split(strings.TrimSuffix(string(shard), "\n"), "\n")...)
				}
				// The reference implementation of RFC 6962 agrees.
				var path [][]byte
				for p := m.Proof(i); len(p) > 0; p = p[32:] {
					path = append(path, p[:32])
				}
				root := m.Root()
				h := rfc6962.DefaultHasher
				if err := proof.VerifyInclusion(h, uint64(i), 1<<bits, h.HashLeaf(shard), path, root[:]); err != nil {
					t.Fatal(err)
				}
			}
			sort.Strings(lines)
			if want := naive(leaves); strings.Join(lines, "\n") != strings.Join(want, "\n") {
				t.Fatalf("seed %d, %d bits:\n%s\nwant:\n%s", seed, bits, strings.Join(lines, "\n"), strings.Join(want, "\n"))
			}
		}
		if c := s.Clone(); c.Map(3).Root() != s.Map(3).Root() || c.Apply(record("github.com/id/999", name, "set", 1)) != nil || s.Size() != 400 {
			t.Error("a clone is another state, or shares it")
		}
	}
}

func TestForeignShardsAreRefused(t *testing.T) {
	var s ledger.State
	for _, l := range random(7, 200) {
		if err := s.Apply(l); err != nil {
			t.Fatal(err)
		}
	}
	m := s.Map(2)
	leaf := m.Leaf(s.Size())
	refused := func(why string, leaf ledger.Leaf, n int, shard, proof []byte) {
		t.Helper()
		_, err := ledger.OpenShard(leaf, n, shard, proof)
		var r *ledger.Refusal
		if !errors.As(err, &r) || r.Code != ledger.CodeBadShard {
			t.Errorf("%s: %v", why, err)
		}
	}
	first, _, _ := bytes.Cut(m.Shards[1], []byte("\n"))
	refused("emptied", leaf, 1, nil, m.Proof(1))
	refused("without its first line", leaf, 1, m.Shards[1][len(first)+1:], m.Proof(1))
	refused("another one's proof", leaf, 1, m.Shards[1], m.Proof(2))
	refused("another shard", leaf, 1, m.Shards[2], m.Proof(2))
	refused("no proof", leaf, 1, m.Shards[1], nil)
	refused("longer proof", leaf, 1, m.Shards[1], append(m.Proof(1), make([]byte, 32)...))
	refused("no such shard", leaf, 4, m.Shards[1], m.Proof(1))
	refused("leaf of another kind", ledger.Leaf{Kind: ledger.KindRecord}, 0, nil, nil)
	for i := range m.Shards[1] {
		bad := bytes.Clone(m.Shards[1])
		bad[i] ^= 1
		refused("a bit", leaf, 1, bad, m.Proof(1))
	}
	for i := range m.Proof(1) {
		bad := m.Proof(1)
		bad[i] ^= 1
		refused("a bit of the proof", leaf, 1, m.Shards[1], bad)
	}
	// What the operator committed to must still be a shard.
	entry, _ := s.Entry("github.com/id/1")
	line := entry.Line()
	for why, shard := range map[string]string{
		"unsorted":      "github.com/name/b/b -> github.com/id/2\n" + line + "\n",
		"key twice":     line + "\n" + line + "\n",
		"key at twice":  line + "\n" + strings.Replace(line, " active", " tombstone", 1) + "\n",
		"no last line":  line,
		"empty line":    line + "\n\n",
		"other status":  strings.Replace(line, "active", "pending", 1) + "\n",
		"version 0":     "github.com/id/1 0 " + digest("x") + " 5 0:- active\n",
		"version 01":    "github.com/id/1 01 " + digest("x") + " 5 0:- active\n",
		"0 notices":     "github.com/id/1 1 " + digest("x") + " 5 0:" + digest("y") + " active\n",
		"1 notice of -": "github.com/id/1 1 " + digest("x") + " 5 1:- active\n",
		"no key":        "github.com/1 1 " + digest("x") + " 5 0:- active\n",
		"carriage":      line + "\r\n",
		"name's case":   "github.com/name/Org/app -> github.com/id/1\n",
		"name to name":  "github.com/name/org/app -> github.com/name/org/app\n",
	} {
		one := &ledger.Map{Bits: 0, Shards: [][]byte{[]byte(shard)}}
		refused(why, one.Hashed().Leaf(1), 0, []byte(shard), nil)
	}
	foreign := []byte(line + "\n")
	four := &ledger.Map{Bits: 2, Shards: [][]byte{nil, nil, nil, nil}}
	at := (ledger.ShardOf("github.com/id/1", 2) + 1) % 4
	four.Shards[at] = foreign
	refused("key of another shard", four.Hashed().Leaf(1), at, foreign, four.Proof(at))
}

func FuzzShard(f *testing.F) {
	var s ledger.State
	for _, l := range random(3, 30) {
		_ = s.Apply(l)
	}
	f.Add(s.Map(0).Shards[0])
	f.Add([]byte("github.com/name/b/b -> github.com/id/2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := (&ledger.Map{Bits: 0, Shards: [][]byte{data}}).Hashed()
		sh, err := ledger.OpenShard(m.Leaf(1), 0, data, nil)
		if err != nil {
			return
		}
		// Each line that was taken has one spelling.
		for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
			if strings.Contains(line, " -> ") || line == "" {
				continue
			}
			k, _, _ := strings.Cut(line, " ")
			if e, ok := sh.Entry(k); !ok || e.Line() != line {
				t.Fatalf("%q is read as %q", line, e.Line())
			}
		}
	})
}

func FuzzLeaf(f *testing.F) {
	for _, l := range random(3, 4) {
		f.Add(l.Bytes())
	}
	f.Add(new(ledger.State).Map(0).Leaf(0).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := ledger.ParseLeaf(data); err == nil && !bytes.Equal(l.Bytes(), data) {
			t.Fatalf("%q is read as %q", data, l.Bytes())
		}
	})
}

func FuzzHead(f *testing.F) {
	w := newWorld(f)
	f.Add(w.head(7, line("clock.example", w.clock, w.at)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := ledger.ParseHead(w.parsed, data); err == nil && h.Size != 7 {
			t.Fatalf("%q is a head of %d leaves", data, h.Size)
		}
	})
}

func FuzzTrust(f *testing.F) {
	f.Add([]byte(newWorld(f).trust))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _, _, _ = ledger.ParseTrust(data) })
}

func FuzzNoticeList(f *testing.F) {
	f.Add(ledger.NoticeList([]string{digest("a"), digest("b")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if list, err := ledger.ParseNoticeList(data); err == nil && !bytes.Equal(ledger.NoticeList(list), data) {
			t.Fatalf("%q is read as %q", data, list)
		}
	})
}

func FuzzLogged(f *testing.F) {
	f.Add(ledger.Logged(2, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		if index, size, err := ledger.ParseLogged(data); err == nil && !bytes.Equal(ledger.Logged(index, size), data) {
			t.Fatalf("%q is read as %d %d", data, index, size)
		}
	})
}
