package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rfc3161 "github.com/digitorus/timestamp"
	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// replica starts a replica of a folder and returns it with a function that ends it.
func replica(t *testing.T, cfg authority.Config) (*authority.Authority, func()) {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	a, err := authority.OpenReplica(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = a.Close()
	}
	t.Cleanup(end)
	return a, end
}

// replicated is what a replica needs of a folder, copied.
func replicated(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{"authority.json", "keys/ca.pem", "keys/ct.pem", "keys/tsa.pem", "oidc/oidc.key"} {
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), readFile(t, filepath.Join(dir, name)), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// balanced is a client whose connections go to replicas in turn, whatever it asks for.
func balanced(replicas ...*authority.Authority) *http.Client {
	var turn atomic.Int64
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, replicas[turn.Add(1)%int64(len(replicas))].Address())
		}}}
}

func fetched(t *testing.T, resp *http.Response, err error) (int, []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestReplicas: replicas certify and stamp as the authority does, in turn, beside it
// and without it, and leave their folder as it is.
func TestReplicas(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	primary, end := up(t, authority.Config{Dir: dir})
	url := primary.Info().URL
	token, err := primary.Mint("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	mine := replicated(t, dir)
	before := folder(t, mine)
	one, _ := replica(t, authority.Config{Dir: mine})
	two, endTwo := replica(t, authority.Config{Dir: mine})
	client := balanced(one, two)

	root := rootOf(t, dir)
	pool := x509.NewCertPool()
	for _, ca := range root.CAs {
		pool.AddCert(ca.Anchor)
	}
	ask := func() {
		t.Helper()
		resp, err := client.Post(url+"/api/v2/signingCert", "application/json", strings.NewReader(requestFor(t, token, "alice@example.com")))
		status, body := fetched(t, resp, err)
		var answer struct {
			SignedCertificateEmbeddedSct struct {
				Chain struct{ Certificates []string }
			}
		}
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || len(answer.SignedCertificateEmbeddedSct.Chain.Certificates) == 0 {
			t.Fatalf("signingCert: %d %s %v", status, body, err)
		}
		block, _ := pem.Decode([]byte(answer.SignedCertificateEmbeddedSct.Chain.Certificates[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
			t.Errorf("the certificate is not by the authority's CA: %v", err)
		}
		sum := sha256.Sum256([]byte("stamped"))
		query, err := (&rfc3161.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Certificates: true}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		resp, err = client.Post(url+"/api/v1/timestamp", "application/timestamp-query", bytes.NewReader(query))
		status, body = fetched(t, resp, err)
		stamp, err := rfc3161.ParseResponse(body)
		if err != nil || status/100 != 2 {
			t.Fatalf("timestamp: %d %v", status, err)
		}
		if !stamp.Certificates[0].Equal(root.TSAs[0].Leaf) {
			t.Error("the timestamp is not by the authority's TSA")
		}
	}
	for range 4 {
		ask()
	}
	end() // the authority is away: issuing goes on
	for range 2 {
		ask()
	}
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/api/v2/trustBundle": 200, "/api/v2/configuration": 200, "/api/v1/rootCert": 200,
		"/": 404, "/v2/": 404, "/api/v2/checkpoint": 404, "/tuf/root.json": 404, "/api/v1/log": 404, "/oauth2/token": 404, "/.well-known/openid-configuration": 404} {
		resp, err := client.Get(url + path)
		if status, _ := fetched(t, resp, err); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	resp, err := http.Get("http://" + one.Address() + "/api/v1/rootCert") // under its own name, not the authority's
	if status, _ := fetched(t, resp, err); status != http.StatusMisdirectedRequest {
		t.Errorf("another Host: %d", status)
	}
	endTwo()
	if diff := cmp.Diff(before, folder(t, mine)); diff != "" {
		t.Errorf("a replica changed its folder:\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(mine, "lock")); err == nil {
		t.Error("a replica took the folder's lock")
	}
}

func TestReplicaRefusals(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	for name, c := range map[string]struct {
		cfg    authority.Config
		change func(dir string) error
		want   string
	}{
		"no folder":     {authority.Config{Dir: t.TempDir()}, nil, "there is no authority in"},
		"another host":  {authority.Config{URL: "http://localhost:1"}, nil, "answers under the same name"},
		"in clear text": {authority.Config{Listen: "0.0.0.0:0"}, nil, "that needs TLS"},
		"no key":        {authority.Config{}, func(d string) error { return os.Remove(filepath.Join(d, "keys/ct.pem")) }, "ct.pem"},
		"no issuer":     {authority.Config{}, func(d string) error { return os.Remove(filepath.Join(d, "oidc/oidc.key")) }, "oidc.key"},
		"another key": {authority.Config{}, func(d string) error {
			return os.Rename(filepath.Join(d, "keys/ct.pem"), filepath.Join(d, "keys/ca.pem"))
		}, "ca.pem"},
		"a flipped bit": {authority.Config{}, func(d string) error {
			data := readFile(t, filepath.Join(d, "keys/tsa.pem"))
			data[len(data)/2] ^= 1
			if err := os.Remove(filepath.Join(d, "keys/tsa.pem")); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "keys/tsa.pem"), data, 0o600)
		}, "tsa.pem"},
		"no state": {authority.Config{}, func(d string) error { return os.Remove(filepath.Join(d, "authority.json")) }, "there is no authority in"},
	} {
		if c.cfg.Dir == "" {
			c.cfg.Dir = replicated(t, dir)
		}
		if c.cfg.Listen == "" {
			c.cfg.Listen = "127.0.0.1:0"
		}
		if c.change != nil {
			if err := c.change(c.cfg.Dir); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := authority.OpenReplica(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
			if a != nil {
				_ = a.Close()
			}
		}
	}
}
