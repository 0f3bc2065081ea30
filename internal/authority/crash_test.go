package authority_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// TestMain is also the process of child: an authority on the folder in crashEnv.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		if n, err := strconv.ParseUint(os.Getenv(filesEnv), 10, 64); err == nil {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
		}
		a, err := authority.Open(authority.Config{Dir: dir, Listen: cmp.Or(os.Getenv(listenEnv), "127.0.0.1:0")})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(a.Info().URL)
		if err := a.Serve(context.Background()); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	crashEnv = "HALLMARK_TEST_CRASH_DIR"
	filesEnv = "HALLMARK_TEST_CRASH_FILES" // how many it may open

	listenEnv = "HALLMARK_TEST_CRASH_LISTEN"
)

// child starts an authority in a process of its own.
func child(t *testing.T, dir string, env ...string) (url string, kill func()) {
	t.Helper()
	url, said, kill := tryChild(t, dir, env...)
	if url == "" {
		t.Fatalf("child said %q", said)
	}
	return url, kill
}

// tryChild is child, but that an authority that does not start is no failure: it says why.
func tryChild(t *testing.T, dir string, env ...string) (url, said string, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), env...), crashEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if url = strings.TrimSpace(line); err != nil || !strings.HasPrefix(url, "http") {
		return "", line, kill
	}
	return url, "", kill
}

// acknowledged is what the authority said that it has.
type acknowledged struct {
	mu       sync.Mutex
	manifest map[string]string // path to body
	indexes  map[string]string // log entry to its index
	v1       map[string]string // entry of the log for older clients to its id and time
}

// await waits until n more of each kind are acknowledged, however long the
// machine takes for them.
func (a *acknowledged) await(t *testing.T, n int) {
	t.Helper()
	count := func() (int, int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.manifest), len(a.indexes)
	}
	manifests, entries := count()
	for range 60_000 {
		if m, e := count(); m >= manifests+n && e >= entries+n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("nothing is acknowledged any more")
}

// work pushes and logs until the authority is gone.
func (k *acknowledged) work(t *testing.T, url, who string) {
	for n := 0; ; n++ {
		blob := fmt.Sprintf("blob %s %d", who, n)
		d := evidence.SHA256([]byte(blob))
		if status, err := send("POST", url+"/v2/app/blobs/uploads/?digest="+string(d), "", blob); err != nil || status != 201 {
			return
		}
		m := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":"x/y","digest":%q,"size":1}}`,
			d, len(blob), evidence.SHA256(nil))
		path := "/v2/app/manifests/" + string(evidence.SHA256([]byte(m)))
		if status, err := send("PUT", url+path, "application/vnd.oci.image.manifest.v1+json", m); err != nil || status != 201 {
			return
		}
		body := entry(t, blob)
		index, err := logged(url, body)
		old := entryV1(t, blob)
		id, at, errV1 := logsV1(url, old)
		k.mu.Lock()
		if errV1 == nil {
			k.v1[old] = fmt.Sprint(id, " ", at)
		}
		k.manifest[path] = m
		if err == nil {
			k.indexes[body] = index
		}
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (k *acknowledged) check(t *testing.T, url string) {
	t.Helper()
	status, referrers := request(t, "GET", url+"/v2/app/referrers/"+string(evidence.SHA256(nil)), "")
	if status != 200 {
		t.Fatalf("referrers: %d %s", status, referrers)
	}
	for path, want := range k.manifest {
		if status, got := request(t, "GET", url+path, ""); status != 200 || got != want {
			t.Errorf("%s: %d %s", path, status, got)
		}
		if !strings.Contains(referrers, filepath.Base(path)) {
			t.Errorf("%s is no referrer any more", path)
		}
	}
	for body, want := range k.v1 {
		if id, at, err := logsV1(url, body); err != nil || fmt.Sprint(id, " ", at) != want {
			t.Errorf("entry %s of the log for older clients is now %s %d, %v", want, id, at, err)
		}
	}
	for body, want := range k.indexes {
		if got, err := logged(url, body); err != nil || got != want {
			t.Errorf("entry %s is now %s, %v", want, got, err)
		}
	}
}

func send(method, url, contentType, body string) (int, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
