package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// TestDiskFull lets the disk be full at every write of a push: after so many bytes,
// and after so many files. What is acknowledged is there whole, what is not
// acknowledged is there whole or not at all, and with room again the push goes through.
func TestDiskFull(t *testing.T) {
	if !smalldisk.AsRoot(t) {
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
		dir := smalldisk.Mount(t, pages, inodes)
		srv, err := registry.Open(dir, registry.Config{})
		if err != nil { // there is not even room for the folders
			full++
			return
		}
		h := httptest.NewServer(srv)
		defer h.Close()
		c := &client{t, h.URL, dir, &output.Buffer{}, srv}
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
		smalldisk.Resize(t, dir, 4000, 1000)
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

// TestRoomIsMadeOnAFullDisk: on a disk without a byte, or without an inode, images are
// deleted with their signatures and collected, and then there is room.
func TestRoomIsMadeOnAFullDisk(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	for name, limit := range map[string][2]int{"bytes": {150, 2000}, "inodes": {2000, 150}} {
		t.Run(name, func(t *testing.T) {
			a := &aging{}
			a.client = start(t, smalldisk.Mount(t, limit[0], limit[1]), registry.Config{Now: func() time.Time { return time.Now().Add(time.Duration(a.ahead.Load())) }})
			push := func(n int, tag string) (status int) {
				layer := fmt.Sprint("layer ", n)
				m := manifest(layer, "")
				sig := manifest(layer, `,"subject":`+desc(ociManifest, m))
				for _, s := range [][4]string{
					{"POST", "/v2/app/blobs/uploads/?digest=" + string(evidence.SHA256([]byte("{}"))), "", "{}"},
					{"POST", "/v2/app/blobs/uploads/?digest=" + string(evidence.SHA256([]byte(layer))), "", layer},
					{"PUT", "/v2/app/manifests/" + tag, ociManifest, m},
					{"PUT", "/v2/app/manifests/" + string(evidence.SHA256([]byte(sig))), ociManifest, sig},
				} {
					if r := a.do(s[0], s[1], s[2], s[3]); r.status != 201 {
						return r.status
					}
				}
				return 201
			}
			images := 0
			for ; push(images, fmt.Sprint("v", images)) == 201; images++ {
			}
			for n := 0; ; n++ { // to the last
				blob := fmt.Sprint("blob ", n)
				if r := a.do("POST", "/v2/app/blobs/uploads/?digest="+string(evidence.SHA256([]byte(blob))), "", blob); r.status == 507 {
					break
				} else if r.status != 201 || n > 2000 {
					t.Fatalf("%d %s", r.status, r.body)
				}
			}
			if images < 10 {
				t.Fatalf("only %d images", images)
			}
			for n := range images {
				a.want(a.do("DELETE", fmt.Sprint("/v2/app/manifests/v", n), "", ""), 202, "")
			}
			a.pass(25 * time.Hour)
			got := a.collect(registry.Schedule{Grace: registry.DefaultGrace, Untagged: true}, false)
			if got.Manifests < 2*images || len(got.Repositories) != 1 || got.Repositories[0].Problem != "" {
				t.Errorf("of %d images with their signatures: %+v", images, got)
			}
			if status := push(images, "again"); status != 201 {
				t.Errorf("after the collection: %d", status)
			}
		})
	}
}
