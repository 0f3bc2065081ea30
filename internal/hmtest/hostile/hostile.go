// Package hostile makes inputs that are meant to cost their reader much, and
// measures what they cost it.
package hostile

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Spare is how many bytes reading may take besides one copy of the input.
const Spare = 64 << 20

// Fill is before, as many pieces as there is room for in size bytes, and after. A
// piece with a %d is numbered.
func Fill(size int, before, piece, after string) []byte {
	first, second, numbered := strings.Cut(piece, "%d")
	if !numbered {
		n := max(size-len(before)-len(after), 0) / len(piece)
		return slices.Concat([]byte(before), bytes.Repeat([]byte(piece), n), []byte(after))
	}
	b := append(make([]byte, 0, size), before...)
	for n := int64(0); len(b)+len(piece)+10+len(after) <= size; n++ {
		b = append(strconv.AppendInt(append(b, first...), n, 10), second...)
	}
	return append(b, after...)
}

// Measure reads the heap's size all the time while an input of size bytes is read,
// and complains when it grew by more than that and [Spare], little garbage
// included. It must not run beside others, nor under the race detector, which
// keeps books of its own.
func Measure(t testing.TB, name string, size int, read func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is alive, and little more
	runtime.GC()
	sample := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := sample()
	var done atomic.Bool
	peak := make(chan uint64)
	go func() {
		var most uint64
		for ended := false; !ended; time.Sleep(100 * time.Microsecond) {
			ended = done.Load()
			most = max(most, sample())
		}
		peak <- most
	}()
	start := time.Now()
	read()
	took := time.Since(start)
	done.Store(true)
	most := <-peak
	t.Logf("%s: %d KB of input: %d KB more, %.2f s", name, size>>10, (int64(most)-int64(before))>>10, took.Seconds())
	if most > before+uint64(size)+Spare {
		t.Errorf("%s: %d bytes of input took %d more", name, size, most-before)
	}
}
