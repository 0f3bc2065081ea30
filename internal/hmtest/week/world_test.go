package week_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// issuer is an OpenID Connect issuer with RS256 keys, its discovery document and its
// key set, as GitHub and GitLab have them.
type issuer struct {
	url    string
	claims map[string]any // of a job; those that every token has come on top

	mu  sync.Mutex
	key *rsa.PrivateKey
	kid string
	out bool // it answers 503
}

// newIssuer serves one at an address until the test ends.
func newIssuer(t *testing.T, address string, claims map[string]any) *issuer {
	t.Helper()
	i := &issuer{url: "http://" + address, claims: claims}
	i.replaceKey(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: i, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return i
}

// replaceKey makes the issuer sign with a new key, and forget the one before.
func (i *issuer) replaceKey(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	sum := sha256.Sum256(key.N.Bytes())
	i.key, i.kid = key, text64(sum[:8])
}

// set says whether it is out.
func (i *issuer) set(out bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.out = out
}

func text64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	public, kid, out := i.key.PublicKey, i.kid, i.out
	i.mu.Unlock()
	if out {
		http.Error(w, "out", http.StatusServiceUnavailable)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"}}
	case "/keys":
		answer = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
			"n": text64(public.N.Bytes()), "e": text64(big.NewInt(int64(public.E)).Bytes())}}}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// token is one for a job that runs now, for five minutes.
func (i *issuer) token(t *testing.T) string {
	t.Helper()
	i.mu.Lock()
	key, kid := i.key, i.kid
	i.mu.Unlock()
	now := time.Now()
	claims := maps.Clone(i.claims)
	maps.Copy(claims, map[string]any{"iss": i.url, "aud": "sigstore", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text64(data)
	}
	signed := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": kid}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + text64(sig)
}

// hubClaims are those of a GitHub Actions job (docs.github.com, "OpenID Connect
// reference"), labClaims those of a GitLab job (docs.gitlab.com, "ID token payload").
var (
	hubClaims = map[string]any{
		"sub": "repo:acme/app:ref:refs/heads/main", "ref": "refs/heads/main", "sha": "0123456789012345678901234567890123456789",
		"job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main", "job_workflow_sha": "0123456789012345678901234567890123456789",
		"workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main", "workflow_sha": "0123456789012345678901234567890123456789",
		"event_name": "push", "repository": "acme/app", "repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2",
		"repository_visibility": "private", "workflow": "release", "run_id": "3", "run_attempt": "1", "runner_environment": "self-hosted",
	}
	labClaims = map[string]any{
		"sub": "project_path:tools/app:ref_type:branch:ref:main", "project_path": "tools/app", "project_id": "20", "namespace_path": "tools", "namespace_id": "5",
		"pipeline_source": "push", "pipeline_id": "30", "job_id": "40", "ref": "main", "ref_type": "branch", "sha": "0123456789012345678901234567890123456789",
		"ci_config_ref_uri": "gitlab.example.com/tools/app//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "0123456789012345678901234567890123456789",
		"runner_environment": "self-hosted", "runner_id": 7, "project_visibility": "internal",
	}
)

const (
	hubIdentity = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
	labIdentity = "https://gitlab.example.com/tools/app//.gitlab-ci.yml@refs/heads/main"
)

// parts are what may be out, by the paths of it, and how: a part that is gone closes
// connections, one that is overloaded answers 503.
var parts = map[string]struct {
	out  func(*http.Request) bool
	gone bool
}{
	"CA":                    {func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/signingCert") }, true},
	"timestamp authority":   {func(r *http.Request) bool { return r.URL.Path == "/api/v1/timestamp" }, false},
	"log":                   {func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/api/v2/log/") }, true},
	"newest log":            {func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/log-3/api/v2/log/") }, false},
	"log for older clients": {func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/v1/log/") }, false},
	"TUF repository":        {func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/tuf/") }, true},
	"registry":              {func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/") }, false},
	"registry for writing": {func(r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, "/v2/") && r.Method != http.MethodGet && r.Method != http.MethodHead
	}, false},
}

// balancer stands before hallmark up, and makes the outages.
type balancer struct {
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	out   map[string]bool // of parts
	asked map[string]int  // how often in vain
}

func newBalancer(t *testing.T, address, behind string) *balancer {
	t.Helper()
	b := &balancer{out: map[string]bool{}, asked: map[string]int{}}
	b.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: behind})
			r.Out.Host = r.In.Host
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return b
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	for name := range b.out {
		if p := parts[name]; p.out(r) {
			b.asked[name]++
			b.mu.Unlock()
			if p.gone {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, fmt.Sprintf("the %s is overloaded", name), http.StatusServiceUnavailable)
			return
		}
	}
	b.mu.Unlock()
	b.proxy.ServeHTTP(w, r)
}

// set says whether a part is out. One that comes back must have been asked in vain:
// else its outage tested nothing.
func (b *balancer) set(t *testing.T, name string, out bool) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := parts[name]; !known {
		t.Errorf("%q is no part of an authority", name)
		return
	}
	if out {
		b.out[name], b.asked[name] = true, 0
		return
	}
	if delete(b.out, name); b.asked[name] == 0 {
		t.Errorf("nobody asked the %s while it was out", name)
	}
}
