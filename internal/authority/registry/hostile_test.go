package registry_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// A sync that fails loses bytes that the running hash has seen, and the next one
// succeeds: the blob must not be acknowledged.
func TestFailedSyncEndsTheUpload(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	loc := c.want(c.do("POST", "/v2/app/blobs/uploads/", "", ""), 202, "").header.Get("Location")
	file := filepath.Join(c.dir, "uploads", path.Base(loc))
	// A file that takes bytes, keeps none and cannot be synced.
	if err := errors.Join(os.Remove(file), os.Symlink(os.DevNull, file)); err != nil {
		t.Fatal(err)
	}
	c.want(c.do("PATCH", loc, "", "hello"), 500, "UNKNOWN")
	_ = os.Remove(file)
	if err := os.WriteFile(file, []byte("jello"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := string(evidence.SHA256([]byte("hello")))
	if r := c.do("PUT", loc+"?digest="+d, "", ""); r.status == 201 {
		t.Error("a blob whose bytes were lost was acknowledged")
	}
	c.want(c.do("HEAD", "/v2/app/blobs/"+d, "", ""), 404, "")
}

// Uploads that are begun and left do not keep others out.
func TestManyAbandonedUploads(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	first := c.want(c.do("POST", "/v2/app/blobs/uploads/", "", ""), 202, "").header.Get("Location")
	c.want(c.do("PATCH", first, "", "hello "), 202, "")
	for range registry.MaxUploads {
		w := httptest.NewRecorder()
		c.srv.ServeHTTP(w, httptest.NewRequest("POST", "/v2/app/blobs/uploads/", nil))
		if w.Code != 202 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	d := string(evidence.SHA256([]byte("hello world")))
	c.want(c.do("PUT", first+"?digest="+d, "", "world"), 201, "")
	if r := c.do("GET", "/v2/app/blobs/"+d, "", ""); r.body != "hello world" {
		t.Errorf("got %+v", r)
	}
}

// A filter that matches little does not make one request read everything.
func TestReferrersReadIsBounded(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	subject := c.image("app", "layer")
	last := ""
	for i := range 8 {
		m := manifest("layer", fmt.Sprintf(`,"subject":%s,"artifactType":"a/%d","annotations":{"note":%q}`, desc(ociManifest, subject), i, strings.Repeat("x", 3<<20)))
		d := string(evidence.SHA256([]byte(m)))
		c.want(c.do("PUT", "/v2/app/manifests/"+d, ociManifest, m), 201, "")
		last = max(last, fmt.Sprintf("%s a/%d", d, i))
	}
	_, wanted, _ := strings.Cut(last, " ") // the one that is listed last
	next := "/v2/app/referrers/" + string(evidence.SHA256([]byte(subject))) + "?artifactType=" + url.QueryEscape(wanted)
	var found []bool
	for next != "" && len(found) < 9 {
		r := c.want(c.do("GET", next, "", ""), 200, "")
		found = append(found, strings.Contains(r.body, wanted))
		next, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
	}
	if diff := cmp.Diff([]bool{false, true}, found); diff != "" {
		t.Error(diff)
	}
}
