package monitor

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// Upper bounds of the histogram of durations, in seconds.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// counts are the requests so far.
type counts struct {
	mu       sync.Mutex
	requests map[outcome]int64
	times    map[string]*histogram
	underWay int64
}

type outcome struct {
	service string
	code    int
}

type histogram struct {
	buckets [len(bounds) + 1]int64
	sum     float64
}

func (h *histogram) add(seconds float64) {
	i, _ := slices.BinarySearch(bounds[:], seconds)
	h.buckets[i]++
	h.sum += seconds
}

func (c *counts) begin() {
	c.mu.Lock()
	c.underWay++
	c.mu.Unlock()
}

func (c *counts) end(service string, code int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil {
		c.requests, c.times = map[outcome]int64{}, map[string]*histogram{}
	}
	c.underWay--
	c.requests[outcome{service, code}]++
	if c.times[service] == nil {
		c.times[service] = new(histogram)
	}
	c.times[service].add(took.Seconds())
}

// Count counts the requests to a service and writes a line of each to the log.
func (m *Monitor) Count(service string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := m.cfg.Now()
		m.counts.begin()
		counted := &countedWriter{ResponseWriter: w}
		done := false
		defer func() {
			if counted.code == 0 {
				counted.code = http.StatusOK
			}
			if !done { // a panic: the server ends the connection
				counted.code = http.StatusInternalServerError
			}
			took := m.cfg.Now().Sub(start)
			m.counts.end(service, counted.code, took)
			m.cfg.Log.Info("request", "service", service, "method", method(r.Method), "status", counted.code,
				"bytes", counted.bytes, "took", took, "client", r.RemoteAddr)
		}()
		next.ServeHTTP(counted, r)
		done = true
	})
}

// method keeps what a client invents out of the log.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

type countedWriter struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (w *countedWriter) WriteHeader(code int) {
	if w.code == 0 && code >= 200 { // 1xx are not the answer
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *countedWriter) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController see the connection.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (m *Monitor) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(m.exposition())
}

// exposition is Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats).
func (m *Monitor) exposition() []byte {
	var b bytes.Buffer
	family := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	f := m.cfg.Facts()
	family("hallmark_up", "gauge", "1 while everything works, 0 when something does not (see /healthz).")
	worst, _ := m.findings(f)
	fmt.Fprintf(&b, "hallmark_up %d\n", oneIf(worst != failing))
	family("hallmark_info", "gauge", "The version that runs.")
	fmt.Fprintf(&b, "hallmark_info{version=%s} 1\n", label(m.cfg.Version))
	family("hallmark_log_entries", "gauge", "Entries under the log's published checkpoint.")
	for _, l := range f.Logs {
		fmt.Fprintf(&b, "hallmark_log_entries{log=%s} %d\n", label(l.Origin), l.Size)
	}
	family("hallmark_log_stopped", "gauge", "1 when the log answers no more because its disk failed.")
	for _, l := range f.Logs {
		fmt.Fprintf(&b, "hallmark_log_stopped{log=%s} %d\n", label(l.Origin), oneIf(l.Stopped != nil))
	}
	family("hallmark_log_signer_away", "gauge", "1 while the log takes no entries because its key does not sign.")
	for _, l := range f.Logs {
		fmt.Fprintf(&b, "hallmark_log_signer_away{log=%s} %d\n", label(l.Origin), oneIf(l.Away != nil))
	}
	family("hallmark_log_disk_full", "gauge", "1 while the log takes no entries because its disk has no room.")
	for _, l := range f.Logs {
		fmt.Fprintf(&b, "hallmark_log_disk_full{log=%s} %d\n", label(l.Origin), oneIf(l.Full != nil))
	}
	if f.Disk != nil {
		family("hallmark_disk_free_bytes", "gauge", "Bytes that the disk of the data folder has left.")
		fmt.Fprintf(&b, "hallmark_disk_free_bytes %d\n", f.Disk.Free)
	}
	family("hallmark_key_expiry_timestamp_seconds", "gauge", "When a key's certificates or metadata end, in Unix time.")
	for _, k := range f.Keys {
		if !k.Expires.IsZero() {
			fmt.Fprintf(&b, "hallmark_key_expiry_timestamp_seconds{key=%s} %d\n", label(k.Name), k.Expires.Unix())
		}
	}
	m.counts.expose(&b, family)
	family("process_start_time_seconds", "gauge", "When this process started, in Unix time.")
	fmt.Fprintf(&b, "process_start_time_seconds %d\n", m.started.Unix())
	family("go_goroutines", "gauge", "Goroutines.")
	fmt.Fprintf(&b, "go_goroutines %d\n", runtime.NumGoroutine())
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	family("go_memstats_heap_inuse_bytes", "gauge", "Bytes of the heap in use.")
	fmt.Fprintf(&b, "go_memstats_heap_inuse_bytes %d\n", mem.HeapInuse)
	return b.Bytes()
}

func (c *counts) expose(b *bytes.Buffer, family func(name, kind, help string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	family("hallmark_requests_in_flight", "gauge", "Requests under way.")
	fmt.Fprintf(b, "hallmark_requests_in_flight %d\n", c.underWay)
	family("hallmark_requests_total", "counter", "Requests by service and status.")
	for _, o := range sortedKeys(c.requests, func(x, y outcome) int {
		return cmp.Or(cmp.Compare(x.service, y.service), cmp.Compare(x.code, y.code))
	}) {
		fmt.Fprintf(b, "hallmark_requests_total{service=%s,code=\"%d\"} %d\n", label(o.service), o.code, c.requests[o])
	}
	const times = "hallmark_request_duration_seconds"
	family(times, "histogram", "How long requests took.")
	for _, service := range sortedKeys(c.times, cmp.Compare[string]) {
		h, n := c.times[service], int64(0)
		for i, count := range h.buckets {
			bound := "+Inf"
			if i < len(bounds) {
				bound = strconv.FormatFloat(bounds[i], 'g', -1, 64)
			}
			n += count
			fmt.Fprintf(b, "%s_bucket{service=%s,le=%q} %d\n", times, label(service), bound, n)
		}
		fmt.Fprintf(b, "%s_sum{service=%s} %g\n%s_count{service=%s} %d\n", times, label(service), h.sum, times, label(service), n)
	}
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(x, y K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sorted.Func(keys, compare)
	return keys
}

// label quotes a label's value: backslash, quote and newline are escaped.
func label(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		switch s[i] {
		case '\\', '"':
			b = append(b, '\\', s[i])
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, s[i])
		}
	}
	return string(append(b, '"'))
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func kindOf(public any) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(k.N.BitLen())
	}
	return "of another kind"
}
