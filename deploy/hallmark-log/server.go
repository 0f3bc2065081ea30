package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
)

// Limits of the HTTP server. A request is at most 128 KiB, an answer waits for the
// storage for writeTimeout.
const (
	headerTimeout  = 10 * time.Second
	readTimeout    = 30 * time.Second
	answerTimeout  = writeTimeout + 20*time.Second
	idleTimeout    = 2 * time.Minute
	drainTimeout   = 20 * time.Second
	maxHeader      = 16 << 10
	maxConnections = 2048
)

// handler is everything that the program answers.
func handler(l *Log) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/v2/", tlog.NewHandler(l))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := l.Healthy(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "failing")
			return
		}
		fmt.Fprintln(w, "ok")
	})
	// For what starts a process anew when it hangs: a log that has stopped, or whose
	// storage is away, is not helped by that.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, metrics(l))
	})
	return mux
}

// metrics is Prometheus' text format; the names are those of hallmark up's metrics
// where they mean the same.
func metrics(l *Log) string {
	var b strings.Builder
	family := func(name, kind, help, labels string, value int64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s%s %d\n", name, help, name, kind, name, labels, value)
	}
	well := int64(1)
	if l.Healthy() != nil {
		well = 0
	}
	log := fmt.Sprintf("{log=%q}", l.cfg.Origin)
	family("hallmark_up", "gauge", "1 while everything works, 0 when something does not (see /healthz).", "", well)
	family("hallmark_log_entries", "gauge", "Entries under the log's published checkpoint.", log, l.current().Size())
	family("hallmark_log_added_total", "counter", "Entries that this process added and acknowledged.", "", l.added.Load())
	family("hallmark_log_duplicates_total", "counter", "Requests for entries that were there already.", "", l.doubles.Load())
	family("hallmark_log_refused_total", "counter", "Requests that the storage did not answer as it should.", "", l.refused.Load())
	return b.String()
}

// listen opens the port, with TLS where the configuration has it.
func listen(cfg *Config) (net.Listener, string, error) {
	var config *tls.Config
	scheme := "http"
	if cfg.TLS != nil {
		pair, err := tls.LoadX509KeyPair(cfg.TLS.Certificate, cfg.TLS.Key)
		if err != nil {
			return nil, "", fmt.Errorf("tls: %w", err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		scheme = "https"
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, "", err
	}
	address := scheme + "://" + l.Addr().String()
	l = netutil.LimitListener(l, maxConnections)
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, address, nil
}

// serve answers until ctx ends, then lets requests under way finish.
func serve(ctx context.Context, listener net.Listener, l *Log, log *slog.Logger) error {
	s := &http.Server{
		Handler: handler(l), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stop()
	if serr := s.Shutdown(drain); errors.Is(serr, context.DeadlineExceeded) {
		_ = s.Close()
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
