package authority_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// up starts an authority and returns it with a function that ends it.
func up(t *testing.T, cfg authority.Config) (*authority.Authority, func()) {
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
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := errors.Join(<-done, a.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return a, end
}

// signedByAnyone is content's digest, a signature over it by a key of its own, and
// that key.
func signedByAnyone(t testing.TB, content string) (sum [sha256.Size]byte, sig, spki []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum = sha256.Sum256([]byte(content))
	sig, err = ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	spki, err = x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sum, sig, spki
}

// entry is a signature that can be logged.
func entry(t testing.TB, content string) string {
	t.Helper()
	sum, sig, der := signedByAnyone(t, content)
	body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{"digest": sum[:],
		"signature": map[string]any{"content": sig, "verifier": map[string]any{
			"publicKey": map[string]any{"rawBytes": der}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// logged posts an entry and returns its index.
func logged(url, body string) (string, error) {
	resp, err := http.Post(url+"/api/v2/log/entries", "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var e struct{ LogIndex string }
	if err := json.Unmarshal(data, &e); err != nil || resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%d %s", resp.StatusCode, data)
	}
	return e.LogIndex, nil
}

// entryV1 is a signature that the log for older clients takes.
func entryV1(t testing.TB, content string) string {
	t.Helper()
	sum, sig, der := signedByAnyone(t, content)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": public}}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// logsV1 posts an entry to the log for older clients, or gets it when it is there,
// and returns its id and the second of its integration.
func logsV1(url, body string) (id string, at int64, err error) {
	resp, err := http.Post(url+"/api/v1/log/entries", "application/json", strings.NewReader(body))
	if err == nil && resp.StatusCode == http.StatusConflict {
		_ = resp.Body.Close()
		resp, err = http.Get(url + resp.Header.Get("Location"))
	}
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", 0, err
	}
	var entries map[string]struct {
		IntegratedTime int64
		LogIndex       int64
	}
	if err := json.Unmarshal(data, &entries); err != nil || resp.StatusCode/100 != 2 || len(entries) != 1 {
		return "", 0, fmt.Errorf("%d %s", resp.StatusCode, data)
	}
	for id, e := range entries {
		return fmt.Sprint(id, " at ", e.LogIndex), e.IntegratedTime, nil
	}
	return "", 0, nil
}

func loggedV1(t testing.TB, url, body string) (id string, at int64) {
	t.Helper()
	id, at, err := logsV1(url, body)
	if err != nil {
		t.Fatal(err)
	}
	return id, at
}

func request(t *testing.T, method, url, host string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestEverythingIsServed(t *testing.T) {
	t.Parallel()
	a, _ := up(t, authority.Config{Dir: t.TempDir()})
	i := a.Info()
	for path, want := range map[string]string{
		"/":                                 i.URL,
		"/healthz":                          "\n", // ok, or a warning that this machine's disk is filling
		"/metrics":                          "hallmark_log_entries{log=\"127.0.0.1\"} 0\n",
		"/v2/":                              "{}",
		"/.well-known/openid-configuration": `"issuer":"` + i.URL + `"`,
		"/oauth2/keys":                      `"RS256"`,
		"/api/v2/trustBundle":               "BEGIN CERTIFICATE",
		"/api/v2/configuration":             i.URL,
		"/api/v2/checkpoint":                "127.0.0.1\n",
		"/api/v1/log":                       `"signedTreeHead":"127.0.0.1 - `,
		"/api/v1/log/publicKey":             "PUBLIC KEY",
		"/api/v1/checkpoint":                "127.0.0.1 - ",
		"/api/v1/rootCert":                  "CERTIFICATE",
		"/tuf/root.json":                    `"root"`,
		"/tuf/1.root.json":                  `"root"`,
		"/tuf/timestamp.json":               `"timestamp"`,
	} {
		status, body := request(t, "GET", i.URL+path, "")
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	for _, path := range []string{"/nothing", "/api/v1/nothing", "/api/v1/log/nothing", "/keys/ca.pem", "/tuf/../keys/ca.pem", "/authority.json"} {
		if status, body := request(t, "GET", i.URL+path, ""); status != 404 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	root, err := os.ReadFile(filepath.Join(i.Dir, "root.json"))
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(root)) != i.TUFRootSHA256 {
		t.Errorf("the checksum is not that of root.json: %v", err)
	}
	if _, served := request(t, "GET", i.TUF+"/root.json", ""); served != string(root) {
		t.Error("root.json in the folder is not the one that is served")
	}
}

// TestOtherHostsAreRefused: DNS rebinding and foreign web pages, everywhere.
func TestOtherHostsAreRefused(t *testing.T) {
	t.Parallel()
	a, _ := up(t, authority.Config{Dir: t.TempDir()})
	i := a.Info()
	port := i.Registry[strings.LastIndex(i.Registry, ":"):]
	for _, path := range []string{"/", "/v2/", "/oauth2/keys", "/.well-known/openid-configuration", "/api/v2/checkpoint", "/tuf/root.json",
		"/api/v2/signingCert", "/api/v1/timestamp", "/api/v1/log", "/nothing"} {
		for _, host := range []string{"evil.example.com", "evil.example.com" + port, "localhost" + port, "127.0.0.1", "127.0.0.1:1",
			"[::1]" + port, "127.0.0.1" + port + ".evil.example.com", i.Registry + "."} {
			if status, _ := request(t, "GET", i.URL+path, host); status != http.StatusMisdirectedRequest {
				t.Errorf("%s with Host %s: %d", path, host, status)
			}
		}
	}
	for _, h := range [][]string{
		{"Origin", "http://evil.example.com"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}, {"Sec-Fetch-Site", "same-site"},
	} {
		for _, path := range []string{"/api/v2/log/entries", "/api/v1/log/entries", "/api/v1/signingCert", "/v2/a/blobs/uploads/", "/oauth2/token"} {
			if status, _ := request(t, "POST", i.URL+path, "", h...); status != http.StatusForbidden {
				t.Errorf("POST %s with %v: %d", path, h, status)
			}
		}
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, end := up(t, authority.Config{Dir: dir})
	first := a.Info()
	body := entry(t, "one")
	index, err := logged(first.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	end()
	taken, err := net.Listen("tcp", first.Registry) // so that another port comes
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a, end = up(t, authority.Config{Dir: dir})
	second := a.Info()
	if again, err := logged(second.URL, body); err != nil || again != index {
		t.Errorf("index %s, then %s, %v", index, again, err)
	}
	if first.TUFRootSHA256 != second.TUFRootSHA256 {
		t.Error("the TUF root changed")
	}
	for _, name := range []string{"trusted_root.json", "signing_config.v0.2.json", "trust-root.yaml"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Contains(data, []byte(second.URL)) || bytes.Contains(data, []byte(first.URL)) {
			t.Errorf("%s does not name the new port: %v", name, err)
		}
	}
	end()
	if _, err := authority.Open(authority.Config{Dir: dir, Listen: "localhost:0"}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the host name changed: %v", err)
	}
	info, err := authority.Read(dir)
	if err != nil || info.URL != second.URL {
		t.Errorf("Read: %+v %v", info, err)
	}
	token, err := authority.Mint(dir, "a@example.com")
	if err != nil || token.Issuer != second.URL {
		t.Errorf("Mint: %v %v", token.Issuer, err)
	}
}

func TestStartRefusals(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users")
	// htpasswd -nbB ci secret
	if err := os.WriteFile(users, []byte("ci:$2a$04$S8pHLGxP3Vb9J4nT5bR8ZeT0rB3RgB1bN7e0mH0b5Jv3jQK1m3b1a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(foreign, "letter.txt")
	for name, tc := range map[string]struct {
		cfg  authority.Config
		kind fault.Kind
		text string
	}{
		"all addresses":            {authority.Config{Listen: ":0"}, fault.Usage, "every address"},
		"wildcard":                 {authority.Config{Listen: "0.0.0.0:0"}, fault.Usage, "every address"},
		"wildcard 6":               {authority.Config{Listen: "[::]:0"}, fault.Usage, "every address"},
		"public":                   {authority.Config{Listen: "192.0.2.1:0"}, fault.Usage, "TLS and a login"},
		"public name":              {authority.Config{Listen: "sigstore.example.com:0"}, fault.Usage, "TLS and a login"},
		"public without TLS":       {authority.Config{Listen: "192.0.2.1:0", RegistryUsers: users}, fault.Usage, "TLS and a login"},
		"public without login":     {authority.Config{Listen: "192.0.2.1:0", TLSCert: "c", TLSKey: "k"}, fault.Usage, "TLS and a login"},
		"proxied without login":    {authority.Config{Listen: "127.0.0.1:0", URL: "https://sigstore.example.com"}, fault.Usage, "TLS and a login"},
		"proxied in the clear":     {authority.Config{Listen: "127.0.0.1:0", URL: "http://sigstore.example.com", RegistryUsers: users}, fault.Usage, "https"},
		"URL with a path":          {authority.Config{Listen: "127.0.0.1:0", URL: "http://127.0.0.1:1/x"}, fault.Usage, "base URL"},
		"URL with a user":          {authority.Config{Listen: "127.0.0.1:0", URL: "http://a@127.0.0.1:1"}, fault.Usage, "base URL"},
		"TLS called http":          {authority.Config{Listen: "127.0.0.1:0", URL: "http://127.0.0.1:1", TLSCert: "c", TLSKey: "k"}, fault.Usage, "https"},
		"no port":                  {authority.Config{Listen: "127.0.0.1"}, fault.Usage, "host:port"},
		"half of TLS":              {authority.Config{Listen: "127.0.0.1:0", TLSCert: "c"}, fault.Usage, "belong together"},
		"no certificate":           {authority.Config{Listen: "127.0.0.1:0", TLSCert: "c", TLSKey: "k"}, fault.Failure, "TLS certificate"},
		"users not there":          {authority.Config{Listen: "127.0.0.1:0", RegistryUsers: users + "x"}, fault.Failure, "registry user file"},
		"users not htpasswd":       {authority.Config{Listen: "127.0.0.1:0", RegistryUsers: "authority.go"}, fault.Usage, "line 1"},
		"somebody's folder":        {authority.Config{Listen: "127.0.0.1:0", Dir: foreign}, fault.Failure, "letter.txt"},
		"a file":                   {authority.Config{Listen: "127.0.0.1:0", Dir: file}, fault.Failure, file},
		"below a file":             {authority.Config{Listen: "127.0.0.1:0", Dir: file + "/data"}, fault.Failure, file},
		"claims without a claim":   {authority.Config{Listen: "127.0.0.1:0", RehearseClaims: []byte(`{}`)}, fault.Failure, "claim"},
		"repositories without TLS": {authority.Config{Listen: "127.0.0.1:0", RehearseClaims: []byte(`{}`), RehearseServer: "http://git.example.com"}, fault.Usage, "plain HTTP to git.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.cfg.Dir == "" {
				tc.cfg.Dir = filepath.Join(t.TempDir(), "data")
			}
			a, err := authority.Open(tc.cfg)
			if err == nil {
				_ = a.Close()
				t.Fatal("started")
			}
			if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("kind %d, %v; want kind %d and %q", fault.KindOf(err), err, tc.kind, tc.text)
			}
		})
	}
	if entries, err := os.ReadDir(foreign); err != nil || len(entries) > 2 {
		t.Errorf("somebody's folder was filled: %v", entries)
	}
}

func TestOnePerFolderAndPort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, _ := up(t, authority.Config{Dir: dir})
	_, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "another hallmark up") || !strings.Contains(err.Error(), dir) ||
		!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || fault.HintOf(err) == "" {
		t.Errorf("second on the folder: %v", err)
	}
	_, err = authority.Open(authority.Config{Dir: t.TempDir(), Listen: a.Info().Registry})
	if err == nil || !strings.Contains(err.Error(), a.Info().Registry+" is taken") || fault.HintOf(err) == "" {
		t.Errorf("second on the port: %v", err)
	}
}

// TestCloseUnlocksBesideAChild: a process that is being started has copies of our
// files, and with them the lock, until it runs.
func TestCloseUnlocksBesideAChild(t *testing.T) {
	t.Parallel()
	cfg := authority.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}
	a, err := authority.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(a.Lock().Fd(), unix.F_DUPFD_CLOEXEC, 0) // as in a child
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = authority.Open(cfg); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
}

// TestSlowClient: a head that never ends does not hold a connection.
func TestGreedyClients(t *testing.T) {
	t.Parallel()
	a, _ := up(t, authority.Config{Dir: t.TempDir()})
	i := a.Info()
	if status, _ := request(t, "GET", i.URL+"/", "", "X-Large", strings.Repeat("x", 100<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large head: %d", status)
	}
	for _, path := range []string{"/api/v2/log/entries", "/api/v2/signingCert", "/api/v1/timestamp", "/oauth2/token"} {
		resp, err := http.Post(i.URL+path, "application/json", io.LimitReader(zeros{}, 8<<20))
		if err != nil {
			continue // closed while we were sending: refused as well
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s took 8 MiB: %d", path, resp.StatusCode)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// snapshot is every file of a folder but the lock.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if strings.Contains(name, "/derived/") {
			return nil // of a log: made again when it is opened, whatever it holds
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDamagedState damages every file in every way: the next start names it and
// changes nothing. Content of the registry is judged when it is asked for; see
// that package's tests.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, end := up(t, authority.Config{Dir: dir})
	for n := range 3 {
		if _, err := logged(a.Info().URL, entry(t, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	end()
	if _, err := authority.AddUser(dir, "a@example.com"); err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(b []byte) []byte{
		"truncated":         func(b []byte) []byte { return b[:len(b)/2] },
		"one byte less":     func(b []byte) []byte { return b[:len(b)-1] },
		"emptied":           func([]byte) []byte { return nil },
		"bit flipped":       func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"last bit flipped":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"first bit flipped": func(b []byte) []byte { b[0] ^= 1; return b },
	}
	files := snapshot(t, dir)
	tried := 0
	for name, good := range files {
		if name == "lock" || strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "registry") || good == "" {
			continue
		}
		for how, damage := range damages {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, damage([]byte(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, dir)
			a, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0"})
			if err == nil {
				_ = a.Close()
				t.Errorf("%s, %s: started", name, how)
			} else if !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: the error does not name it: %v", name, how, err)
			} else if fault.HintOf(err) == "" {
				t.Errorf("%s, %s: no hint: %v", name, how, err)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("%s, %s: something was changed", name, how)
			}
			tried++
			if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d damages", tried)
	if tried < 60 {
		t.Errorf("only %d damages were tried", tried)
	}
	for name := range files {
		if !strings.HasPrefix(name, "keys") && name != "oidc/oidc.key" && name != "authority.json" &&
			!strings.HasSuffix(name, ".sealed") && name != "log/entries" {
			continue
		}
		path, away := filepath.Join(dir, name), filepath.Join(t.TempDir(), "away")
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		if a, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0"}); err == nil {
			_ = a.Close()
			t.Errorf("%s was made again", name)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s missing: %v", name, err)
		}
		if err := os.Rename(away, path); err != nil {
			t.Fatal(err)
		}
	}
	up(t, authority.Config{Dir: dir}) // and it is whole again
}

// TestUnfinishedFolder: a start that was killed while making the folder is
// finished by the next one.
func TestUnfinishedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, end := up(t, authority.Config{Dir: dir})
	end()
	files := snapshot(t, dir)
	all := []string{"keys/ca.pem", "keys/tsa.pem", "keys/ct.pem", "keys/log.pem", "oidc/oidc.key", "log/checkpoint.sealed", "log/entries",
		"tuf/repository.sealed"}
	for _, left := range [][]string{all[:1], all[:2], all[:5], all, {}} {
		part := t.TempDir()
		for _, name := range left {
			path := filepath.Join(part, name)
			if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, end := up(t, authority.Config{Dir: part})
		end()
		for _, name := range left {
			// The repository is signed anew when the port is another one.
			if now := snapshot(t, part); now[name] != files[name] && name != "tuf/repository.sealed" {
				t.Errorf("%s was replaced", name)
			}
		}
	}
}

func TestConnectionsEndWithTheServer(t *testing.T) {
	t.Parallel()
	a, end := up(t, authority.Config{Dir: t.TempDir()})
	conn, err := net.Dial("tcp", a.Info().Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: ")
	start := time.Now()
	end()
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v to end beside an open connection", took)
	}
}
