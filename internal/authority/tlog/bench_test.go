package tlog

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend is a whole request, fsyncs included, with a new entry each.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			l, err := Open(b.TempDir(), Config{Origin: "127.0.0.1", Key: crashKey()})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			bodies := make([][]byte, b.N)
			for i := range bodies {
				bodies[i] = validRequest(b, fmt.Sprint(i))
			}
			h := l.Handler()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						w := httptest.NewRecorder()
						h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v2/log/entries", bytes.NewReader(bodies[i])))
						if w.Code != http.StatusCreated {
							b.Error(w.Body)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkOpen100k opens a log of 100000 entries of the size of keyless ones.
func BenchmarkOpen100k(b *testing.B) {
	const n, size = 100_000, 1300
	dir := b.TempDir()
	cfg := Config{Origin: "127.0.0.1", Key: crashKey()}
	l, err := Open(dir, cfg)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range maxBatch {
		wg.Go(func() {
			for i := g; i < n; i += maxBatch {
				if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "%0*d", size, i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := Open(dir, cfg)
		if err != nil {
			b.Fatal(err)
		}
		if l.Size() != n {
			b.Fatal(l.Size())
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
