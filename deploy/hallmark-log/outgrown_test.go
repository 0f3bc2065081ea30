package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

const page = "../../docs/outgrown.md"

// move is the page's story: its commands, in a folder, with ports of the test's own.
type move struct {
	t     *testing.T
	dir   string
	env   []string
	ports map[string]string // by those of the page

	servers map[string]*server // by command line
}

// server is a program that runs until it is stopped.
type server struct {
	cmd   *exec.Cmd
	out   output.Buffer
	ended chan struct{}
}

var (
	serverLine = regexp.MustCompile(`^(hallmark up|hallmark-log serve|hallmark authority replica|crane registry serve)( |$)`)
	address    = regexp.MustCompile(`127\.0\.0\.1:[0-9]{4}\b`)
)

// here is a text of the page with the test's ports.
func (m *move) here(text string) string {
	return address.ReplaceAllStringFunc(text, func(a string) string {
		if m.ports[a] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				m.t.Fatal(err)
			}
			m.ports[a] = l.Addr().String()
			_ = l.Close()
		}
		return m.ports[a]
	})
}

// do runs one line: a server until it is ready, anything else to its end.
func (m *move) do(line string) {
	m.t.Helper()
	began := time.Now()
	if err := m.try(line); err != nil {
		m.t.Fatalf("%s\n%v", line, err)
	}
	m.t.Logf("%s (%v)", line, time.Since(began).Round(time.Millisecond))
}

func (m *move) try(line string) error {
	here := m.here(line)
	if serverLine.MatchString(here) {
		return m.serve(line, here)
	}
	cmd := exec.Command("bash", "-c", here)
	cmd.Dir, cmd.Env = m.dir, m.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func (m *move) serve(line, here string) error {
	s := &server{ended: make(chan struct{})}
	s.cmd = exec.Command("bash", "-c", "exec "+here)
	s.cmd.Dir, s.cmd.Env = m.dir, m.env
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	m.servers[line] = s
	m.t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if out := s.out.String(); strings.Contains(out, " is ready: ") || strings.Contains(out, "serving on port") {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("it ended: " + s.out.String())
		default:
		}
	}
	return errors.New("it is not ready: " + s.out.String())
}

// balance is the balancer of the page's table, on the address that hallmark up had.
func (m *move) balance(text string) {
	_, table, found := strings.Cut(text, "| path | goes to |\n|---|---|\n")
	if !found {
		m.t.Fatal("the page has no table of paths")
	}
	routes := map[string][]string{}
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			break
		}
		routes[strings.Trim(cells[1], " `")] = strings.Fields(m.here(cells[2]))
	}
	if len(routes) != 10 {
		m.t.Fatalf("the page's table has %d rows", len(routes))
	}
	l, err := net.Listen("tcp", m.here("127.0.0.1:8420"))
	if err != nil {
		m.t.Fatal(err)
	}
	proxy := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.Out.Host = r.In.Host
		},
		Transport: &balancer{routes: routes},
		ErrorLog:  log.New(io.Discard, "", 0),
	}}
	go func() { _ = proxy.Serve(l) }()
	m.t.Cleanup(func() { _ = proxy.Close() })
}

// balancer sends a request to those that its path names, in turn, and to the next one
// when one is not there.
type balancer struct {
	routes map[string][]string
	turn   atomic.Int64
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	var best string
	for prefix := range b.routes {
		if strings.HasPrefix(r.URL.Path, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	var last error
	to := b.routes[best]
	for range to {
		one := to[int(b.turn.Add(1))%len(to)]
		next := r.Clone(r.Context())
		next.URL.Host, next.Body = one, io.NopCloser(bytes.NewReader(body))
		resp, err := http.DefaultTransport.RoundTrip(next)
		if err == nil {
			return resp, nil
		}
		last = err
	}
	return nil, last
}

// commands are the ```bash blocks of the page, a line each.
func commands(text string) (lines []string) {
	for _, block := range strings.Split(text, "\n```bash\n")[1:] {
		code, _, _ := strings.Cut(block, "\n```")
		lines = append(lines, strings.Split(code, "\n")...)
	}
	return lines
}

// built is hallmark, for all tests of the package.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func hallmark(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "hallmark-built-"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", built.dir, "./cmd/hallmark")
		build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "hallmark")
}

