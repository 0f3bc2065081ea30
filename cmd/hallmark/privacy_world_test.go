package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

const (
	// signerHost is a name of the public instance, at which a real authority of our
	// own answers.
	signerHost   = "log2025-1.rekor.sigstore.dev"
	registryHost = "registry.example.com"
	gitHost      = "git.example.com"
)

// privateWorld is a machine whose way out goes through a proxy that records: to an
// authority under the name of a public log, to a registry that shows some images to
// everybody and to a git server that shows some repositories.
type privateWorld struct {
	t      *testing.T
	dir    string
	bin    string
	env    []string
	net    *recorder
	signer *authority.Authority
	local  string // an image in a registry on this machine
}

func newPrivateWorld(t *testing.T) *privateWorld {
	t.Helper()
	w := &privateWorld{t: t, dir: t.TempDir(), net: newRecorder(t)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.bin = filepath.Join(w.dir, "hallmark") // as which the test's binary is hallmark (TestMain)
	if err := os.Symlink(self, w.bin); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(w.dir, "ca.pem")
	writeExample(t, ca, string(w.net.ca))
	w.env = []string{"HOME=" + w.dir, "PATH=" + os.Getenv("PATH"), "COSIGN_PASSWORD=x", "HTTPS_PROXY=" + w.net.proxy.URL, "SSL_CERT_FILE=" + ca,
		"GIT_SSL_CAINFO=" + ca, "DOCKER_CONFIG=" + w.dir, "HALLMARK_SIGNING_CONFIG=signing.json", "HALLMARK_TRUSTED_ROOT=root.json",
		"HALLMARK_PATIENCE=1s", "BUILDKIT_HOST=unix://" + filepath.Join(w.dir, "no-buildkit.sock")}
	users := filepath.Join(w.dir, "users")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	writeExample(t, users, "ci:"+string(hash)+"\n")
	writeExample(t, filepath.Join(w.dir, "rights.yaml"), "rights:\n- {repositories: [\"public/**\"], principals: [anyone], actions: [pull]}\n"+
		"- {repositories: [\"**\"], principals: [\"user:ci\"], actions: [pull, push]}\n")
	w.signer = w.serve(signerHost, authority.Config{RegistryUsers: users, RehearseClaims: jobClaims(t)})
	w.serve(registryHost, authority.Config{RegistryUsers: users, RegistryConfig: filepath.Join(w.dir, "rights.yaml")})
	w.net.host(gitHost, w.repositories())
	writeExample(t, filepath.Join(w.dir, "config.json"), `{"auths":{"`+registryHost+`":{"auth":"Y2k6c2VjcmV0"}}}`) // ci:secret
	i := w.signer.Info()
	w.copy(i.SigningConfig, "signing.json")
	w.copy(i.TrustedRoot, "root.json")
	w.config("stamp.json", trust.SigningConfigSpec{TSAURL: "https://" + signerHost + "/api/v1/timestamp"})
	w.config("down.json", trust.SigningConfigSpec{LogURL: "https://log.down.example"})
	writeExample(t, filepath.Join(w.dir, "predicate.json"), `{"finding":"`+strings.Repeat(secret+" ", 4000)+`"}`)
	w.local = hmtest.Authority(t).Image("app", "content")
	if code, out := w.hallmark("key", "generate", "--prefix", "k"); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	return w
}

func (w *privateWorld) copy(from, to string) {
	w.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		w.t.Fatal(err)
	}
	writeExample(w.t, filepath.Join(w.dir, to), string(data))
}

func (w *privateWorld) config(name string, spec trust.SigningConfigSpec) {
	w.t.Helper()
	spec.Operator, spec.Start = "test", time.Now().Add(-time.Hour)
	data, err := spec.JSON()
	if err != nil {
		w.t.Fatal(err)
	}
	writeExample(w.t, filepath.Join(w.dir, name), string(data))
}

// serve runs an authority that others know by the host's name.
func (w *privateWorld) serve(host string, cfg authority.Config) *authority.Authority {
	w.t.Helper()
	cfg.Dir, cfg.URL = filepath.Join(w.t.TempDir(), "data"), "https://"+host
	var a *authority.Authority
	for try := 0; a == nil; try++ { // its port must be known, and others take ports, too
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		cfg.Listen = l.Addr().String()
		_ = l.Close()
		if a, err = authority.Open(cfg); err != nil && try == 10 {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := a.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.net.host(host, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: cfg.Listen})
		r.Out.Host = host
	}})
	return a
}

