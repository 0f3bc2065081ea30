package store_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// leavesOf are the records of n repositories that have one each.
func leavesOf(from, n int) []ledger.Leaf {
	var leaves []ledger.Leaf
	for i := from; i < from+n; i++ {
		leaves = append(leaves, ledger.Leaf{Kind: ledger.KindRecord, Key: fmt.Sprintf("github.com/id/%d", 10_000_000+i), Name: fmt.Sprintf("github.com/name/organisation/repository-%d", i),
			Version: 1, Action: "set", Digest: string(evidence.SHA256(fmt.Append(nil, i)))})
	}
	return leaves
}

// BenchmarkTenThousand is a store with ten thousand repositories, one of which has a policy of two
// versions with two approvals each: what a client and a publication take.
func BenchmarkTenThousand(b *testing.B) {
	w := newWorld(b)
	if err := os.MkdirAll(w.cfg.Dir, 0o755); err != nil {
		b.Fatal(err)
	}
	s := w.init()
	v1 := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	w.append(s, v1)
	if err := s.Enqueue(leavesOf(0, 10_000)...); err != nil {
		b.Fatal(err)
	}
	w.at(0.5)
	w.publish(s)
	w.at(26)
	w.append(s, w.Sign(w.Next(w.now, v1, w.people, "bob", "carol")))
	w.publish(s)
	web := httptest.NewServer(http.FileServer(http.Dir(w.cfg.Dir)))
	defer web.Close()
	size := int64(0)
	_ = filepath.WalkDir(w.cfg.Dir, func(_ string, d os.DirEntry, _ error) error {
		if i, err := d.Info(); err == nil && !d.IsDir() {
			size += i.Size()
		}
		return nil
	})
	b.Run("client cold over HTTP", func(b *testing.B) {
		for b.Loop() {
			source, err := ledger.HTTP(web.URL, ledger.HTTPOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if r, err := w.client(source).PolicyFor(b.Context(), repo); err != nil || r.Policy.Version != 2 {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("client warm over HTTP", func(b *testing.B) {
		source, err := ledger.HTTP(web.URL, ledger.HTTPOptions{})
		if err != nil {
			b.Fatal(err)
		}
		w.cache = translog.NewCache(b.TempDir())
		defer func() { w.cache = nil }()
		ask := func() {
			if r, err := w.client(source).PolicyFor(b.Context(), repo); err != nil || r.Policy.Version != 2 {
				b.Fatal(r, err)
			}
		}
		ask()
		for b.Loop() {
			ask()
		}
	})
	b.Run("client cold from a folder", func(b *testing.B) {
		for b.Loop() {
			w.wants(w.cfg.Dir, 2)
		}
	})
	n := 20_000
	b.Run("publish one change", func(b *testing.B) {
		for b.Loop() {
			n++
			if err := s.Enqueue(leavesOf(n, 1)...); err != nil {
				b.Fatal(err)
			}
			w.publish(s)
		}
	})
	b.Run("cosign anew", func(b *testing.B) {
		for b.Loop() {
			w.publish(s)
		}
	})
	s.Close()
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			w.open().Close()
		}
	})
	b.ReportMetric(float64(size)/1e6, "MB")
}

// BenchmarkFiftyVersions is the walk of a chain of fifty versions with two approvals each.
func BenchmarkFiftyVersions(b *testing.B) {
	w := newWorld(b)
	s := w.init()
	last := w.Sign(w.First(w.now, w.people, "alice", "bob"))
	w.append(s, last)
	w.at(0.5)
	w.publish(s)
	for v := range 49 {
		w.at(26 + float64(v))
		w.publish(s)
		next := w.Sign(w.Next(w.clock(), last, w.people, "bob", "carol"))
		w.append(s, next)
		w.publish(s)
		last = next
	}
	for b.Loop() {
		w.wants(w.cfg.Dir, 50)
	}
}

// BenchmarkMillion computes the map of a million repositories and says how large it is.
func BenchmarkMillion(b *testing.B) {
	leaves := leavesOf(0, 1_000_000)
	for b.Loop() {
		var s ledger.State
		for _, l := range leaves {
			if err := s.Apply(l); err != nil {
				b.Fatal(err)
			}
		}
		m := s.Map(s.ShardBits())
		total, largest := 0, 0
		for _, shard := range m.Shards {
			total += len(shard)
			largest = max(largest, len(shard))
		}
		b.ReportMetric(float64(len(m.Shards)), "shards")
		b.ReportMetric(float64(total)/1e6, "MB")
		b.ReportMetric(float64(largest)/1e3, "largest-kB")
		b.ReportMetric(float64(len(m.Proof(0))), "proof-bytes")
	}
}
