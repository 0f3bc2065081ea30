package registry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

const killEnv = "HALLMARK_TEST_REGISTRY_DIR"

// TestMain is also the child of TestKill: a registry on the folder in killEnv that
// collects garbage again and again, with a clock by which nothing on the disk is young.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func serve(dir string) error {
	s, err := registry.Open(dir, registry.Config{Now: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			if _, err := s.Collect(context.Background(), registry.Schedule{Grace: registry.DefaultGrace}, false); err != nil {
				fmt.Println("error:", err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, s)
}

// child starts a registry in a process of its own.
func child(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if url = strings.TrimSpace(line); err != nil || !strings.HasPrefix(url, "http") {
		t.Fatalf("child said %q, %v", line, err)
	}
	return url, kill
}

// promises are what a registry said: an empty string is something that was removed.
type promises struct {
	mu   sync.Mutex
	body map[string]string // by path
	open map[string]bool   // paths whose last change was not answered
	n    int               // acknowledged changes
}

// begin is called before a change: until it is acknowledged, either state is right.
func (p *promises) begin(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[path] = true
}

func (p *promises) acknowledged(path, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, path)
	p.body[path] = body
	p.n++
}

// work pushes an image in chunks, tags it, signs it, mounts its layer elsewhere,
// and removes every third, until the registry is gone.
func (p *promises) work(url, who string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	do := func(want int, method, path, contentType, body string) (http.Header, bool) {
		req, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			return nil, false
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := client.Do(req)
		if err != nil {
			return nil, false
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, false
		}
		return resp.Header, resp.StatusCode == want
	}
	blob := func(data string) bool {
		h, ok := do(202, "POST", "/v2/app/blobs/uploads/", "", "")
		if !ok {
			return false
		}
		half := len(data) / 2
		if h, ok = do(202, "PATCH", h.Get("Location"), "", data[:half]); !ok {
			return false
		}
		_, ok = do(201, "PUT", h.Get("Location")+"?digest="+string(evidence.SHA256([]byte(data))), "", data[half:])
		return ok
	}
	put := func(repo, ref, body string) bool {
		digest := "/v2/" + repo + "/manifests/" + string(evidence.SHA256([]byte(body)))
		path := "/v2/" + repo + "/manifests/" + ref
		p.begin(path)
		if _, ok := do(201, "PUT", path, ociManifest, body); !ok {
			return false
		}
		p.acknowledged(path, body)
		p.acknowledged(digest, body)
		return true
	}
	for n := 0; ; n++ {
		layer := fmt.Sprintf("layer %s %d %s", who, n, strings.Repeat("x", n*97%5000))
		m := manifest(layer, "")
		sig := manifest(layer, `,"subject":`+desc(ociManifest, m))
		d := string(evidence.SHA256([]byte(m)))
		if !blob("{}") || !blob(layer) || !put("app", "moved-by-"+who[strings.IndexByte(who, '.')+1:], m) || !put("app", string(evidence.SHA256([]byte(sig))), sig) {
			return
		}
		p.acknowledged("/v2/app/blobs/"+string(evidence.SHA256([]byte(layer))), layer)
		for _, b := range []string{"{}", layer} {
			if _, ok := do(201, "POST", "/v2/copy/blobs/uploads/?from=app&mount="+string(evidence.SHA256([]byte(b))), "", ""); !ok {
				return
			}
		}
		if !put("copy", d, m) {
			return
		}
		if n%3 == 2 {
			path := "/v2/copy/manifests/" + d
			p.begin(path)
			if _, ok := do(202, "DELETE", path, "", ""); !ok {
				return
			}
			p.acknowledged(path, "")
		}
	}
}

// check holds a registry to its promises.
func (p *promises) check(t *testing.T, url string) {
	t.Helper()
	for path, want := range p.body {
		if p.open[path] {
			continue // neither answer would be wrong
		}
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		ok := resp.StatusCode == 200 && string(got) == want
		if want == "" {
			ok = resp.StatusCode == 404
		}
		if err != nil || !ok {
			t.Errorf("%s: %d, %d bytes, %v; promised %d bytes", path, resp.StatusCode, len(got), err, len(want))
		}
	}
}

// whole checks that every file that can be served is what its name says.
func whole(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "repos"), func(path string, e fs.DirEntry, err error) error {
		kind := filepath.Base(filepath.Dir(filepath.Dir(path)))
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") || kind != "_blobs" && kind != "_manifests" {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && evidence.SHA256(data).Hex() != e.Name() {
			t.Errorf("%s does not hold what its name says", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestKill kills a registry at random points while clients push, mount, sign and
// delete and it collects garbage: whatever it acknowledged holds, every time.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &promises{body: map[string]string{}, open: map[string]bool{}}
	const rounds = 25
	for round := range rounds {
		url, kill := child(t, dir)
		p.check(t, url)
		if t.Failed() {
			t.Fatalf("after %d kills", round)
		}
		// What was cut off in its change may be either from here on.
		maps.DeleteFunc(p.open, func(path string, _ bool) bool { delete(p.body, path); return true })
		before, most := p.n, rand.IntN(30)
		var workers sync.WaitGroup
		for w := range 3 {
			workers.Go(func() { p.work(url, fmt.Sprintf("%d.%d", round, w)) })
		}
		for enough := false; !enough; time.Sleep(time.Millisecond) { // however long the machine takes
			p.mu.Lock()
			enough = p.n > before+most
			p.mu.Unlock()
		}
		kill()
		workers.Wait()
		whole(t, dir)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
	url, _ := child(t, dir)
	p.check(t, url)
	t.Logf("%d changes were acknowledged, %d things promised", p.n, len(p.body))
}
