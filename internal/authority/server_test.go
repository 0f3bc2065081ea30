package authority_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// pipes is a listener whose connections are in memory, so that time can be fake.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestStalls: who stops sending or receiving is cut off; who is only slow is not.
func TestStalls(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		client func(c net.Conn) (string, error) // what it reads in the end
		want   string
		atMost time.Duration
	}{
		"a head that never ends": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n")
			return "", nil
		}, "", 15 * time.Second},
		"a body that never ends": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
			return "", nil
		}, "400", 40 * time.Second},
		"a slow body": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n")
			for range 10 {
				time.Sleep(20 * time.Second)
				if _, err := c.Write([]byte("x")); err != nil {
					return "", nil
				}
			}
			return "", nil
		}, "400", 85 * time.Second}, // ended after 60 s, which this client sees with its next byte
		"a body that comes in drops": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
			for range 100000 {
				if _, err := c.Write([]byte("x")); err != nil {
					return "", nil
				}
				time.Sleep(29 * time.Second)
			}
			return "", nil
		}, "400", 95 * time.Second},
		"a body in drops after a quick start": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("x", 100<<10))
			for range 100000 {
				if _, err := c.Write([]byte("x")); err != nil {
					return "", nil
				}
				time.Sleep(20 * time.Second)
			}
			return "", nil
		}, "400", 200 * time.Second},
		"a chunked body in drops": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 10000 {
				if _, err := c.Write([]byte("1\r\nx\r\n")); err != nil {
					return "", nil
				}
				time.Sleep(15 * time.Second)
			}
			return "", nil
		}, "400", 95 * time.Second},
		"a large upload over a slow line": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 8192000\r\n\r\n")
			for range 8000 {
				time.Sleep(time.Second)
				if _, err := c.Write(make([]byte, 1024)); err != nil {
					return "", err
				}
			}
			return "", nil
		}, "200", 3 * time.Hour},
		"a large upload with pauses": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 6553600\r\n\r\n")
			for range 100 {
				time.Sleep(28 * time.Second)
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return "", err
				}
			}
			return "", nil
		}, "200", time.Hour},
		"a refused request with a body in drops": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: y\r\nContent-Length: 100000\r\n\r\n")
			for range 100000 {
				if _, err := c.Write([]byte("x")); err != nil {
					return "", nil
				}
				time.Sleep(29 * time.Second)
			}
			return "", nil
		}, "", 95 * time.Second},
		"OPTIONS * with a body in drops": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			for range 1000 {
				if _, err := c.Write([]byte("x")); err != nil {
					return "", nil
				}
				time.Sleep(29 * time.Second)
			}
			return "", nil
		}, "", 95 * time.Second},
		"an idle connection": {func(c net.Conn) (string, error) {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
			return "", nil
		}, "200", 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						http.Error(w, "stalled", http.StatusBadRequest)
						return
					}
					w.WriteHeader(http.StatusOK)
				})
				srv := authority.NewServer(authority.Guarded(&url.URL{Scheme: "http", Host: "x"}, echo), slog.New(slog.DiscardHandler))
				l := make(pipes)
				go func() { _ = srv.Serve(l) }()
				ours, theirs := net.Pipe()
				l <- theirs
				start := time.Now()
				answer := make(chan string)
				go func() { // net.Pipe has no buffer: read all the time
					data, _ := io.ReadAll(ours)
					answer <- string(data)
				}()
				if _, err := tc.client(ours); err != nil {
					t.Error(err)
				}
				got := <-answer
				if took := time.Since(start); took > tc.atMost {
					t.Errorf("held for %v", took)
				}
				if !strings.Contains(got, tc.want) {
					t.Errorf("answer %q, want %s", got, tc.want)
				}
				close(l)
				_ = srv.Close()
			})
		})
	}
}

// TestStalledReader: a client that does not take its answer does not keep us writing.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error, 1)
		endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					done <- err
					return
				}
			}
		})
		srv := authority.NewServer(authority.Stalls(endless), slog.New(slog.DiscardHandler))
		l := make(pipes)
		go func() { _ = srv.Serve(l) }()
		ours, theirs := net.Pipe()
		l <- theirs
		fmt.Fprint(ours, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := bufio.NewReader(ours).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := <-done; err == nil || time.Since(start) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(l)
		_ = srv.Close()
	})
}

// TestSlowReader: who takes a kilobyte or more each second gets it all, however much is
// written at a time, also after a quick start; who takes less is ended.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	for name, tc := range map[string]struct {
		atOnce int // bytes that are written at a time
		quick  int // bytes that are taken as they come
		second int // bytes that are taken each second then
		whole  bool
	}{
		"all at once":              {size, 0, 8 << 10, true},
		"a blob's pieces":          {128 << 10, 0, 8 << 10, true},
		"slowly":                   {size, 0, 1200, true},
		"slowly, small":            {32 << 10, 0, 1200, true},
		"slower after a start":     {size, 1 << 20, 5 << 10, true},
		"too slowly":               {size, 0, 500, false},
		"too slowly after a start": {128 << 10, 1 << 20, 500, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					for range size / tc.atOnce {
						if _, err := w.Write(make([]byte, tc.atOnce)); err != nil {
							return
						}
					}
				})
				srv := authority.NewServer(authority.Stalls(answer), slog.New(slog.DiscardHandler))
				l := make(pipes)
				go func() { _ = srv.Serve(l) }()
				ours, theirs := net.Pipe()
				l <- theirs
				fmt.Fprint(ours, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
				got := 0
				for buf := make([]byte, tc.second); ; {
					n, err := io.ReadFull(ours, buf)
					if got += n; err != nil {
						break
					}
					if got > tc.quick {
						time.Sleep(time.Second)
					}
				}
				if whole := got > size; whole != tc.whole { // with the head
					t.Errorf("%d of %d bytes", got, size)
				}
				close(l)
				_ = srv.Close()
			})
		})
	}
}

