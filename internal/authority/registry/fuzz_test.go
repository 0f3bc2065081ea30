package registry_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// FuzzRequest sends every endpoint anything: it never panics, never fails itself,
// answers in the specification's form, shows nobody what they may not see, and
// keeps only what its name says, in its own folder.
func FuzzRequest(f *testing.F) {
	outside := f.TempDir()
	dir := filepath.Join(outside, "registry")
	srv, err := registry.Open(dir, registry.Config{
		URL: "http://registry.example", Login: named, MaxBlob: 1 << 16, MaxManifest: 1 << 16,
		Rules: rules(f, "rights:\n- {repositories: [\"open/**\"], principals: [anyone], actions: [pull, push, delete]}\n"+
			"- {repositories: [\"**\"], principals: [\"user:root\"], actions: [pull, push, delete]}\n"+
			"quotas: [{repositories: [\"**\"], bytes: 1GiB}]\n"),
	})
	if err != nil {
		f.Fatal(err)
	}
	send := func(method, target, query, header, auth string, body []byte) *httptest.ResponseRecorder {
		r, err := http.NewRequest(method, "http://registry.example/", strings.NewReader(string(body)))
		if err != nil {
			return nil
		}
		r.URL.Path, r.URL.RawQuery = target, query
		for line := range strings.SplitSeq(header, "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok {
				r.Header.Add(k, strings.TrimSpace(v))
			}
		}
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		return w
	}
	const hidden = "what only root may see"
	d := string(evidence.SHA256([]byte(hidden)))
	m := `{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"` + d + `","size":22},"layers":[]}`
	for _, repo := range []string{"secret/app", "open/app"} {
		send("POST", "/v2/"+repo+"/blobs/uploads/", "digest="+d, "", basic("root"), []byte(hidden))
		send("PUT", "/v2/"+repo+"/manifests/v1", "", "Content-Type: "+ociManifest, basic("root"), []byte(m))
	}
	if w := send("GET", "/v2/secret/app/manifests/v1", "", "", basic("root"), nil); w.Body.String() != m {
		f.Fatal(w.Body)
	}
	for _, path := range []string{"/v2/", "/v2/_catalog", registry.TokenPath, "/v2/open/app/tags/list", "/v2/open/app/manifests/v1", "/v2/open/app/blobs/" + d,
		"/v2/open/app/referrers/" + d, "/v2/open/app/blobs/uploads/", "/v2/open/app/blobs/uploads/0", "/v2/secret/app/blobs/" + d, "/v2/open/../secret/app/manifests/v1"} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
			f.Add(method, path, "digest="+d+"&n=1&last=v&mount="+d+"&from=secret/app&scope=repository:open/app:pull", "Content-Type: "+ociManifest+"\nContent-Range: 0-3\nRange: bytes=1-", "", []byte(m))
		}
	}
	f.Add("GET", "/v2/_catalog", "", "", "Bearer a.b.c", []byte{})
	f.Fuzz(func(t *testing.T, method, target, query, header, auth string, body []byte) {
		if strings.Contains(auth, "Basic ") || strings.Contains(strings.ToLower(header), "authorization") {
			return // root's password is in the corpus of nobody
		}
		w := send(method, target, query, header, auth, body)
		if w == nil {
			return
		}
		if w.Code >= 500 || w.Code < 200 {
			t.Fatalf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code >= 400 && method != "HEAD" && w.Code != http.StatusRequestedRangeNotSatisfiable && w.Code != http.StatusPreconditionFailed {
			var e struct {
				Errors []struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Code == "" {
				t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
			}
		}
		if strings.HasPrefix(target, "/v2/secret/") && w.Code < 400 {
			t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		entries, _ := os.ReadDir(outside)
		if len(entries) != 1 {
			t.Errorf("%s %q wrote outside of its folder: %v", method, target, entries)
		}
		if w.Code == http.StatusCreated {
			wholeFiles(t, filepath.Join(dir, "repos"))
		}
	})
}

// wholeFiles is whole for files that are written with either algorithm.
func wholeFiles(t *testing.T, root string) {
	t.Helper()
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Base(filepath.Dir(path)) != "sha256" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && len(e.Name()) == 64 && evidence.SHA256(data).Hex() != e.Name() {
			t.Errorf("%s does not hold what its name says", path)
		}
		return nil
	})
}

// FuzzToken: nothing but a token that was issued is one.
func FuzzToken(f *testing.F) {
	check, good := registry.CheckToken()
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30.")
	f.Add("..")
	if !check(good) {
		f.Fatal("a token that was issued is refused")
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if check(raw) && raw != good {
			t.Errorf("%q was taken", raw)
		}
	})
}
