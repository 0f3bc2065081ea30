package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

const quotas = `
rights: [{repositories: ["**"], principals: [anyone], actions: [pull, push, delete]}]
quotas:
  - {repositories: [team-a/**], bytes: 1000B}
  - {repositories: ["**"], bytes: 2000B}
`

func TestQuotas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, dir, registry.Config{Rules: rules(t, quotas)})
	blob := func(n int, fill string) (string, string) {
		data := strings.Repeat(fill, n)
		return data, string(evidence.SHA256([]byte(data)))
	}
	put := func(repo string, n int, fill string) reply {
		data, d := blob(n, fill)
		return c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, "application/octet-stream", data)
	}
	c.want(put("team-a/x", 600, "a"), 201, "")
	c.want(put("team-a/y", 500, "b"), 403, "DENIED")
	c.want(put("team-b/y", 500, "b"), 201, "")
	c.want(put("team-b/y", 500, "b"), 201, "") // once more is no more
	// A mount counts where it goes to.
	_, d := blob(600, "a")
	c.want(c.do("POST", "/v2/team-a/y/blobs/uploads/?mount="+d+"&from=team-a/x", "", ""), 403, "DENIED")
	c.want(c.do("POST", "/v2/team-b/y/blobs/uploads/?mount="+d+"&from=team-a/x", "", ""), 201, "") // 1700 of 2000
	c.want(put("team-c/x", 400, "c"), 403, "DENIED")
	// Unfinished uploads count, as they come and after a restart.
	loc := c.want(c.do("POST", "/v2/team-a/x/blobs/uploads/", "", ""), 202, "").header.Get("Location")
	c.want(c.do("PATCH", loc, "", strings.Repeat("d", 250)), 202, "")
	c.want(c.do("PATCH", loc, "", strings.Repeat("d", 200)), 403, "DENIED")
	c = start(t, dir, registry.Config{Rules: rules(t, quotas)})
	c.want(put("team-c/x", 100, "c"), 403, "DENIED")
	if got := c.do("GET", loc, "", "").header.Get("Range"); got != "0-249" {
		t.Errorf("Range %s after what was refused", got)
	}
	c.want(c.do("DELETE", loc, "", ""), 204, "")
	c.want(put("team-c/x", 100, "c"), 201, "")
	// A body that does not say how long it is gets no further than the quota.
	_, rest := blob(400, "e")
	req, err := http.NewRequest("POST", c.url+"/v2/team-c/x/blobs/uploads/?digest="+rest, io.MultiReader(strings.NewReader(strings.Repeat("e", 400))))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("a chunked body beyond the quota: %d", resp.StatusCode)
	}
	// Manifests count, and what is deleted does no more.
	m := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":600},"layers":[],"annotations":{"a":%q}}`, d, strings.Repeat("x", 500))
	c.want(c.do("PUT", "/v2/team-a/x/manifests/v1", ociManifest, m), 403, "DENIED")
	c.want(c.do("GET", "/v2/team-a/x/manifests/v1", "", ""), 404, "")
	c.want(c.do("DELETE", "/v2/team-b/y/blobs/"+d, "", ""), 202, "")
	c.want(c.do("PUT", "/v2/team-a/x/manifests/v1", ociManifest, m[:len(m)-500]+`"}}`), 201, "")
	c.want(put("team-c/x", 500, "f"), 201, "")
}

// TestQuotaUnderConcurrency: many pushes of the same and of different content at
// once never hold more than the quota, and what is freed can be used again.
func TestQuotaUnderConcurrency(t *testing.T) {
	t.Parallel()
	c := start(t, t.TempDir(), registry.Config{Rules: rules(t, quotas)})
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 20 {
				data := fmt.Sprintf("%0100d", (w+i)%20)
				d := string(evidence.SHA256([]byte(data)))
				url := c.url + "/v2/team-a/x/blobs/"
				for _, step := range []struct{ method, url, body string }{{"POST", url + "uploads/?digest=" + d, data}, {"DELETE", url + d, ""}} {
					req, err := http.NewRequest(step.method, step.url, strings.NewReader(step.body))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
					if resp.StatusCode >= 500 {
						t.Errorf("%s: %d", step.method, resp.StatusCode)
					}
				}
			}
		})
	}
	group.Wait()
	// Whatever is left is counted right: exactly the rest fits.
	held := 0
	for n := range 20 {
		d := string(evidence.SHA256(fmt.Appendf(nil, "%0100d", n)))
		if r := c.do("HEAD", "/v2/team-a/x/blobs/"+d, "", ""); r.status == 200 {
			held += 100
		}
	}
	push := func(n int) reply {
		data := strings.Repeat("r", n)
		return c.do("POST", "/v2/team-a/x/blobs/uploads/?digest="+string(evidence.SHA256([]byte(data))), "", data)
	}
	c.want(push(1001-held), 403, "DENIED")
	c.want(push(1000-held), 201, "")
}

// brokenBody is a client whose connection is lost.
type brokenBody struct{ left int }

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("connection lost")
	}
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

// What a lost connection had sent counts no more.
func TestQuotaAfterLostConnections(t *testing.T) {
	t.Parallel()
	c := start(t, t.TempDir(), registry.Config{Rules: rules(t, quotas)})
	for range 5 {
		loc := c.want(c.do("POST", "/v2/team-a/x/blobs/uploads/", "", ""), 202, "").header.Get("Location")
		req, err := http.NewRequest("PATCH", c.url+loc, &brokenBody{900})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
		// The next request for the upload waits until the lost one is over.
		if got := c.do("GET", loc, "", "").header.Get("Range"); got != "0-0" {
			t.Errorf("Range %s", got)
		}
	}
	data := strings.Repeat("z", 1000)
	c.want(c.do("POST", "/v2/team-a/x/blobs/uploads/?digest="+string(evidence.SHA256([]byte(data))), "", data), 201, "")
}
