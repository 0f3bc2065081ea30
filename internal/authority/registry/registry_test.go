package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

// client is a registry with a folder and a log, and a way to talk to it.
type client struct {
	t   testing.TB
	url string
	dir string
	log *output.Buffer
	srv *registry.Server
}

func start(t testing.TB, dir string, cfg registry.Config) *client {
	t.Helper()
	log := &output.Buffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	srv, err := registry.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(srv)
	t.Cleanup(func() { h.Close(); _ = srv.Close() })
	return &client{t, h.URL, dir, log, srv}
}

func fresh(t *testing.T) *client { return start(t, t.TempDir(), registry.Config{}) }

type reply struct {
	status int
	header http.Header
	body   string
}

func (c *client) do(method, path, contentType string, body string, header ...string) reply {
	c.t.Helper()
	url := path
	if !strings.HasPrefix(path, "http") {
		url = c.url + path
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(data)}
}

// want checks a status and, for errors, the code of the body.
func (c *client) want(r reply, status int, code string) reply {
	c.t.Helper()
	if r.status != status || !strings.Contains(r.body, code) {
		c.t.Fatalf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
	if code != "" {
		var e struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Code != code || e.Errors[0].Message == "" {
			c.t.Fatalf("error body %q, want one error with code %s", r.body, code)
		}
		if got := r.header.Get("Content-Type"); got != "application/json" {
			c.t.Fatalf("error Content-Type %q", got)
		}
	}
	return r
}

func (c *client) pushBlob(repo, data string) evidence.Digest {
	c.t.Helper()
	d := evidence.SHA256([]byte(data))
	c.want(c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(d), "application/octet-stream", data), 201, "")
	return d
}

func desc(mediaType, data string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, evidence.SHA256([]byte(data)), len(data))
}

// image pushes config and layer of an image and returns the manifest's bytes.
func (c *client) image(repo, content string) string {
	c.t.Helper()
	c.pushBlob(repo, "{}")
	c.pushBlob(repo, content)
	return manifest(content, "")
}

