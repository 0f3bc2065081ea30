package registry_test

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// damages are what a disk or a stranger does to a file.
var damages = map[string]func([]byte) []byte{
	"bit flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	"truncated":   func(b []byte) []byte { return b[:len(b)/2] },
	"emptied":     func([]byte) []byte { return nil },
	"grown":       func(b []byte) []byte { return append(b, '\n') },
}

// TestDamageIsNeverServed damages every file of a repository in every way.
func TestDamageIsNeverServed(t *testing.T) {
	t.Parallel()
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := start(t, dir, registry.Config{})
			m, d := c.pushImage("app", "v1", "layer")
			sig := manifest("layer", `,"subject":`+desc(ociManifest, m))
			c.want(c.do("PUT", "/v2/app/manifests/sig", ociManifest, sig), 201, "")
			sigDigest := evidence.SHA256([]byte(sig))
			blob := string(evidence.SHA256([]byte("layer")))
			asks := map[string][]string{
				filepath.Join("_tags", "v1"):                           {"manifests/v1"},
				filepath.Join("_manifests", "sha256", d.Hex()):         {"manifests/v1", "manifests/" + string(d)},
				filepath.Join("_manifests", "sha256", sigDigest.Hex()): {"manifests/sig", "referrers/" + string(d)},
				filepath.Join("_blobs", "sha256", blob[7:]):            {"blobs/" + blob},
			}
			for file, paths := range asks {
				path := filepath.Join(dir, "repos", "app", file)
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				bad := damage(append([]byte{}, good...))
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, p := range paths {
					r := c.want(c.do("GET", "/v2/app/"+p, "", "", "Range", ""), 500, "UNKNOWN")
					if strings.Contains(r.body, dir) || !strings.Contains(c.log.String(), path) {
						t.Errorf("%s: the client sees %s, the log %s", p, r.body, c.log)
					}
					c.want(c.do("HEAD", "/v2/app/"+p, "", ""), 500, "")
				}
				if now, _ := os.ReadFile(path); string(now) != string(bad) {
					t.Errorf("%s was changed by reading", file)
				}
				if err := os.WriteFile(path, good, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestPushRepairsDamage: whoever still has the bytes can put them back.
func TestPushRepairsDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, dir, registry.Config{})
	_, d := c.pushImage("app", "v1", "layer")
	err := filepath.WalkDir(filepath.Join(dir, "repos"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.WriteFile(path, []byte("damaged"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.want(c.do("GET", "/v2/app/manifests/v1", "", ""), 500, "UNKNOWN")
	c.pushImage("app", "v1", "layer")
	c.want(c.do("GET", "/v2/app/manifests/v1", "", ""), 200, "")
	c.want(c.do("GET", "/v2/app/blobs/"+string(evidence.SHA256([]byte("layer"))), "", ""), 200, "")
	// What cannot be repaired can be deleted.
	path := filepath.Join(dir, "repos", "app", "_manifests", "sha256", d.Hex())
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(d), "", ""), 202, "")
	c.want(c.do("GET", "/v2/app/manifests/v1", "", ""), 404, "MANIFEST_UNKNOWN")
}

// TestConnectionLostInUpload: half a blob is never visible, and the upload goes
// on from the last acknowledged byte.
func TestConnectionLostInUpload(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	loc := c.do("POST", "/v2/app/blobs/uploads/", "", "").header.Get("Location")
	c.want(c.do("PATCH", loc, "", "0123"), 202, "")
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\npartial", loc)
	_ = conn.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
	r := c.want(c.do("GET", loc, "", ""), 204, "")
	if got := r.header.Get("Range"); got != "0-3" {
		t.Errorf("Range %q", got)
	}
	d := string(evidence.SHA256([]byte("01234567")))
	c.want(c.do("PUT", loc+"?digest="+d, "", "4567"), 201, "")
}

// TestConcurrentPushes: many clients push, sign, retag and delete at once;
// what was acknowledged is there and nothing is torn.
func TestConcurrentPushes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, dir, registry.Config{})
	subject, d := c.pushImage("app", "v1", "layer")
	const workers, each = 8, 12
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				sig := manifest("layer", fmt.Sprintf(`,"subject":%s,"annotations":{"n":"%d.%d"}`, desc(ociManifest, subject), w, i))
				put(t, c.url+"/v2/app/manifests/"+string(evidence.SHA256([]byte(sig))), sig)
				put(t, c.url+"/v2/app/manifests/moving", sig)
				_ = c.srv
			}
		})
	}
	wg.Wait()
	c = start(t, dir, registry.Config{})
	r := c.want(c.do("GET", "/v2/app/referrers/"+string(d), "", ""), 200, "")
	if got := strings.Count(r.body, `"n":`); got != workers*each {
		t.Errorf("%d of %d referrers", got, workers*each)
	}
	c.want(c.do("GET", "/v2/app/manifests/moving", "", ""), 200, "")
}

func put(t *testing.T, url, body string) {
	req, err := http.NewRequest("PUT", url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", ociManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 {
		b, _ := io.ReadAll(resp.Body)
		t.Errorf("PUT: %d %s", resp.StatusCode, b)
	}
}

// TestReadOnlyFolder: a folder that cannot be written is told at the start.
func TestFolderInTheWay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(path, registry.Config{}); err == nil {
		t.Error("opened a file as a folder")
	}
}
