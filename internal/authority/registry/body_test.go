package registry_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
)

// zeros is a client that sends so many bytes, or without end, and counts them.
type zeros struct {
	left int64 // -1: without end
	sent int64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int64(len(p))
	if z.left > 0 {
		n = min(n, z.left)
		z.left -= n
	}
	clear(p[:n])
	z.sent += n
	return int(n), nil
}

// TestEndlessBodies: no endpoint reads much more than it can use, and one that is
// told how much would come reads nothing of what is too much.
func TestEndlessBodies(t *testing.T) {
	t.Parallel()
	c := guarded(t, registry.Config{MaxManifest: 1 << 20, Rules: rules(t, quotas)})
	digest := "?digest=sha256:" + hex.EncodeToString(make([]byte, 32))
	const slack = 512 << 10 // what passes through in one piece
	for _, tc := range []struct {
		method, path string
		most         int64
		status       int
	}{
		{"PUT", "/v2/team-c/app/manifests/v1", 1 << 20, 413},
		{"POST", "/v2/team-c/app/blobs/uploads/" + digest, 2000, 403},
		{"POST", registry.TokenPath, 64 << 10, 400},
		{"POST", "/v2/team-c/app/blobs/uploads/", 0, 202},
		{"DELETE", "/v2/team-c/app/manifests/v1", 0, 404},
		{"GET", "/v2/team-c/app/manifests/v1", 0, 404},
	} {
		for _, announced := range []int64{-1, 1 << 30} {
			body := &zeros{left: -1}
			r := httptest.NewRequest(tc.method, tc.path, body)
			r.ContentLength = announced
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			c.srv.ServeHTTP(w, r)
			if w.Code != tc.status || body.sent > tc.most+slack || announced > 0 && tc.path != registry.TokenPath && body.sent > 0 {
				t.Errorf("%s %s with %d bytes: %d after %d bytes: %s", tc.method, tc.path, announced, w.Code, body.sent, w.Body)
			}
		}
	}
	open := start(t, t.TempDir(), registry.Config{MaxBlob: 1 << 20})
	body := &zeros{left: -1}
	w := httptest.NewRecorder()
	open.srv.ServeHTTP(w, httptest.NewRequest("POST", "/v2/app/blobs/uploads/"+digest, body))
	if w.Code != 413 || body.sent > 1<<20+slack {
		t.Errorf("%d after %d bytes", w.Code, body.sent)
	}
}

// TestLargeBlob takes and gives a blob of 1 GiB in little memory.
func TestLargeBlob(t *testing.T) {
	c := fresh(t)
	const size = 1 << 30
	h := sha256.New()
	if _, err := io.Copy(h, &zeros{left: size}); err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := httptest.NewRecorder()
	c.srv.ServeHTTP(w, httptest.NewRequest("POST", "/v2/app/blobs/uploads/?digest="+digest, &zeros{left: size}))
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	resp := c.do("HEAD", "/v2/app/blobs/"+digest, "", "")
	if got := resp.header.Get("Content-Length"); resp.status != 200 || got != strconv.Itoa(size) {
		t.Errorf("%d, %s bytes", resp.status, got)
	}
	if r := c.do("GET", "/v2/app/blobs/"+digest, "", "", "Range", "bytes="+strconv.Itoa(size-3)+"-"); r.status != 206 || r.body != "\x00\x00\x00" {
		t.Errorf("the last bytes: %d %q", r.status, r.body)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes of memory were used", used)
	}
}
