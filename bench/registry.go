package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// The registry of hallmark up beside distribution's, each with its data on the
// same disk and each syncing what it acknowledges. One client of ours speaks to
// both: POST, PATCH and PUT for a blob, as docker does.

const (
	benchManifests = 1000
	benchClients   = 8
	benchBlob      = 1 << 30
	benchChunk     = 1 << 20
)

// peerRegistry is a running registry that is measured.
type peerRegistry struct {
	base string // http://host:port
	http *http.Client
}

// startDistribution runs distribution's registry as its example configures it.
func (b *bench) startDistribution(ctx context.Context) (*exec.Cmd, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	address := l.Addr().String()
	_ = l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  cache: {blobdescriptor: inmemory}\n"+
		"  delete: {enabled: true}\n  filesystem: {rootdirectory: %s}\nhttp: {addr: %s}\n", filepath.Join(b.dir, "distribution"), address)
	path := filepath.Join(b.dir, "distribution.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, b.distribution, "serve", path)
	cmd.Env = append(b.env, "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	for range 1000 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return cmd, "http://" + address, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	return nil, "", fmt.Errorf("%s does not answer on %s", b.distribution, address)
}

// registries measures pushes and pulls; the runs alternate between the two.
func (b *bench) registries(ctx context.Context) (rows []row, err error) {
	cmd, address, err := b.startDistribution(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	sides := [2]*peerRegistry{newPeer(b.lab.authority.URL), newPeer(address)}
	var small, blobs [2][2]sample // side, then push and pull
	for run := range 6 {
		for _, i := range inTurn(run) {
			side := sides[i]
			push, pull, err := side.manifests(ctx, run)
			if err != nil {
				return nil, err
			}
			if run > 0 {
				small[i][0], small[i][1] = append(small[i][0], push), append(small[i][1], pull)
			}
		}
	}
	for run := range 8 {
		for _, i := range inTurn(run) {
			side := sides[i]
			if err := b.quiet(ctx); err != nil {
				return nil, err
			}
			push, pull, err := side.blob(ctx, run)
			if err != nil {
				return nil, err
			}
			if run > 0 {
				blobs[i][0], blobs[i][1] = append(blobs[i][0], push), append(blobs[i][1], pull)
			}
		}
	}
	return []row{
		{"push 1,000 small manifests, 8 clients", small[0][0], small[1][0], "manifests/s", ">= 1"},
		{"pull 1,000 small manifests, 8 clients", small[0][1], small[1][1], "manifests/s", ">= 1"},
		{"push a blob of 1 GiB", blobs[0][0], blobs[1][0], "MB/s", ">= 1"},
		{"pull a blob of 1 GiB", blobs[0][1], blobs[1][1], "MB/s", ">= 1"},
	}, nil
}

// inTurn is the order of the two sides: whoever comes second finds the memory that the
// first has left, so each run another begins.
func inTurn(run int) [2]int { return [2]int{run % 2, 1 - run%2} }

// quiet waits until the disk has nothing left of what came before: what the other side
// wrote or deleted would be paid by whose turn it is.
func (b *bench) quiet(ctx context.Context) error {
	_, err := b.output(ctx, "sync")
	return err
}

func newPeer(base string) *peerRegistry {
	return &peerRegistry{base, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchClients, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}}}
}

// do sends a request, wants a status, and reads the whole answer.
func (p *peerRegistry) do(ctx context.Context, want int, method, url, contentType string, body io.Reader, length int64) (http.Header, int64, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, 0, err
	}
	req.ContentLength = length
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", contentType)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s, want %d", method, url, resp.Status, want)
	}
	return resp.Header, n, err
}

// upload pushes a blob as docker does.
func (p *peerRegistry) upload(ctx context.Context, repo, digest string, body io.Reader, length int64) error {
	h, _, err := p.do(ctx, 202, "POST", p.base+"/v2/"+repo+"/blobs/uploads/", "", nil, 0)
	if err != nil {
		return err
	}
	if h, _, err = p.do(ctx, 202, "PATCH", p.at(h), "application/octet-stream", body, length); err != nil {
		return err
	}
	where := p.at(h)
	separator := "?"
	if bytes.ContainsRune([]byte(where), '?') {
		separator = "&"
	}
	_, _, err = p.do(ctx, 201, "PUT", where+separator+"digest="+digest, "", nil, 0)
	return err
}

