package git

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var here = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// TestAtIsAnonymous: what somebody else named is not asked for with the logins of whoever
// runs this. Not parallel: it has a home of its own.
func TestAtIsAnonymous(t *testing.T) {
	var mu sync.Mutex
	var logins []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		logins = append(logins, r.Header.Get("Authorization"))
		mu.Unlock()
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	home := t.TempDir()
	ca := filepath.Join(home, "ca.pem")
	for name, data := range map[string]string{
		ca:                             string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		filepath.Join(home, ".netrc"):  "machine 127.0.0.1 login operator password s3cret\n",
		filepath.Join(home, "_netrc"):  "machine 127.0.0.1 login operator password s3cret\n",
		filepath.Join(home, ".curlrc"): "user = operator:s3cret\n",
	} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_SSL_CAINFO", ca)
	location, err := ParseLocation(server.URL+"/a.git", false)
	if err != nil {
		t.Fatal(err)
	}
	at, err := location.At(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", "refs/heads/main", strings.Repeat("1", 40)} {
		logins = nil
		if _, _, err := FetchObjects(t.Context(), at, ref); err == nil || strings.Join(logins, "") != "" || len(logins) == 0 {
			t.Errorf("%q: %v, the server saw %q", ref, err, logins)
		}
		logins = nil
		if _, _, err := FetchObjects(t.Context(), location, ref); err == nil || strings.Join(logins, "") == "" {
			t.Errorf("%q: %v, and nobody logged in where the caller's login belongs: %q", ref, err, logins)
		}
	}
}

// TestAtNeedsGit: a git that would pass over the address in silence is not asked. Not
// parallel: it has a PATH of its own.
func TestAtNeedsGit(t *testing.T) {
	location := Location{URL: "https://material.invalid/a.git"}
	oldGit := t.TempDir() // a git that is too old, or that answers something else
	t.Setenv("PATH", oldGit)
	for says, ok := range map[string]bool{
		"git version 2.36.6": false, "git version 2.37.0": true, "git version 2.39.5 (Apple Git-154)": true, "git version 2.100.0": true,
		"git version 3.0.0": true, "git version 1.99.0": false, "git version 2.4": false, "git version 2": false, "git version x2.40.1": false,
		"git version 99999.1": false, "": false,
	} {
		if err := os.WriteFile(filepath.Join(oldGit, "git"), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if at, err := location.At(t.Context(), here); (err == nil) != ok || err != nil && at != (Location{}) {
			t.Errorf("%q: %v %v", says, at, err)
		}
	}
	if err := os.Remove(filepath.Join(oldGit, "git")); err != nil {
		t.Fatal(err)
	}
	if _, err := location.At(t.Context(), here); err == nil {
		t.Error("without git")
	}
}

// TestAtWants: only what git asks over https can be held to an address.
func TestAtWants(t *testing.T) {
	t.Parallel()
	for _, l := range []Location{{Path: "/tmp"}, {URL: "ssh://git@example.org/a"}, {URL: "http://127.0.0.1/a"}} {
		if at, err := l.At(t.Context(), here); err == nil {
			t.Errorf("%v: %v", l, at)
		}
	}
	if at, err := (Location{URL: "https://example.org/a"}).At(t.Context(), nil); err == nil {
		t.Error(at)
	}
}

// TestLocationsAreQuotedWithoutSecrets: a login is not told when the rest is wrong.
func TestLocationsAreQuotedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"https://rita:s3cret@example.org/a", "https://rita:s3'cret@" + strings.Repeat("x", 100) + "/a::b", "ftp://rita:s3cret@example.org/a",
		"rita:s3cret@example.org:a/b", strings.Repeat("a", 90) + "::https://rita:s3cret@example.org/",
		"https://" + strings.Repeat("s3cret", 30) + "@example.org/a::b",
	} {
		if _, err := ParseLocation(s, false); err == nil || strings.Contains(err.Error(), "s3") {
			t.Errorf("%v", err)
		}
	}
}