func manifest(content, extra string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`, ociManifest,
		desc("application/vnd.oci.image.config.v1+json", "{}"), desc("application/vnd.oci.image.layer.v1.tar", content), extra)
}

func (c *client) pushImage(repo, ref, content string) (string, evidence.Digest) {
	c.t.Helper()
	m := c.image(repo, content)
	r := c.want(c.do("PUT", "/v2/"+repo+"/manifests/"+ref, ociManifest, m), 201, "")
	d := evidence.SHA256([]byte(m))
	if got := r.header.Get("Docker-Content-Digest"); got != string(d) {
		c.t.Fatalf("Docker-Content-Digest %q, want %q", got, d)
	}
	return m, d
}

func TestBase(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	r := c.want(c.do("GET", "/v2/", "", ""), 200, "")
	if got := r.header.Get("Docker-Distribution-API-Version"); got != "registry/2.0" {
		t.Errorf("version header %q", got)
	}
	c.want(c.do("POST", "/v2/", "", ""), 405, "UNSUPPORTED")
	c.want(c.do("GET", "/v2/nothing", "", ""), 404, "UNSUPPORTED")
}

func TestManifests(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	m, d := c.pushImage("team/app", "v1", "layer one")
	for _, ref := range []string{"v1", string(d)} {
		for _, method := range []string{"GET", "HEAD"} {
			r := c.want(c.do(method, "/v2/team/app/manifests/"+ref, "", ""), 200, "")
			want := m
			if method == "HEAD" {
				want = ""
			}
			if r.body != want || r.header.Get("Content-Type") != ociManifest || r.header.Get("Docker-Content-Digest") != string(d) ||
				r.header.Get("Content-Length") != fmt.Sprint(len(m)) {
				t.Errorf("%s %s: %q %v", method, ref, r.body, r.header)
			}
		}
	}
	sha512 := "sha512:" + strings.Repeat("0", 128)
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"unknown tag":          {"GET", "/v2/team/app/manifests/v2", "", 404, "MANIFEST_UNKNOWN"},
		"unknown digest":       {"GET", "/v2/team/app/manifests/" + string(evidence.SHA256(nil)), "", 404, "MANIFEST_UNKNOWN"},
		"unknown sha512":       {"GET", "/v2/team/app/manifests/" + sha512, "", 404, "MANIFEST_UNKNOWN"},
		"unknown repository":   {"GET", "/v2/team/none/manifests/v1", "", 404, "NAME_UNKNOWN"},
		"upper-case name":      {"GET", "/v2/Team/manifests/v1", "", 400, "NAME_INVALID"},
		"dots":                 {"GET", "/v2/a%2f..%2fb/manifests/v1", "", 400, "NAME_INVALID"},
		"bad tag":              {"GET", "/v2/team/app/manifests/-v1", "", 400, "MANIFEST_INVALID"},
		"bad digest":           {"GET", "/v2/team/app/manifests/sha256:abc", "", 400, "DIGEST_INVALID"},
		"digest of others":     {"PUT", "/v2/team/app/manifests/" + string(evidence.SHA256(nil)), m, 400, "DIGEST_INVALID"},
		"delete unknown":       {"DELETE", "/v2/team/app/manifests/" + string(evidence.SHA256(nil)), "", 404, "MANIFEST_UNKNOWN"},
		"delete unknown tag":   {"DELETE", "/v2/team/app/manifests/none", "", 404, "MANIFEST_UNKNOWN"},
		"missing layer":        {"PUT", "/v2/team/app/manifests/x", manifest("never pushed", ""), 404, "MANIFEST_BLOB_UNKNOWN"},
		"blob of another repo": {"PUT", "/v2/team/other/manifests/x", m, 404, "MANIFEST_BLOB_UNKNOWN"},
		"wrong size":           {"PUT", "/v2/team/app/manifests/x", strings.Replace(m, `"size":9`, `"size":8`, 1), 400, "MANIFEST_INVALID"},
		"not JSON":             {"PUT", "/v2/team/app/manifests/x", "hello", 400, "MANIFEST_INVALID"},
		"trailing bytes":       {"PUT", "/v2/team/app/manifests/x", m + "{}", 400, "MANIFEST_INVALID"},
		"too large":            {"PUT", "/v2/team/app/manifests/x", strings.Repeat(" ", 4<<20) + m, 413, "MANIFEST_INVALID"},
		"a method":             {"POST", "/v2/team/app/manifests/x", m, 405, "UNSUPPORTED"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.do(tc.method, tc.path, ociManifest, tc.body)
			c.want(r, tc.status, tc.code)
		})
	}
	c.want(c.do("PUT", "/v2/team/app/manifests/x", "", m), 400, "MANIFEST_INVALID")
	c.want(c.do("PUT", "/v2/team/app/manifests/x", ociIndex, m), 400, "MANIFEST_INVALID")
	if c.log.String() != "" {
		t.Errorf("clients' mistakes are not for the log: %s", c.log)
	}
}

func TestIndexWantsItsManifests(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	m := c.image("app", "layer")
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, desc(ociManifest, m))
	c.want(c.do("PUT", "/v2/app/manifests/v1", ociIndex, index), 404, "MANIFEST_BLOB_UNKNOWN")
	c.pushImage("app", "child", "layer")
	c.want(c.do("PUT", "/v2/app/manifests/v1", ociIndex, index), 201, "")
	if r := c.do("GET", "/v2/app/manifests/v1", "", ""); r.body != index || r.header.Get("Content-Type") != ociIndex {
		t.Errorf("got %s as %s", r.body, r.header.Get("Content-Type"))
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	_, d := c.pushImage("app", "v1", "layer")
	c.pushImage("app", "v2", "layer")
	_, other := c.pushImage("app", "v3", "other")
	c.want(c.do("DELETE", "/v2/app/manifests/v1", "", ""), 202, "")
	c.want(c.do("GET", "/v2/app/manifests/v1", "", ""), 404, "MANIFEST_UNKNOWN")
	c.want(c.do("GET", "/v2/app/manifests/"+string(d), "", ""), 200, "")
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(d), "", ""), 202, "")
	c.want(c.do("GET", "/v2/app/manifests/v2", "", ""), 404, "MANIFEST_UNKNOWN")
	c.want(c.do("GET", "/v2/app/manifests/"+string(d), "", ""), 404, "MANIFEST_UNKNOWN")
	if r := c.do("GET", "/v2/app/tags/list", "", ""); r.body != `{"name":"app","tags":["v3"]}` {
		t.Errorf("tags left: %s", r.body)
	}
	c.want(c.do("GET", "/v2/app/manifests/"+string(other), "", ""), 200, "")
	blob := evidence.SHA256([]byte("layer"))
	c.want(c.do("DELETE", "/v2/app/blobs/"+string(blob), "", ""), 202, "")
	c.want(c.do("GET", "/v2/app/blobs/"+string(blob), "", ""), 404, "BLOB_UNKNOWN")
	c.want(c.do("DELETE", "/v2/app/blobs/"+string(blob), "", ""), 404, "BLOB_UNKNOWN")
	c.want(c.do("DELETE", "/v2/none/manifests/v1", "", ""), 404, "NAME_UNKNOWN")
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	d := c.pushBlob("app", "0123456789")
	for name, tc := range map[string]struct {
		method, path, rang string
		status             int
		body               string
	}{
		"whole":            {"GET", "app/blobs/" + string(d), "", 200, "0123456789"},
		"head":             {"HEAD", "app/blobs/" + string(d), "", 200, ""},
		"range":            {"GET", "app/blobs/" + string(d), "bytes=2-4", 206, "234"},
		"suffix":           {"GET", "app/blobs/" + string(d), "bytes=-3", 206, "789"},
		"open range":       {"GET", "app/blobs/" + string(d), "bytes=8-", 206, "89"},
		"impossible range": {"GET", "app/blobs/" + string(d), "bytes=20-30", 416, ""},
		"other repository": {"GET", "other/blobs/" + string(d), "", 404, ""},
		"not a digest":     {"GET", "app/blobs/latest", "", 400, ""},
		"upper case":       {"GET", "app/blobs/" + strings.ToUpper(string(d)), "", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.do(tc.method, "/v2/"+tc.path, "", "", "Range", tc.rang)
			if r.status != tc.status || tc.body != "" && r.body != tc.body {
				t.Errorf("got %d %q, want %d %q", r.status, r.body, tc.status, tc.body)
			}
			if tc.status == 200 && (r.header.Get("Docker-Content-Digest") != string(d) || r.header.Get("Content-Length") != "10") {
				t.Errorf("headers %v", r.header)
			}
		})
	}
}

func TestUploads(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	const data = "abcdefghij"
	d := string(evidence.SHA256([]byte(data)))
	begin := func() string {
		r := c.want(c.do("POST", "/v2/app/blobs/uploads/", "", ""), 202, "")
		return c.url + r.header.Get("Location")
	}
	visible := func(want int) {
		t.Helper()
		c.want(c.do("HEAD", "/v2/app/blobs/"+d, "", ""), want, "")
	}
	up := begin()
	visible(404)
	r := c.want(c.do("PATCH", up, "", data[:4], "Content-Range", "0-3"), 202, "")
	if got := r.header.Get("Range"); got != "0-3" {
		t.Errorf("Range %q", got)
	}
	visible(404)
	r = c.want(c.do("PATCH", up, "", data[6:], "Content-Range", "6-9"), 416, "BLOB_UPLOAD_INVALID")
	if r.header.Get("Range") != "0-3" || r.header.Get("Location") == "" {
		t.Errorf("416 must say where to go on: %v", r.header)
	}
	c.want(c.do("PATCH", up, "", data[4:6], "Content-Range", "4-9"), 400, "SIZE_INVALID")
	c.want(c.do("PATCH", up, "", data[4:6], "Content-Range", "x"), 400, "BLOB_UPLOAD_INVALID")
	r = c.want(c.do("GET", up, "", ""), 204, "")
	if got := r.header.Get("Range"); got != "0-3" {
		t.Errorf("after refused chunks Range is %q", got)
	}
	c.want(c.do("PATCH", up, "", data[4:8]), 202, "") // a stream needs no Content-Range
	c.want(c.do("PUT", up, "", data[8:]), 400, "DIGEST_INVALID")
	c.want(c.do("PUT", up+"?digest="+d, "", data[8:], "Content-Range", "8-9"), 201, "")
	visible(200)
	c.want(c.do("GET", up, "", ""), 404, "BLOB_UPLOAD_UNKNOWN")
	// A wrong digest ends the upload and shows nothing.
	wrong := string(evidence.SHA256([]byte("wrong")))
	up = begin()
	c.want(c.do("PUT", up+"?digest="+wrong, "", data), 400, "DIGEST_INVALID")
	c.want(c.do("GET", up, "", ""), 404, "BLOB_UPLOAD_UNKNOWN")
	c.want(c.do("POST", "/v2/app/blobs/uploads/?digest="+wrong, "", data), 400, "DIGEST_INVALID")
	c.want(c.do("HEAD", "/v2/app/blobs/"+wrong, "", ""), 404, "")
	// An upload is cancelled, and belongs to one repository.
	up = begin()
	c.want(c.do("GET", strings.Replace(up, "/v2/app/", "/v2/other/", 1), "", ""), 404, "BLOB_UPLOAD_UNKNOWN")
	c.want(c.do("DELETE", up, "", ""), 204, "")
	c.want(c.do("PATCH", up, "", data), 404, "BLOB_UPLOAD_UNKNOWN")
	c.want(c.do("GET", "/v2/app/blobs/uploads/..", "", ""), 404, "BLOB_UPLOAD_UNKNOWN")
	left, _ := os.ReadDir(filepath.Join(c.dir, "uploads"))
	if len(left) != 0 {
		t.Errorf("uploads left: %v", left)
	}
}

func TestUploadSHA512(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	const d = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043"
	c.want(c.do("POST", "/v2/app/blobs/uploads/?digest="+d, "", "hello"), 201, "")
	if r := c.do("GET", "/v2/app/blobs/"+d, "", ""); r.body != "hello" {
		t.Errorf("got %+v", r)
	}
}

func TestUploadOutlivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, dir, registry.Config{})
	r := c.want(c.do("POST", "/v2/app/blobs/uploads/", "", ""), 202, "")
	loc := r.header.Get("Location")
	c.want(c.do("PATCH", loc, "", "hello "), 202, "")
	_ = c.srv.Close()
	c = start(t, dir, registry.Config{})
	d := string(evidence.SHA256([]byte("hello world")))
	c.want(c.do("PUT", loc+"?digest="+d, "", "world", "Content-Range", "6-10"), 201, "")
	if r := c.do("GET", "/v2/app/blobs/"+d, "", ""); r.body != "hello world" {
		t.Errorf("got %+v", r)
	}
}

func TestAbandonedUploadsAreSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, dir, registry.Config{})
	loc := c.do("POST", "/v2/app/blobs/uploads/", "", "").header.Get("Location")
	_ = c.srv.Close()
	c = start(t, dir, registry.Config{Now: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	c.want(c.do("GET", loc, "", ""), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestMount(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	d := string(c.pushBlob("a", "shared"))
	post := func(q string) reply { return c.do("POST", "/v2/b/blobs/uploads/?"+q, "", "") }
	r := c.want(post("mount="+d+"&from=a"), 201, "")
	if got := r.header.Get("Location"); got != "/v2/b/blobs/"+d {
		t.Errorf("Location %q", got)
	}
	c.want(post("mount="+d+"&from=a"), 201, "") // again
	c.want(c.do("POST", "/v2/a/blobs/uploads/?mount="+d+"&from=a", "", ""), 201, "")
	c.want(c.do("DELETE", "/v2/a/blobs/"+d, "", ""), 202, "")
	if r := c.do("GET", "/v2/b/blobs/"+d, "", ""); r.body != "shared" {
		t.Errorf("a mounted blob went with its source: %+v", r)
	}
	missing := string(evidence.SHA256([]byte("missing")))
	c.want(post("mount="+missing+"&from=a"), 202, "")
	c.want(post("mount="+missing), 202, "")
	for _, from := range []string{"../repos/b", "b/../b", "./b", "/b", "b/"} { // all lead to a folder that has it
		c.want(post("mount="+d+"&from="+from), 202, "")
	}
	c.want(post("mount=xyz&from=a"), 400, "DIGEST_INVALID")
}

func TestTagsAndCatalog(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	c.want(c.do("GET", "/v2/app/tags/list", "", ""), 404, "NAME_UNKNOWN")
	for _, tag := range []string{"b", "A", "c", "a", "B"} {
		c.pushImage("app", tag, "layer")
	}
	c.pushImage("app/tags/list/blobs", "v1", "layer") // a name made of endpoint words
	c.pushBlob("only-blobs", "x")
	for path, want := range map[string]struct{ body, link string }{
		"app/tags/list":                    {`{"name":"app","tags":["A","a","B","b","c"]}`, ""},
		"app/tags/list?n=2":                {`{"name":"app","tags":["A","a"]}`, `</v2/app/tags/list?last=a&n=2>; rel="next"`},
		"app/tags/list?n=2&last=a":         {`{"name":"app","tags":["B","b"]}`, `</v2/app/tags/list?last=b&n=2>; rel="next"`},
		"app/tags/list?n=2&last=b":         {`{"name":"app","tags":["c"]}`, ""},
		"app/tags/list?last=aa":            {`{"name":"app","tags":["B","b","c"]}`, ""},
		"app/tags/list?last=zzz":           {`{"name":"app","tags":[]}`, ""},
		"app/tags/list?n=0":                {`{"name":"app","tags":[]}`, ""},
		"app/tags/list/blobs/tags/list":    {`{"name":"app/tags/list/blobs","tags":["v1"]}`, ""},
		"_catalog":                         {`{"repositories":["app","app/tags/list/blobs"]}`, ""},
		"_catalog?n=1":                     {`{"repositories":["app"]}`, `</v2/_catalog?last=app&n=1>; rel="next"`},
		"_catalog?n=1&last=app":            {`{"repositories":["app/tags/list/blobs"]}`, ""},
		"app/tags/list/blobs/manifests/v1": {manifest("layer", ""), ""},
	} {
		r := c.want(c.do("GET", "/v2/"+path, "", ""), 200, "")
		if r.body != want.body || r.header.Get("Link") != want.link {
			t.Errorf("%s: %s Link %q", path, r.body, r.header.Get("Link"))
		}
	}
	for _, bad := range []string{"-1", "x", "1e3"} {
		c.want(c.do("GET", "/v2/app/tags/list?n="+bad, "", ""), 400, "PAGINATION_NUMBER_INVALID")
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	subject, d := c.image("app", "layer"), evidence.SHA256([]byte(c.image("app", "layer")))
	empty := `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`
	list := func(q string) reply {
		return c.want(c.do("GET", "/v2/app/referrers/"+string(d)+q, "", ""), 200, "")
	}
	type index struct {
		MediaType string
		Manifests []struct {
			MediaType, ArtifactType, Digest string
			Size                            int
			Annotations                     map[string]string
		}
	}
	read := func(r reply) (out []string) {
		t.Helper()
		var i index
		if err := json.Unmarshal([]byte(r.body), &i); err != nil {
			t.Fatal(err)
		}
		for _, m := range i.Manifests {
			out = append(out, m.ArtifactType+" "+m.Annotations["who"])
			if got := c.do("GET", "/v2/app/manifests/"+m.Digest, "", ""); len(got.body) != m.Size || got.header.Get("Content-Type") != m.MediaType {
				t.Errorf("descriptor %+v does not fit its manifest", m)
			}
		}
		return out
	}
	if r := list(""); len(read(r)) != 0 || r.header.Get("Content-Type") != ociIndex {
		t.Errorf("empty list: %+v", r)
	}
	c.want(c.do("GET", "/v2/none/referrers/"+string(d), "", ""), 200, "manifests"[:0])
	c.want(c.do("GET", "/v2/app/referrers/latest", "", ""), 400, "DIGEST_INVALID")
	sub := `,"subject":` + desc(ociManifest, subject)
	// Before the subject exists.
	withType := manifest("layer", sub+`,"artifactType":"text/signature","annotations":{"who":"alice"}`)
	r := c.want(c.do("PUT", "/v2/app/manifests/"+string(evidence.SHA256([]byte(withType))), ociManifest, withType), 201, "")
	if got := r.header.Get("OCI-Subject"); got != string(d) {
		t.Errorf("OCI-Subject %q", got)
	}
	c.pushImage("app", "v1", "layer")
	withoutType := manifest("layer", sub)
	c.want(c.do("PUT", "/v2/app/manifests/sig", ociManifest, withoutType), 201, "")
	indexRef := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]%s,"annotations":{"who":"bob"}}`, ociIndex, sub)
	c.want(c.do("PUT", "/v2/app/manifests/idx", ociIndex, indexRef), 201, "")
	want := map[string]bool{"text/signature alice": true, "application/vnd.oci.image.config.v1+json ": true, " bob": true}
	got := map[string]bool{}
	for _, v := range read(list("")) {
		got[v] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r = list("?artifactType=text/signature")
	if diff := cmp.Diff([]string{"text/signature alice"}, read(r)); diff != "" || r.header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Error(diff, r.header)
	}
	if r := list("?artifactType=none"); r.body != empty {
		t.Errorf("filter that fits nothing: %s", r.body)
	}
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(evidence.SHA256([]byte(withType))), "", ""), 202, "")
	if got := read(list("")); len(got) != 2 {
		t.Errorf("after a delete: %v", got)
	}
}