// htpasswd writes a user file with one user.
func htpasswd(t *testing.T, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("# people\n\n"+user+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLogins(t *testing.T) {
	t.Parallel()
	path := htpasswd(t, "ci", "secret")
	l, err := authority.LoadLogins(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from memory
		for _, tc := range []struct {
			user, password string
			want           bool
		}{{"ci", "secret", true}, {"ci", "wrong", false}, {"ci", "", false}, {"CI", "secret", false}, {"", "secret", false},
			{"c", "isecret", false}, {"ci", "secret\x00", false}, {"ci", strings.Repeat("x", 100), false}} {
			if got := l.Check(tc.user, tc.password); got != tc.want {
				t.Errorf("%q %q: %v", tc.user, tc.password, got)
			}
		}
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.TrimSpace(string(good[strings.Index(string(good), ":")+1:]))
	for name, bad := range map[string]string{
		"empty":      "",
		"comments":   "# nobody\n",
		"plain text": "ci:secret\n",
		"MD5":        "ci:$apr1$abcdefgh$xxxxxxxxxxxxxxxxxxxxxx\n",
		"SHA-1":      "ci:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n",
		"no user":    ":" + hash + "\n",
		"no colon":   "ci\n",
		"twice":      "ci:" + hash + "\nci:" + hash + "\n",
		"too large":  strings.Repeat("#", 1<<20+1),
		"long line":  "ci:" + strings.Repeat("x", 70000),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.LoadLogins(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "$") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate makes a TLS certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"sigstore.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, data := range map[string][]byte{cert: certPEM, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return cert, key, roots
}

// TestBeyondLoopback: with TLS and a login it is served to others, and to nobody else.
func TestBeyondLoopback(t *testing.T) {
	t.Parallel()
	cert, key, roots := certificate(t)
	cfg := authority.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0", URL: "https://sigstore.example.com", TLSCert: cert, TLSKey: key,
		RegistryUsers: htpasswd(t, "ci", "secret")}
	wrong := cfg
	wrong.URL = "https://other.example.com"
	if _, err := authority.Open(wrong); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), cert) {
		t.Errorf("a certificate for another name: %v", err)
	}
	cfg.Dir = t.TempDir()
	a, err := authority.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	i := a.Info()
	if i.URL != "https://sigstore.example.com" || i.Registry != "sigstore.example.com" || i.Host != "sigstore.example.com" {
		t.Errorf("%+v", i)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}

	cfg = authority.Config{Dir: t.TempDir(), TLSCert: cert, TLSKey: key, RegistryUsers: cfg.RegistryUsers}
	b, _ := up(t, cfg)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, tc := range []struct {
		path, user, password string
		want                 int
	}{
		{"/v2/", "", "", 401}, {"/v2/", "ci", "wrong", 401}, {"/v2/", "ci", "secret", 200}, {"/v2/_catalog", "", "", 401},
		{"/v2/a/referrers/sha256:" + strings.Repeat("0", 64), "", "", 401}, {"/oauth2/keys", "", "", 200},
	} {
		req, err := http.NewRequest("GET", b.Info().URL+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.user != "" {
			req.SetBasicAuth(tc.user, tc.password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("%s as %s: %d, want %d", tc.path, tc.user, resp.StatusCode, tc.want)
		}
	}
	resp, err := client.Get("http://" + b.Info().Registry + "/v2/")
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP on the TLS port: %d", resp.StatusCode)
		}
	}
}

func TestOwnHost(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for base, hosts := range map[string]map[string]bool{
		"https://sigstore.example.com": {"sigstore.example.com": true, "Sigstore.Example.COM": true, "sigstore.example.com:443": true,
			"sigstore.example.com:80": false, "sigstore.example.com:8443": false, "example.com": false, "": false, ":443": false},
		"http://127.0.0.1:8420": {"127.0.0.1:8420": true, "127.0.0.1": false, "127.0.0.1:80": false, "localhost:8420": false,
			"127.0.0.1:84200": false, "127.0.0.1:8420:8": false},
		"http://[::1]:8420":     {"[::1]:8420": true, "::1:8420": false, "[::1]": false},
		"https://a.example:443": {"a.example": true, "a.example:443": true},
	} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range hosts {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = host
			w := httptest.NewRecorder()
			authority.OwnHost(u, ok).ServeHTTP(w, r)
			if got := w.Code == http.StatusOK; got != want {
				t.Errorf("%s with Host %q: %d", base, host, w.Code)
			}
		}
	}
}
