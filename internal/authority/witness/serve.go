package witness

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

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Limits of the server: requests and answers have a few kilobytes.
const (
	requestTimeout = 30 * time.Second
	idleTimeout    = 5 * time.Minute // logs keep their connection
	maxHeader      = 16 << 10
	drainTimeout   = 3 * time.Second
)

// Listen opens host:port: beyond this machine only with TLS, of certFile and
// keyFile. The URL is where the witness then is.
func Listen(hostPort, certFile, keyFile string) (net.Listener, string, error) {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, "", fault.Usagef("--listen %q is not host:port", hostPort)
	}
	if (certFile == "") != (keyFile == "") {
		return nil, "", fault.Usagef("--tls-cert and --tls-key belong together")
	}
	if certFile == "" && !loopback.Host(host) {
		return nil, "", fault.Hint(fault.Usagef("%s can be reached from other machines: that needs TLS", hostPort), "add --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that speaks TLS")
	}
	scheme := "http"
	var config *tls.Config
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, "", fmt.Errorf("TLS certificate: %w", err)
		}
		scheme, config = "https", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", hostPort)
	if err != nil {
		return nil, "", fmt.Errorf("listening on %s: %w", hostPort, err)
	}
	url := scheme + "://" + l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, url, nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stop()
	if err := server.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
		_ = server.Close()
	}
	<-ended
	return nil
}

// Describe is the group's state, a line for each witness, for people and probes.
func (g *Group) Describe() string {
	var b strings.Builder
	well := 0
	for _, h := range g.Health() {
		if h.Problem == "" {
			well++
			fmt.Fprintf(&b, "witness %s: ok\n", h.Name)
			continue
		}
		fmt.Fprintf(&b, "witness %s: since %s: %s\n", h.Name, h.Since.UTC().Format(time.RFC3339), h.Problem)
	}
	if well < g.cfg.Quorum {
		fmt.Fprintf(&b, "too few witnesses cosign: %d of the %d that are wanted\n", well, g.cfg.Quorum)
	}
	return b.String()
}
