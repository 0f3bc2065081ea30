package oracle_test

import (
	"crypto/elliptic"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/test/oracle"
)

var (
	mutants = flag.Int("mutants", 20_000, "mutations of each format")
	seed    = flag.Uint64("seed", 20261125, "of what is forged and how it is changed")
)

// format is a kind of bundle whose mutants are judged.
type format struct {
	name    string
	version string
	world   forge.Options
	claims  []forge.ClaimOptions
	keyOnly bool
}

func formats() []format {
	statement := forge.StatementAbout(forge.ArtifactSubject())
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	plain, deep := forge.Options{Now: now}, forge.Options{Now: now, TreeSize: 1000, Intermediate: true}
	v1 := []forge.ClaimOptions{{Logs: []string{"v1 hashedrekord"}}}
	return []format{
		{name: "v0.1", version: "0.1", world: plain, claims: v1},
		{name: "v0.2", version: "0.2", world: deep, claims: append(v1, forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}, Token: true})},
		{name: "v0.3 message", version: "0.3", world: deep, claims: v1},
		{name: "v0.3 DSSE", version: "0.3", world: plain, claims: []forge.ClaimOptions{{Payload: statement, Logs: []string{"v1 dsse"}}, {Payload: statement, Logs: []string{"v1 intoto"}}}},
		{name: "v0.3 Rekor v2 and TSA", version: "0.3", world: plain, claims: []forge.ClaimOptions{{Logs: []string{"v2"}, Token: true}, {Payload: statement, Logs: []string{"v2"}, Token: true}}},
		{name: "v0.3 key only", version: "0.3", world: plain, keyOnly: true, claims: []forge.ClaimOptions{{Payload: statement}, {}}},
	}
}

// base are valid bundles of a format with the task that they fulfil.
func (f *format) base(t testing.TB, n int) (oracle.Task, [][]byte) {
	w := forge.New(f.world)
	alice := forge.Alice()
	task := oracle.Task{TrustedRoot: w.TrustedRoot(nil), Identity: alice.Email, Issuer: alice.IssuerV2, Artifact: forge.Artifact}
	key := forge.NewKey(elliptic.P256())
	if f.keyOnly {
		task.Key = forge.PublicPEM(key.Public())
	}
	var out [][]byte
	for range n {
		for _, o := range f.claims {
			if o.KeyOnly = f.keyOnly; f.keyOnly {
				o.Signer = key
			}
			out = append(out, forge.Bundle(w.Claim(o), f.version))
		}
	}
	return task, out
}

// pair are both verifiers, for one worker and one way of naming the artifact.
type pair struct {
	ours *oracle.Ours
	peer *oracle.SigstoreGo
}

func newPairs(t testing.TB, task oracle.Task) [2]pair {
	var out [2]pair
	for i := range out {
		task.ByDigest = i == 1
		ours, err := oracle.NewOurs(task)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := oracle.NewSigstoreGo(task)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = pair{ours, peer}
	}
	return out
}

// TestDifferential changes valid bundles of each format in all the ways of
// mutate_test.go. Whatever we accept sigstore-go must accept, and what we alone
// refuse must be for a reason of the list.
func TestDifferential(t *testing.T) {
	cryptotest.SetGlobalRandom(t, *seed)
	t.Logf("seed %d, %d mutations of each format", *seed, *mutants)
	used := map[string]int{}
	for _, f := range formats() {
		task, bundles := f.base(t, 4)
		for i, b := range bundles {
			for _, p := range newPairs(t, task) {
				if ours, peer := p.ours.Verify(b), p.peer.Verify(b); ours != nil || peer != nil {
					t.Fatalf("%s: bundle %d as it was forged: ours %v, sigstore-go %v", f.name, i, ours, peer)
				}
			}
		}
		start := time.Now()
		s := f.run(t, task, bundles)
		t.Logf("%s: %d accepted by both, %d refused by both, %d refused by us alone (%.1f s)", f.name, s.accepted, s.refused, s.stricter, time.Since(start).Seconds())
		if s.laxer > 0 {
			t.Errorf("%s: %d mutants accepted that sigstore-go refuses", f.name, s.laxer)
		}
		if s.accepted == 0 || s.refused == 0 {
			t.Errorf("%s: the mutants show nothing", f.name)
		}
		for why, n := range s.reasons {
			used[why] += n
		}
	}
	for _, why := range slices.Sorted(mapKeys(used)) {
		t.Logf("stricter %6d times: %s", used[why], why)
	}
}

func mapKeys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// score counts verdicts.
type score struct {
	accepted, refused, stricter, laxer int
	reasons                            map[string]int
}

func (f *format) run(t *testing.T, task oracle.Task, bundles [][]byte) score {
	var trees []*node
	for _, b := range bundles {
		trees = append(trees, parseNode(t, b))
	}
	total := score{reasons: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	complaints := 0
	for worker := range workers {
		pairs := newPairs(t, task)
		wg.Go(func() {
			for i := worker; i < *mutants; i += workers {
				// Each mutant depends on the seed and its number alone.
				r := rand.New(rand.NewPCG(*seed, uint64(i)))
				at := r.IntN(len(bundles))
				other := (at + len(f.claims)*(1+r.IntN(len(bundles)/len(f.claims)-1))) % len(bundles)
				m := choose(r)
				data, what := m.change(r, bundles[at], trees[at], trees[other])
				p := pairs[i%2]
				ours, peer := p.ours.Verify(data), p.peer.Verify(data)
				mu.Lock()
				switch {
				case ours == nil && peer == nil:
					total.accepted++
				case ours != nil && peer != nil:
					total.refused++
				case ours == nil:
					total.laxer++
					if complaints++; complaints < 20 {
						t.Errorf("%s, mutant %d (%s %s): laxer than sigstore-go, which says: %v\n%s", f.name, i, m.kind, what, peer, short(data))
					}
				default:
					total.stricter++
					why := stricterBecause(ours, m.kind)
					if total.reasons[why]++; why == "" {
						if complaints++; complaints < 20 {
							t.Errorf("%s, mutant %d (%s %s): stricter than sigstore-go for no listed reason: %v\n%s", f.name, i, m.kind, what, ours, short(data))
						}
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if complaints >= 20 {
		t.Errorf("%s: %d complaints in all", f.name, complaints)
	}
	return total
}

func short(data []byte) string {
	s := strings.ReplaceAll(fmt.Sprintf("%q", data), `\"`, `"`)
	if len(s) > 300 && !testing.Verbose() {
		return s[:300] + "…"
	}
	return s
}
