package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// signed are n images, each signed keyless by one signature.
func (b *bench) signed(ctx context.Context, n int) ([]string, error) {
	args := []string{"sign", "--identity-token", b.lab.token}
	var images []string
	for range n {
		image, err := b.lab.newImage(ctx)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	_, err := b.measure(ctx, b.hallmark, append(args, images...)...)
	return images, err
}

// ours and cosigns are the arguments that verify images of the lab's signer.
func (b *bench) ours(more ...string) []string {
	return append([]string{"verify", "--trusted-root", b.lab.authority.TrustedRoot, "--identity", identity, "--issuer", b.lab.authority.Issuer}, more...)
}

func (b *bench) cosigns(more ...string) []string {
	return append([]string{"verify", "--trusted-root", b.lab.authority.TrustedRoot, "--certificate-identity", identity, "--certificate-oidc-issuer", b.lab.authority.Issuer}, more...)
}

func always(name string, args []string) command {
	return func(int) (string, []string, error) { return name, args, nil }
}

// verify checks one keyless signature, whole process, on a loopback registry.
func (b *bench) verify(ctx context.Context) (rows []row, err error) {
	images, err := b.signed(ctx, 1)
	if err != nil {
		return nil, err
	}
	for _, p := range b.programs() {
		ours, peer, err := b.pairs(ctx, 2*b.runs, always(p.path, b.ours(images...)), always(b.cosign, b.cosigns(images...)))
		if err != nil {
			return nil, err
		}
		rows = append(rows,
			row{p.name + " verify keyless, wall", of(ours, wall), of(peer, wall), "ms", p.verify[0]},
			row{p.name + " verify keyless, peak memory", of(ours, rss), of(peer, rss), "MB", p.verify[1]})
	}
	return rows, nil
}

// verifyMany checks many images in one call, and has cosign check some of them in
// a loop; images per second are compared. There are three runs.
func (b *bench) verifyMany(ctx context.Context) ([]row, error) {
	const images, looped = 500, 50
	all, err := b.signed(ctx, images)
	if err != nil {
		return nil, err
	}
	list, loop := filepath.Join(b.dir, "list"), filepath.Join(b.dir, "loop")
	if err := os.WriteFile(list, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	script := fmt.Sprintf("set -e\nhead -n %d %s | while read -r image; do %s %s \"$image\" >/dev/null 2>&1; done\n", looped, list, b.cosign, strings.Join(b.cosigns(), " "))
	if err := os.WriteFile(loop, []byte(script), 0o600); err != nil {
		return nil, err
	}
	ours, peer, err := b.pairs(ctx, 3, always(b.verifier, b.ours("-f", list)), always("/bin/sh", []string{loop}))
	perSecond := func(n float64) func(usage) float64 {
		return func(u usage) float64 { return n / u.Wall * float64(time.Second/time.Millisecond) }
	}
	return []row{{fmt.Sprintf("verify %d images in a call, cosign in a loop", images), of(ours, perSecond(images)), of(peer, perSecond(looped)), "images/s", ">= 10"}}, err
}

// requests counts what a registry is asked for one verification by digest of an
// image with one signature: a proxy of its own stands in between.
func (b *bench) requests(ctx context.Context) ([]row, error) {
	images, err := b.signed(ctx, 1)
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	to := &url.URL{Scheme: "http", Host: b.lab.authority.Registry} // by the only name that it answers to
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	image := strings.Replace(images[0], b.lab.authority.Registry, strings.TrimPrefix(server.URL, "http://"), 1)
	count := func(name string, args []string) (sample, error) {
		n.Store(0)
		_, err := b.measure(ctx, name, args...)
		return sample{float64(n.Load())}, err
	}
	ours, err := count(b.verifier, b.ours(image))
	if err != nil {
		return nil, err
	}
	peer, err := count(b.cosign, b.cosigns(image))
	return []row{{"verify keyless, requests", ours, peer, "", "<= 4"}}, err
}
