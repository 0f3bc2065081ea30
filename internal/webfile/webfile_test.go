package webfile_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/webfile"
)

func TestDigest(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Sun, 29 Nov 2026 09:00:00 GMT")
		_, _ = w.Write([]byte("body"))
	})
	mux.HandleFunc("/encoded", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte("body"))
		_ = z.Close()
	})
	mux.Handle("/redirect", http.RedirectHandler("/plain", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2000)) })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("short"))
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	c := webfile.New(webfile.Options{MaxSize: 1000})
	sum := sha256.Sum256([]byte("body"))
	for _, path := range []string{"/plain", "/encoded", "/redirect"} {
		f, err := c.Digest(context.Background(), srv.URL+path)
		if err != nil || string(f.Digest) != "sha256:"+hex.EncodeToString(sum[:]) || f.Size != 4 {
			t.Errorf("%s: %+v, %v", path, f, err)
		}
		if path != "/encoded" && !f.LastModified.Equal(time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: %v", path, f.LastModified)
		}
	}
	for url, want := range map[string]struct {
		text string
		kind fault.Kind
	}{
		srv.URL + "/none?token=hunter2": {"says 404 Not Found", fault.Failure},
		srv.URL + "/loop":               {"more than 10 redirects", fault.Unreachable},
		srv.URL + "/large":              {"more than 1000 bytes", fault.Failure},
		srv.URL + "/cut":                {"unexpected EOF", fault.Unreachable},
		srv.URL + "/broken":             {"502", fault.Unreachable},
		secure.URL:                      {"certificate", fault.Unreachable},
		"http://example.com/":           {"plain HTTP to example.com", fault.Usage},
		"ftp://example.com/":            {"not an http or https URL", fault.Usage},
	} {
		f, err := c.Digest(context.Background(), url)
		if err == nil || !strings.Contains(err.Error(), want.text) || fault.KindOf(err) != want.kind || f != (webfile.File{}) {
			t.Errorf("%s: %+v, %v (kind %v), want %q", url, f, err, fault.KindOf(err), want.text)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v repeats a query", err)
		}
	}
}
