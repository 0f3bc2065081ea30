package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	server "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// flippedBits answers GETs of manifests and blobs with one bit changed.
func flippedBits(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	})
}

// answering answers everything with one status and a body of the registry's kind.
func answering(status int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"errors":[{"code":"TOOMANY","message":"bad\u001b[31m day"}]}`)
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	_ = closed.Close()
	tlsServer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsServer.Close)
	for name, c := range map[string]struct {
		host string
		opts registry.Options
		kind fault.Kind
		text []string
		hint string
	}{
		"refused":      {host: refused, kind: fault.Unreachable, text: []string{"resolve", refused, "connection refused"}},
		"no such name": {host: "no-such-host.invalid", kind: fault.Unreachable, text: []string{"no-such-host.invalid", "DNS"}},
		"401":          {host: start(t, server.Config{}, answering(401)), text: []string{"login"}, hint: "docker login"},
		"403":          {host: start(t, server.Config{}, answering(403)), text: []string{"forbids"}, hint: "access"},
		"404":          {host: start(t, server.Config{}, answering(404)), text: []string{"no such tag or manifest"}},
		"421":          {host: start(t, server.Config{}, answering(421)), text: []string{"another name"}, hint: "hallmark up env"},
		"429":          {host: start(t, server.Config{}, answering(429)), kind: fault.Unreachable, text: []string{"429 Too Many Requests"}},
		"503":          {host: start(t, server.Config{}, answering(503)), kind: fault.Unreachable, text: []string{"503 Service Unavailable"}},
		"untrusted TLS": {host: strings.TrimPrefix(tlsServer.URL, "https://"), kind: fault.Unreachable, text: []string{"TLS"},
			opts: registry.Options{HTTPClient: &http.Client{Transport: httpsOnly{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo, r := open(t, c.host+"/app:v1", c.opts)
			_, err := repo.Resolve(t.Context(), r)
			if err == nil {
				t.Fatal("no error")
			}
			if fault.KindOf(err) != c.kind {
				t.Errorf("kind %d, want %d: %v", fault.KindOf(err), c.kind, err)
			}
			for _, s := range c.text {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if !strings.Contains(fault.HintOf(err), c.hint) {
				t.Errorf("hint %q", fault.HintOf(err))
			}
			if strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("%q carries an escape sequence", err)
			}
		})
	}
}

// httpsOnly speaks TLS where loopback would be spoken to in plain HTTP.
type httpsOnly struct{}

func (httpsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	return (&http.Transport{}).RoundTrip(r)
}

func TestOtherBytes(t *testing.T) {
	t.Parallel()
	s, err := server.Open(t.TempDir(), server.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	honest, liar := httptest.NewServer(s), httptest.NewServer(flippedBits(s))
	t.Cleanup(honest.Close)
	t.Cleanup(liar.Close)
	good, _ := open(t, strings.TrimPrefix(honest.URL, "http://")+"/app:v1", registry.Options{})
	desc := pushImage(t, good, "v1", "a")
	blob, err := good.PushBlob(t.Context(), "x/y", []byte("some content"))
	if err != nil {
		t.Fatal(err)
	}
	bad, _ := open(t, strings.TrimPrefix(liar.URL, "http://")+"/app:v1", registry.Options{})
	_, manifestErr := bad.Manifest(t.Context(), desc)
	_, blobErr := bad.Blob(t.Context(), blob, 1000)
	for what, err := range map[string]error{"manifest": manifestErr, "blob": blobErr} {
		if err == nil || !strings.Contains(err.Error(), "the registry sent other bytes than asked for") || fault.KindOf(err) != fault.Failure {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// ann is the only user.
func ann(_ context.Context, user, password string) (server.Principal, bool) {
	return "user:ann", user == "ann" && password == "s3cret"
}

func TestLogin(t *testing.T) {
	t.Parallel()
	host := start(t, server.Config{Login: ann}, nil)
	if strings.Contains(os.Getenv("DOCKER_CONFIG"), "hallmark") {
		t.Fatal("the environment already names a test configuration")
	}
	repo, r := open(t, host+"/app:v1", registry.Options{})
	_, err := repo.Resolve(t.Context(), r)
	if err == nil || !strings.Contains(fault.HintOf(err), "docker login "+host) || fault.KindOf(err) != fault.Failure {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// The login comes from the docker configuration and is sent to that host only.
func TestLoginFromDockerConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hallmark")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	host := start(t, server.Config{Login: ann}, nil)
	config := fmt.Sprintf(`{"auths":{%q:{"auth":"YW5uOnMzY3JldA=="}}}`, host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	repo, r := open(t, host+"/app:v1", registry.Options{})
	want := pushImage(t, repo, "v1", "a")
	if got, err := repo.Resolve(t.Context(), r); err != nil || got.Digest != want.Digest {
		t.Errorf("%v, %v", got, err)
	}
	other, r2 := open(t, start(t, server.Config{Login: func(context.Context, string, string) (server.Principal, bool) { return "user:x", true }}, nil)+"/app:v1", registry.Options{})
	if _, err := other.Resolve(t.Context(), r2); err == nil || !strings.Contains(err.Error(), "login") {
		t.Errorf("another host: %v", err)
	}
}

func TestPlainHTTPOnlyOnThisMachine(t *testing.T) {
	t.Parallel()
	var schemes sync.Map
	note := roundTripper(func(r *http.Request) (*http.Response, error) {
		schemes.Store(r.URL.Host, r.URL.Scheme)
		return nil, x509.UnknownAuthorityError{}
	})
	for _, c := range []struct {
		ref, host, want string
		plain           bool
	}{
		{"127.0.0.9:1/a", "127.0.0.9:1", "http", false},
		{"localhost:2/a", "localhost:2", "http", false},
		{"[::1]:3/a", "[::1]:3", "http", false},
		{"r.example:4/a", "r.example:4", "https", false},
		{"r.example:5/a", "r.example:5", "http", true},
		{"localhost.example:6/a", "localhost.example:6", "https", false},
		{"127.0.0.1.example:7/a", "127.0.0.1.example:7", "https", false},
		{"busybox", "registry-1.docker.io", "https", false},
	} {
		repo, r := open(t, c.ref, registry.Options{PlainHTTP: c.plain, HTTPClient: &http.Client{Transport: note}})
		_, _ = repo.Resolve(t.Context(), r)
		if got, _ := schemes.Load(c.host); got != c.want {
			t.Errorf("%s: scheme %v, want %s", c.ref, got, c.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A registry may send the client elsewhere for a blob, but not out of TLS and
// not to this machine's own services.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ref, location, want string }{
		{"r.example/app", "http://storage.example/x", "without TLS"},
		{"r.example/app", "https://127.0.0.1:8420/x", "this machine"},
		{"r.example/app", "https://localhost/x", "this machine"},
		{"r.example/app", "https://[::1]/x", "this machine"},
		{"r.example/app", "https://r.example/v2/app/loop", "more than 5 redirects"},
		{"r.example/app", "https://storage.example/x", ""},
		{"127.0.0.1:1/app", "http://localhost:2/x", ""},
	} {
		t.Run(c.location, func(t *testing.T) {
			t.Parallel()
			const blob = "the blob"
			storage := roundTripper(func(r *http.Request) (*http.Response, error) {
				answer := &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {c.location}}, Body: http.NoBody, Request: r}
				if r.URL.Path == "/x" {
					answer.StatusCode, answer.Body, answer.ContentLength = http.StatusOK, io.NopCloser(strings.NewReader(blob)), int64(len(blob))
				}
				return answer, nil
			})
			repo, _ := open(t, c.ref, registry.Options{HTTPClient: &http.Client{Transport: storage}})
			_, err := repo.Blob(t.Context(), registry.Describe("x/y", []byte(blob)), 100)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// bearerTokens asks for a token of its own token service, as most registries do.
func bearerTokens(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			fmt.Fprintf(w, `{"token":%q}`, strings.Join(r.URL.Query()["scope"], " "))
		case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer repository:app:"):
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	repo, r := open(t, start(t, server.Config{}, bearerTokens)+"/app:v1", registry.Options{})
	want := pushImage(t, repo, "v1", "a")
	if _, err := attachBundle(t.Context(), repo, want, `{}`); err != nil {
		t.Fatal(err)
	}
	if got, err := repo.Resolve(t.Context(), r); err != nil || got.Digest != want.Digest {
		t.Errorf("%v, %v", got, err)
	}
}

// Signed URLs of storage services and control characters stay out of messages.
func TestErrorsCarryNoSecrets(t *testing.T) {
	t.Parallel()
	broken := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "storage.example" {
			return nil, errors.New("GET https://storage.example/x?X-Amz-Signature=s3cret failed\x1b[2J")
		}
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://storage.example/x?X-Amz-Signature=s3cret"}}, Body: http.NoBody, Request: r}, nil
	})
	repo, _ := open(t, "r.example/app", registry.Options{HTTPClient: &http.Client{Transport: broken}})
	_, err := repo.Blob(t.Context(), registry.Describe("x/y", []byte("x")), 100)
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.ContainsRune(err.Error(), '\x1b') {
		t.Errorf("%q", err)
	}
	if !strings.Contains(err.Error(), "storage.example") || fault.KindOf(err) != fault.Unreachable {
		t.Errorf("%v", err)
	}
}
