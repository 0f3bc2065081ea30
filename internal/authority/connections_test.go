package authority_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// crowd serves h to four connections at a time and returns its address, and what
// receives once for each connection that has become idle in the crowd's eyes: a
// client reads its answer before that.
func crowd(t *testing.T, h http.HandlerFunc) (addr string, idled <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := authority.NewServer(h, slog.New(slog.DiscardHandler))
	srv.ReadHeaderTimeout = 0 // the crowd alone makes room
	limited, state := authority.NewCrowd(l, 4)
	idle := make(chan struct{}, 64)
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		state(c, s)
		if s == http.StateIdle {
			idle <- struct{}{}
		}
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(limited) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), idle
}

// ask sends a request on a new connection.
func ask(t *testing.T, addr, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	return c
}

// answered reads one answer.
func answered(c net.Conn, within time.Duration) error {
	_ = c.SetReadDeadline(time.Now().Add(within))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// TestCrowdMakesRoom: connections that wait for nothing give way, those with a
// request under way do not, and nobody waits for longer than they take.
func TestCrowdMakesRoom(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	addr, idled := crowd(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	})
	var idle []net.Conn
	for n := range 20 { // all kept alive
		c := ask(t, addr, "/")
		if err := answered(c, 10*time.Second); err != nil {
			t.Fatalf("connection %d beside idle ones: %v", n, err)
		}
		<-idled // so that they are idle in this order on a busy machine, too
		idle = append(idle, c)
	}
	if err := answered(idle[0], 10*time.Second); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the connection that was idle for longest: %v", err)
	}
	var slow []net.Conn
	for range 4 {
		slow = append(slow, ask(t, addr, "/slow"))
	}
	late := ask(t, addr, "/")
	var timeout net.Error
	if err := answered(late, 300*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the fifth request at a time: %v", err)
	}
	close(release)
	if err := answered(late, 10*time.Second); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	for n, c := range slow {
		if err := answered(c, 10*time.Second); err != nil {
			t.Errorf("request %d under way was cut off: %v", n, err)
		}
	}
}

// TestCrowdCloses: a server whose connections are all taken still ends.
func TestCrowdCloses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited, _ := authority.NewCrowd(l, 1)
	if _, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if _, err := limited.Accept(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := limited.Accept(); ended <- err }()
	if err := limited.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

var errNotLogged = errors.New("not logged")

// TestFilesRunOut: more connections than there are files keep the log waiting at
// most, and only while they last.
func TestFilesRunOut(t *testing.T) {
	t.Parallel()
	base, _ := child(t, filepath.Join(t.TempDir(), "data"), filesEnv+"=128")
	addr := strings.TrimPrefix(base, "http://")
	const patient = 2 * time.Minute
	client := &http.Client{Timeout: patient, Transport: &http.Transport{}}
	log := func(text string) error {
		resp, err := client.Post(base+"/api/v2/log/entries", "application/json", strings.NewReader(entry(t, text)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if data, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("%w: %s: %s", errNotLogged, resp.Status, data)
		}
		return nil
	}
	if err := log("before"); err != nil {
		t.Fatal(err)
	}
	var held []net.Conn
	for range 200 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			break
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /api/v2/log/entries HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\n{", addr)
		held = append(held, c)
	}
	client.Timeout = time.Second
	for n := range 3 {
		if err := log(fmt.Sprint("during ", n)); errors.Is(err, errNotLogged) {
			t.Errorf("while files are short: %v", err) // to wait is all right
		}
	}
	for _, c := range held {
		_ = c.Close()
	}
	client.Timeout = patient
	for n := range 3 {
		if err := log(fmt.Sprint("after ", n)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// TestSilentConnections: however many connect and say nothing, or only half of a
// head, who has something to say is answered, though no timeout ever ends them.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	addr, _ := crowd(t, func(http.ResponseWriter, *http.Request) {})
	for n := range 40 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n%2 == 0 {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHo")
		}
	}
	if err := answered(ask(t, addr, "/"), 2*time.Minute); err != nil {
		t.Error(err)
	}
}