// image pushes an image of its own to the registry, as who may.
func (w *privateWorld) image(repository string) string {
	w.t.Helper()
	ref, err := registry.ParseRef(registryHost + "/" + repository + ":1")
	if err != nil {
		w.t.Fatal(err)
	}
	client := registry.NewClient(registry.Options{HTTPClient: &http.Client{Transport: pusher{w.net}}})
	d, err := testimage.Push(context.Background(), client, ref, testimage.Image{Layers: [][]testimage.File{{{Path: "content", Data: []byte(repository)}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return registryHost + "/" + repository + "@" + d.Digest.String()
}

// pusher answers as the recorder's hosts do, to ci.
type pusher struct{ net *recorder }

func (p pusher) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.SetBasicAuth("ci", "secret")
	answer := httptest.NewRecorder()
	p.net.hosts[r.URL.Host].ServeHTTP(answer, out)
	resp := answer.Result()
	resp.Request = r
	return resp, nil
}

// job is an identity token of a GitHub job whose repository is private.
func (w *privateWorld) job() string {
	w.t.Helper()
	job, _ := w.signer.Rehearsal()
	r := httptest.NewRequest("GET", job.URL+"&audience=sigstore", nil)
	r.Header.Set("Authorization", "Bearer "+job.Token)
	answer := httptest.NewRecorder()
	w.net.hosts[signerHost].ServeHTTP(answer, r)
	var token struct{ Value string }
	if err := json.Unmarshal(answer.Body.Bytes(), &token); err != nil || token.Value == "" {
		w.t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return token.Value
}

// jobClaims are of a job of the private repository o/r.
func jobClaims(t *testing.T) []byte {
	t.Helper()
	claims := map[string]string{}
	for _, name := range oidc.GitHubClaims() {
		claims[name] = "1"
	}
	claims["repository"], claims["repository_visibility"], claims["repository_owner"] = "o/r", "private", "o"
	claims["job_workflow_ref"] = "o/r/.github/workflows/release.yml@refs/heads/main"
	claims["workflow_ref"], claims["ref"] = claims["job_workflow_ref"], "refs/heads/main"
	claims["sub"], claims["event_name"], claims["runner_environment"] = "repo:o/r:ref:refs/heads/main", "push", "github-hosted"
	for _, sha := range []string{"sha", "job_workflow_sha", "workflow_sha"} {
		claims[sha] = strings.Repeat("a", 40)
	}
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// gitHandler serves the repositories below root; those called private want a login.
func gitHandler(t *testing.T, root string) http.Handler {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  append(gitrepo.Env(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/private/") {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "log in", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})
}

// recorder is a proxy that ends TLS for every host, records what is sent, and has the
// hosts that it knows answer.
type recorder struct {
	ca    []byte // PEM
	proxy *httptest.Server
	cert  tls.Certificate

	mu        sync.Mutex
	hosts     map[string]http.Handler
	exchanges []exchange
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{signerHost, registryHost, gitHost}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{hosts: map[string]http.Handler{}, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	r.proxy = httptest.NewServer(http.HandlerFunc(r.connect))
	t.Cleanup(r.proxy.Close)
	return r
}

func (r *recorder) host(name string, h http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[name] = h
}

// connect answers CONNECT and then speaks TLS as the host that was asked for.
func (r *recorder) connect(w http.ResponseWriter, req *http.Request) {
	name, _, err := net.SplitHostPort(req.Host)
	r.mu.Lock()
	h := r.hosts[name]
	r.mu.Unlock()
	if err != nil || req.Method != http.MethodConnect || h == nil {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	raw, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer raw.Close()
	_, _ = io.WriteString(raw, "HTTP/1.1 200 OK\r\n\r\n")
	conn := tls.Server(&unread{raw, buffered.Reader}, &tls.Config{Certificates: []tls.Certificate{r.cert}})
	l := &single{conn: conn, closed: make(chan struct{})}
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.exchanges = append(r.exchanges, exchange{req.Method, name, req.URL.Path, string(body)})
		r.mu.Unlock()
		if strings.Contains(req.URL.RawQuery, "broken") && req.Header.Get("Authorization") == "" { // for a token without a login
			http.Error(w, "the registry is out of order for strangers", http.StatusBadGateway)
			return
		}
		req.Body, req.RequestURI = io.NopCloser(bytes.NewReader(body)), ""
		h.ServeHTTP(w, req)
	}))
}

// unread is a connection of which something was read already.
type unread struct {
	net.Conn
	r *bufio.Reader
}

func (u *unread) Read(p []byte) (int, error) { return u.r.Read(p) }

// single is a listener for one connection.
type single struct {
	mu     sync.Mutex
	conn   net.Conn
	closed chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c != nil {
		return &ending{c, sync.OnceFunc(func() { close(s.closed) })}, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// ending is a connection whose end its listener is told.
type ending struct {
	net.Conn
	end func()
}

func (e *ending) Close() error {
	e.end()
	return e.Conn.Close()
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = nil
}

func (r *recorder) all() []exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]exchange(nil), r.exchanges...)
}

// sent are the requests to a path of a host.
func (r *recorder) sent(host, path string) (found []exchange) {
	for _, e := range r.all() {
		if e.host == host && e.path == path {
			found = append(found, e)
		}
	}
	return found
}