func TestReferrersPages(t *testing.T) {
	t.Parallel()
	c := fresh(t)
	subject := c.image("app", "layer")
	const n = 9
	note := strings.Repeat("x", 1<<20)
	for i := range n {
		m := manifest("layer", fmt.Sprintf(`,"subject":%s,"annotations":{"note":%q,"i":"%d"}`, desc(ociManifest, subject), note, i))
		c.want(c.do("PUT", "/v2/app/manifests/"+string(evidence.SHA256([]byte(m))), ociManifest, m), 201, "")
	}
	seen := map[string]bool{}
	next := "/v2/app/referrers/" + string(evidence.SHA256([]byte(subject)))
	for pages := 0; next != ""; pages++ {
		r := c.want(c.do("GET", next, "", ""), 200, "")
		if len(r.body) > 4<<20 || pages > n {
			t.Fatalf("page of %d bytes, %d pages", len(r.body), pages)
		}
		var i struct{ Manifests []struct{ Digest string } }
		if err := json.Unmarshal([]byte(r.body), &i); err != nil {
			t.Fatal(err)
		}
		for _, m := range i.Manifests {
			seen[m.Digest] = true
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
	}
	if len(seen) != n {
		t.Errorf("saw %d of %d referrers", len(seen), n)
	}
}

// ci knows one user.
func ci(_ context.Context, user, password string) (registry.Principal, bool) {
	return "user:ci", user == "ci" && password == "secret"
}

func TestLogin(t *testing.T) {
	t.Parallel()
	c := start(t, t.TempDir(), registry.Config{Login: ci})
	r := c.want(c.do("GET", "/v2/", "", ""), 401, "UNAUTHORIZED")
	if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("headers %v", r.header)
	}
	c.want(c.do("GET", "/v2/", "", "", "Authorization", "Basic Y2k6d3Jvbmc="), 401, "UNAUTHORIZED")
	c.want(c.do("GET", "/v2/", "", "", "Authorization", "Basic Y2k6c2VjcmV0"), 200, "")
	c.want(c.do("PUT", "/v2/app/manifests/v1", ociManifest, "{}"), 401, "UNAUTHORIZED")
}
