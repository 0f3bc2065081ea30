package rekorv1

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

// BenchmarkAppend is a whole request, fsyncs included, with a new entry each;
// beside package tlog's of the same name.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			l := openLog(b, b.TempDir())
			bodies := make([][]byte, b.N)
			for i := range bodies {
				key := p256()
				bodies[i] = hashedrekord(key, keyPEM(key.Public()), fmt.Sprint(i))
			}
			h := l.Handler()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						w := httptest.NewRecorder()
						h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/log/entries", bytes.NewReader(bodies[i])))
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

// BenchmarkIndex is the cost of the first search for each entry, keyless ones.
func BenchmarkIndex(b *testing.B) {
	l := openLog(b, b.TempDir())
	key := p256()
	cert := certificateFor(key, "alice@example.com")
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := g; i < b.N; i += 64 {
				body, err := canonicalize(hashedrekord(key, cert, fmt.Sprint(i)))
				if err == nil {
					_, err = l.log.Append(context.Background(), body)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ResetTimer()
	if got, err := l.index.search(context.Background(), l.log.View(), []string{nameKey("alice@example.com")}, false, 1<<30); err != nil || len(got) != b.N {
		b.Fatal(len(got), err)
	}
}