// at is an answer's Location, which may lack the host.
func (p *peerRegistry) at(h http.Header) string {
	where := h.Get("Location")
	if len(where) > 0 && where[0] == '/' {
		return p.base + where
	}
	return where
}

const benchManifestType = "application/vnd.oci.image.manifest.v1+json"

// manifests pushes and pulls small manifests and gives each rate per second.
func (p *peerRegistry) manifests(ctx context.Context, run int) (push, pull float64, err error) {
	repo := fmt.Sprintf("bench/manifests%d", run)
	config := []byte("{}")
	if err := p.upload(ctx, repo, digestOf(config), bytes.NewReader(config), int64(len(config))); err != nil {
		return 0, 0, err
	}
	list := make([][]byte, benchManifests)
	for i := range list {
		list[i] = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
			`"layers":[],"annotations":{"n":"%d"}}`, benchManifestType, digestOf(config), i)
	}
	rate := func(each func(i int) error) (float64, error) {
		t0 := time.Now()
		err := inParallel(benchClients, len(list), each)
		return float64(len(list)) / time.Since(t0).Seconds(), err
	}
	at := func(i int) string { return fmt.Sprintf("%s/v2/%s/manifests/v%d", p.base, repo, i) }
	if push, err = rate(func(i int) error {
		_, _, err := p.do(ctx, 201, "PUT", at(i), benchManifestType, bytes.NewReader(list[i]), int64(len(list[i])))
		return err
	}); err != nil {
		return 0, 0, err
	}
	pull, err = rate(func(i int) error {
		_, n, err := p.do(ctx, 200, "GET", at(i), benchManifestType, nil, 0)
		if err == nil && n != int64(len(list[i])) {
			err = fmt.Errorf("pulled %d of %d bytes", n, len(list[i]))
		}
		return err
	})
	return push, pull, err
}

// blob pushes, pulls and deletes a blob and gives the rates in MB/s.
func (p *peerRegistry) blob(ctx context.Context, run int) (push, pull float64, err error) {
	chunk := make([]byte, benchChunk)
	random := rand.NewChaCha8([32]byte{byte(run)})
	_, _ = random.Read(chunk)
	body := func() io.Reader { return &repeated{chunk: chunk, left: benchBlob} }
	h := sha256.New()
	if _, err := io.Copy(h, body()); err != nil {
		return 0, 0, err
	}
	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	rate := func(t0 time.Time) float64 { return benchBlob / 1e6 / time.Since(t0).Seconds() }
	t0 := time.Now()
	if err := p.upload(ctx, "bench/blobs", digest, body(), benchBlob); err != nil {
		return 0, 0, err
	}
	push = rate(t0)
	at := p.base + "/v2/bench/blobs/blobs/" + digest
	t0 = time.Now()
	_, n, err := p.do(ctx, 200, "GET", at, "", nil, 0)
	if err == nil && n != benchBlob {
		err = fmt.Errorf("pulled %d bytes", n)
	}
	if err != nil {
		return 0, 0, err
	}
	pull = rate(t0)
	_, _, err = p.do(ctx, 202, "DELETE", at, "", nil, 0)
	return push, pull, err
}

// repeated is a chunk again and again, each time with its number at the front.
type repeated struct {
	chunk []byte
	n     uint64
	rest  []byte
	left  int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(r.rest) == 0 {
		binary.BigEndian.PutUint64(r.chunk, r.n)
		r.n++
		r.rest = r.chunk[:min(len(r.chunk), r.left)]
	}
	n := copy(p, r.rest)
	r.rest, r.left = r.rest[n:], r.left-n
	return n, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// inParallel calls each(0) to each(n-1) from so many goroutines and gives the
// first error.
func inParallel(workers, n int, each func(int) error) error {
	var group sync.WaitGroup
	failed := make(chan error, workers)
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				if err := each(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}
