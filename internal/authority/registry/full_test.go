package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// small mounts a file system of so many pages and inodes.
func small(t *testing.T, pages, inodes int) string {
	t.Helper()
	dir := t.TempDir()
	options := fmt.Sprintf("size=%d,nr_inodes=%d", pages*os.Getpagesize(), inodes)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mounting a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// asRootOfItsOwn runs the test again as root of a user namespace: only root can mount
// a file system of a few pages.
func asRootOfItsOwn(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("as root of a user namespace, which this kernel must allow, or as root: %v\n%s", err, out)
	}
}

// TestDiskFull lets the disk be full at every write of a push: after so many bytes,
// and after so many files. What is acknowledged is there whole, what is not
// acknowledged is there whole or not at all, and with room again the push goes through.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		asRootOfItsOwn(t)
		return
	}
	t.Parallel()
	layer := strings.Repeat("layer ", 3000) // five pages
	m := manifest(layer, "")
	sig := manifest(layer, `,"subject":`+desc(ociManifest, m))
	d, sd := string(evidence.SHA256([]byte(m))), string(evidence.SHA256([]byte(sig)))
	type step struct{ method, path, contentType, body, get string }
	steps := []step{
		{"POST", "/v2/app/blobs/uploads/?digest=" + string(evidence.SHA256([]byte("{}"))), "", "{}", "/v2/app/blobs/" + string(evidence.SHA256([]byte("{}")))},
		{"POST", "/v2/app/blobs/uploads/?digest=" + string(evidence.SHA256([]byte(layer))), "", layer, "/v2/app/blobs/" + string(evidence.SHA256([]byte(layer)))},
		{"PUT", "/v2/app/manifests/v1", ociManifest, m, "/v2/app/manifests/v1"},
		{"PUT", "/v2/app/manifests/" + sd, ociManifest, sig, "/v2/app/manifests/" + sd},
	}
	push := func(t *testing.T, c *client) (acked []bool, refused bool) {
		for _, s := range steps {
			r := c.do(s.method, s.path, s.contentType, s.body)
			switch {
			case r.status == http.StatusInsufficientStorage:
				refused = true
			case r.status != 201 && r.status != 404: // 404: what it names was refused before
				t.Errorf("%s %s: %d %s", s.method, s.path, r.status, r.body)
			}
			acked = append(acked, r.status == 201)
		}
		return acked, refused
	}
	check := func(t *testing.T, c *client, acked []bool) {
		for i, s := range steps {
			r := c.do("GET", s.get, "", "")
			switch {
			case r.status == 200 && r.body == s.body:
			case r.status == 404 && !acked[i]:
			default:
				t.Errorf("%s: %d with %d bytes; acknowledged: %v", s.get, r.status, len(r.body), acked[i])
			}
		}
		if r := c.do("GET", "/v2/app/referrers/"+d, "", ""); r.status != 200 || acked[3] && !strings.Contains(r.body, sd) {
			t.Errorf("referrers: %d %s", r.status, r.body)
		}
	}
	full, whole := 0, 0
	one := func(t *testing.T, pages, inodes int) {
		dir := small(t, pages, inodes)
		srv, err := registry.Open(dir, registry.Config{})
		if err != nil { // there is not even room for the folders
			full++
			return
		}
		h := httptest.NewServer(srv)
		defer h.Close()
		c := &client{t, h.URL, dir, &lockedBuffer{}, srv}
		acked, refused := push(t, c)
		check(t, c, acked)
		// After a restart, too.
		again, err := registry.Open(dir, registry.Config{})
		if err == nil {
			h.Config.Handler = again
			check(t, c, acked)
		}
		if !refused {
			whole++
			return
		}
		full++
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m,nr_inodes=1000"); err != nil {
			t.Fatal(err)
		}
		if acked, _ := push(t, c); !acked[0] || !acked[1] || !acked[2] || !acked[3] {
			t.Errorf("with room again: %v", acked)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "repos", "app", "*", "*", ".tmp-*"))
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	for pages := 1; pages <= 20; pages++ {
		t.Run(fmt.Sprintf("%d pages", pages), func(t *testing.T) { one(t, pages, 1000) })
	}
	for inodes := 3; inodes <= 40; inodes++ {
		t.Run(fmt.Sprintf("%d inodes", inodes), func(t *testing.T) { one(t, 1000, inodes) })
	}
	if full < 20 || whole < 10 {
		t.Errorf("the disk was full %d times and had room %d times: these sizes say too little", full, whole)
	}
}
