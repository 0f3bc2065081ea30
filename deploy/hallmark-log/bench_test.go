package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkWrite is how fast a writer acknowledges, with so many clients; the figures
// of docs/outgrown.md come from it.
func BenchmarkWrite(b *testing.B) {
	for _, driver := range []string{"posix", "mysql"} {
		for _, clients := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/%d", driver, clients), func(b *testing.B) {
				s := newSite(b, driver, newKey(b))
				w := s.mustStart(b, "--create")
				signer := newEntrySigner(b)
				n := max(b.N, clients)
				requests := make(chan []byte, n)
				for range n {
					requests <- signer.request(b)
				}
				close(requests)
				var mu sync.Mutex
				var took []time.Duration
				var all sync.WaitGroup
				b.ResetTimer()
				for range clients {
					all.Go(func() {
						for r := range requests {
							start := time.Now()
							if _, err := submit(context.Background(), w.url, r); err != nil {
								b.Error(err)
							}
							mu.Lock()
							took = append(took, time.Since(start))
							mu.Unlock()
						}
					})
				}
				all.Wait()
				b.StopTimer()
				slices.Sort(took)
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
				b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-median")
				b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "ms-p99")
			})
		}
	}
}
