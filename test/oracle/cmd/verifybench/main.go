// Command verifybench prints how long our verifier takes beside sigstore-go and
// beside nothing but the signature verifications themselves, all in one run on
// one processor, interleaved, as medians. What is counted is the time of the
// processor, garbage collection included, so that a busy machine does not decide.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/test/oracle"
)

func main() {
	n := flag.Int("n", 256, "bundles of each shape")
	rounds := flag.Int("rounds", 9, "rounds; the medians are printed")
	gate := flag.Bool("gate", false, "exit with 1 when a limit is missed")
	only := flag.String("only", "", "measure only shapes whose name holds this")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	var rows []*row
	for _, s := range oracle.Shapes(*n) {
		if strings.Contains(s.Name, *only) {
			rows = append(rows, newRow(s))
		}
	}
	for range *rounds {
		for _, r := range rows {
			r.round()
		}
	}
	fmt.Printf("The verifier: parse and verify, one goroutine, GOMAXPROCS=1, %d bundles with leaves of their own, processor time, medians of %d interleaved rounds\n\n", *n, *rounds)
	fmt.Printf("%-30s %9s %9s %9s | %10s %12s | %18s\n", "", "ours", "sigst.-go", "floor", "x floor", "x sigst.-go", "allocations")
	missed := false
	for _, r := range rows {
		missed = r.print() || missed
	}
	if missed && *gate {
		fmt.Fprintln(os.Stderr, "verifybench: a limit is missed")
		os.Exit(1)
	}
}

// row is a shape with what was measured of it: nanoseconds for each bundle.
type row struct {
	shape             *oracle.Shape
	contenders        [3]func(int) // ours, sigstore-go, floor
	times             [3][]float64
	allocs, allocated [3]float64
}

func newRow(s *oracle.Shape) *row {
	ours := must(oracle.NewOurs(s.Task))
	peer := must(oracle.NewSigstoreGo(s.Task, s.Extra...))
	r := &row{shape: s, contenders: [3]func(int){
		func(i int) { check(ours.Verify(s.Bundles[i])) },
		func(i int) { check(peer.Verify(s.Bundles[i])) },
		func(i int) {
			if !s.Floor(i) {
				panic("a bare signature does not hold")
			}
		}}}
	r.round() // warm
	r.times = [3][]float64{}
	return r
}

// chunk is how many bundles each contender verifies before it is the next one's turn.
const chunk = 32

// round lets each contender verify all bundles, in turns.
func (r *row) round() {
	var took [3]time.Duration
	var allocs, allocated [3]uint64
	n := len(r.shape.Bundles)
	for from := 0; from < n; from += chunk {
		for which, verify := range r.contenders {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := cpu()
			for i := from; i < min(from+chunk, n); i++ {
				verify(i)
			}
			took[which] += cpu() - start
			runtime.ReadMemStats(&after)
			allocs[which] += after.Mallocs - before.Mallocs
			allocated[which] += after.TotalAlloc - before.TotalAlloc
		}
	}
	for which := range took {
		r.times[which] = append(r.times[which], float64(took[which].Nanoseconds())/float64(n))
		r.allocs[which] = float64(allocs[which]) / float64(n)
		r.allocated[which] = float64(allocated[which]) / float64(n)
	}
}

// cpu is the processor's time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// print reports whether a limit was missed.
func (r *row) print() bool {
	var t [3]float64
	for i := range t {
		slices.Sort(r.times[i])
		t[i] = r.times[i][len(r.times[i])/2] / 1000
	}
	toFloor, toPeer, part := t[0]/t[2], t[1]/t[0], r.allocs[0]/r.allocs[1]
	bad := func(missed bool) string {
		if missed {
			return "!"
		}
		return " "
	}
	fmt.Printf("%-30s %6.1f us %6.1f us %6.1f us | %4.2f <1.2%s %4.2f >%.1f%s | %4.0f of %4.0f %4.1f%% <%.1f%%%s %.0f of %.0f B\n", r.shape.Name, t[0], t[1], t[2],
		toFloor, bad(toFloor > 1.2), toPeer, r.shape.MinRatio, bad(toPeer < r.shape.MinRatio),
		r.allocs[0], r.allocs[1], 100*part, 100*r.shape.MaxAllocs, bad(part > r.shape.MaxAllocs), r.allocated[0], r.allocated[1])
	return toFloor > 1.2 || toPeer < r.shape.MinRatio || part > r.shape.MaxAllocs
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}
