package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
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
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
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
	for _, name := range []string{"authority.json", "keys/ca.pem", "keys/ct.pem", "keys/tsa.pem"} {
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
	for path, want := range map[string]int{"/healthz": 200, "/livez": 200, "/metrics": 200, "/api/v2/trustBundle": 200, "/api/v2/configuration": 200, "/api/v1/rootCert": 200,
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

// mounted is what a replica needs, as a kubelet shows a Secret: one flat folder of links
// into a version of it, without the issuer's key.
func mounted(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	version := filepath.Join(to, "..2026_11_29")
	if err := errors.Join(os.Mkdir(version, 0o755), os.Symlink("..2026_11_29", filepath.Join(to, "..data"))); err != nil {
		t.Fatal(err)
	}
	files := []string{"authority.json"}
	for _, service := range []string{"ca", "ct", "tsa"} {
		for _, suffix := range []string{"", "-2"} {
			if name := "keys/" + service + suffix + ".pem"; exists(filepath.Join(dir, name)) {
				files = append(files, name)
			}
		}
	}
	for _, name := range files {
		base := filepath.Base(name)
		if err := errors.Join(os.WriteFile(filepath.Join(version, base), readFile(t, filepath.Join(dir, name)), 0o440),
			os.Symlink(filepath.Join("..data", base), filepath.Join(to, base))); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestReplicasAndRotations: a replica takes tokens of an issuer's key that is newer than
// itself, none of one that was replaced, and starts from a Secret with the keys that a
// rotation added.
func TestReplicasAndRotations(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	primary, end := up(t, authority.Config{Dir: dir})
	own := primary.Info().URL
	c := new(clock)
	r, endReplica := replica(t, authority.Config{Dir: mounted(t, dir), Now: c.now})
	ask := func(r *authority.Authority, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequest("POST", "http://"+r.Address()+"/api/v2/signingCert", strings.NewReader(requestFor(t, token, "alice@example.com")))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = strings.TrimPrefix(own, "http://")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		status, body := fetched(t, resp, err)
		return status, string(body)
	}
	mint := func(a *authority.Authority) string {
		t.Helper()
		token, err := a.Mint("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	old := mint(primary)
	if status, body := ask(r, old); status != http.StatusOK {
		t.Fatalf("a token of the present key: %d %s", status, body)
	}
	end()
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: authority.ServiceOIDC}); err != nil {
		t.Fatal(err)
	}
	primary, end = up(t, authority.Config{Dir: dir, Listen: strings.TrimPrefix(own, "http://")})
	c.set(-11 * time.Second) // the issuer is asked again, at most once in ten seconds
	if status, body := ask(r, mint(primary)); status != http.StatusOK {
		t.Errorf("a token of the key that the issuer was given since: %d %s", status, body)
	}
	if status, body := ask(r, old); status != http.StatusOK { // until it expires
		t.Errorf("a token of the key before: %d %s", status, body)
	}
	end()
	endReplica()

	// A folder that has rotated CA and TSA: one Secret has whatever keys there are.
	for _, service := range []string{authority.ServiceCA, authority.ServiceTSA, authority.ServiceCT} {
		if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service}); err != nil {
			t.Fatal(err)
		}
	}
	primary, _ = up(t, authority.Config{Dir: dir, Listen: strings.TrimPrefix(own, "http://")})
	r, _ = replica(t, authority.Config{Dir: mounted(t, dir)})
	status, body := ask(r, mint(primary))
	var answer struct {
		SignedCertificateEmbeddedSct struct {
			Chain struct{ Certificates []string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("after CA, TSA and CT log were rotated: %d %s", status, body)
	}
	block, _ := pem.Decode([]byte(answer.SignedCertificateEmbeddedSct.Chain.Certificates[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cas := rootOf(t, dir).CAs
	if err := leaf.CheckSignatureFrom(cas[len(cas)-1].Anchor); err != nil || len(cas) != 2 {
		t.Errorf("it is not by the newest of %d CAs: %v", len(cas), err)
	}
}

// TestReplicaTakesNoChainOfItsOwn: a chain that nobody published is none to sign under.
func TestReplicaTakesNoChainOfItsOwn(t *testing.T) {
	t.Parallel()
	out, file := outside(t)
	dir := filepath.Join(t.TempDir(), "data")
	_, end := up(t, authority.Config{Dir: dir, KeysFile: file, OpenKey: opens})
	end()
	mine := t.TempDir()
	if err := os.WriteFile(filepath.Join(mine, "authority.json"), readFile(t, filepath.Join(dir, "authority.json")), 0o400); err != nil {
		t.Fatal(err)
	}
	_, stop := replica(t, authority.Config{Dir: mine, KeysFile: file, OpenKey: opens})
	stop()
	// The same key with another certificate: as good in itself, and in no trusted root.
	private, err := opens(authority.KeyRef{Ref: filepath.Join(out, "ca.key"), PasswordEnv: "PW"})
	if err != nil {
		t.Fatal(err)
	}
	template := *first(ca.ParseChain(readFile(t, filepath.Join(out, "ca.pem"))))[0]
	template.NotAfter, template.SerialNumber = template.NotAfter.Add(time.Hour), template.SerialNumber.Add(template.SerialNumber, big.NewInt(1))
	der, err := x509.CreateCertificate(nil, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := authority.OpenReplica(authority.Config{Dir: mine, Listen: "127.0.0.1:0", KeysFile: file, OpenKey: opens})
	if err == nil || !strings.Contains(err.Error(), "are not those that the authority publishes") {
		t.Errorf("a chain that was never published: %v", err)
	}
	if a != nil {
		_ = a.Close()
	}
}
