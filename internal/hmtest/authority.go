// Package hmtest has real things for tests: a whole authority in process, images
// in its registry, and the tools that tests compare us with.
package hmtest

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Running is an authority that answers on a loopback port until the test ends.
type Running struct {
	URL           string // base URL, issuer, CA and log
	Registry      string // host:port
	Dir           string // data folder
	TrustedRoot   string // path
	SigningConfig string // path
	Info          authority.Info
	Authority     *authority.Authority

	t    testing.TB
	stop func()
}

// Authority starts an authority in a folder of the test's own.
func Authority(t testing.TB) *Running {
	t.Helper()
	return Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data")})
}

// Start starts an authority as cfg says; without cfg.Listen on a free loopback port.
func Start(t testing.TB, cfg authority.Config) *Running {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	a, err := authority.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	i := a.Info()
	r := &Running{URL: i.URL, Registry: i.Registry, Dir: i.Dir, TrustedRoot: i.TrustedRoot, SigningConfig: i.SigningConfig,
		Info: i, Authority: a, t: t}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("authority: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("closing the authority: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// Stop ends the authority before the test does.
func (r *Running) Stop() { r.stop() }

// Token is an identity token for an e-mail address.
func (r *Running) Token(email string) string {
	r.t.Helper()
	token, err := r.Authority.Mint(email)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// Image pushes a small image that is different for every content to
// repository:latest, and returns its reference by digest.
func (r *Running) Image(repository, content string) string {
	r.t.Helper()
	ref, err := registry.ParseRef(r.Registry + "/" + repository + ":latest")
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref,
		testimage.Image{Layers: [][]testimage.File{{{Path: "content", Data: []byte(content)}}}})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Registry + "/" + repository + "@" + d.Digest.String()
}

// Tool is the path of a program that make tools builds: cosign, crane, oras, ….
func Tool(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("HALLMARK_TOOLS")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "hallmark", "tools", "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not there: run make tools", path)
	}
	return path
}