func newMove(t *testing.T, text string) *move {
	t.Helper()
	m := &move{t: t, dir: t.TempDir(), ports: map[string]string{}, servers: map[string]*server{}}
	bin := t.TempDir()
	if err := os.Symlink(hallmark(t), filepath.Join(bin, "hallmark")); err != nil {
		t.Fatal(err)
	}
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "hallmark-log"), []byte("#!/bin/sh\n"+asProgram+"=1 exec "+self+` "$@"`+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	m.env = []string{"PATH=" + bin + ":" + builtTools() + ":" + os.Getenv("PATH"), "HOME=" + home, "USER=alice"}
	for name, file := range map[string]string{"HALLMARK_TRUSTED_ROOT": "trusted_root.json", "HALLMARK_SIGNING_CONFIG": "signing_config.v0.2.json"} {
		m.env = append(m.env, name+"="+filepath.Join(m.dir, "sigstore", file))
	}
	_, config, found := strings.Cut(text, "\n```yaml\n")
	config, _, closed := strings.Cut(config, "\n```")
	if !found || !closed {
		t.Fatal("the page has no configuration")
	}
	m.write("log.yaml", []byte(m.here(config)+"\n"))
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "app", Mode: 0o644, Size: 3}), second(w.Write([]byte("app"))), w.Close()); err != nil {
		t.Fatal(err)
	}
	m.write("layer.tar", layer.Bytes())
	m.write("app.txt", []byte("an app\n"))
	return m
}

func second(_ int, err error) error { return err }

func (m *move) write(name string, data []byte) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), data, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// TestThePage runs docs/outgrown.md: an authority in use, whose images, log, CA and TSA
// move away from it, one after the other.
func TestThePage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	m := newMove(t, text)
	const token = `"$(hallmark token --data sigstore --email alice@example.com)"`
	const verify = "hallmark verify --identity alice@example.com --issuer http://127.0.0.1:8420 "
	for _, line := range []string{
		"hallmark up --data sigstore --listen 127.0.0.1:8420",
		"crane registry serve --address 127.0.0.1:5000",
		"crane append --insecure -f layer.tar -t 127.0.0.1:8420/app:1.0",
		"hallmark sign --identity-token " + token + " 127.0.0.1:8420/app:1.0",
		"hallmark sign --identity-token " + token + " app.txt --bundle before.sigstore.json",
	} {
		m.do(line)
	}
	balanced := false
	lines := commands(text)
	if len(lines) < 15 {
		t.Fatalf("the page has %d commands", len(lines))
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "hallmark authority move-log") {
			m.balance(text)
			balanced = true
		}
		m.do(line)
	}
	if !balanced {
		t.Fatal("the page moves no log")
	}
	sign := "hallmark sign --identity-token " + token + " app.txt --bundle after.sigstore.json"
	for _, line := range lines { // a replica dies, and nobody notices
		if strings.HasPrefix(line, "hallmark authority replica") {
			s := m.servers[line]
			_ = s.cmd.Process.Kill()
			<-s.ended
			break
		}
	}
	m.do(sign)
	for _, bundle := range []string{"before", "after"} {
		m.do(verify + "app.txt --bundle " + bundle + ".sigstore.json")
		m.do("cosign verify-blob --bundle " + bundle + ".sigstore.json --trusted-root sigstore/trusted_root.json --use-signed-timestamps " +
			"--certificate-identity alice@example.com --certificate-oidc-issuer http://127.0.0.1:8420 app.txt")
	}
	// The log's writer dies, and another one goes on.
	serve := lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "hallmark-log serve") })]
	s := m.servers[serve]
	_ = s.cmd.Process.Kill()
	<-s.ended
	m.do(serve)
	m.do("rm after.sigstore.json")
	m.do(sign)
	m.do(verify + "app.txt --bundle after.sigstore.json")
	m.do("hallmark log verify")
}

// TestConfigurationOfThePage: the page's table of storages has every member.
func TestConfigurationOfThePage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"origin:", "key:", "listen:", "extends:", "storage:", "driver:", "path:", "`dsn_file`", "`bucket`", "`prefix`", "`spanner`",
		"`checkpoint_every`", "`password_env`", "`posix`", "`mysql`", "`aws`", "`gcp`", "tls:"} {
		if !strings.Contains(string(data), word) {
			t.Errorf("docs/outgrown.md says nothing of %s", word)
		}
	}
}
