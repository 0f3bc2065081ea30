package git

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLogins: what is a login, and where it is shown.
func TestLogins(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "two words", "line\nbreak", "tab\t", "ümlaut", "nul\x00", strings.Repeat("a", maxLogin+1)} {
		if l, err := TokenLogin(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v %v", bad, l, err)
		}
		if l, err := HeaderLogin("basic " + bad); err == nil {
			t.Errorf("header %q: %v", bad, l)
		}
	}
	for _, bad := range []string{"", "basic", " x", "basic a b"} {
		if l, err := HeaderLogin(bad); err == nil {
			t.Errorf("header %q: %v", bad, l)
		}
	}
	for remote, want := range map[string]bool{
		"https://git.example/app.git": true, "http://127.0.0.1:80/app.git": true, "http://localhost/app.git": true,
		"http://git.example/app.git": false, "ssh://git@git.example/app.git": false, "git@git.example:app.git": false, "https://bob@git.example/app.git": false,
		"git://git.example/app.git": false, "file:///app": false, "/app": false, "": false, "https:///app.git": false, "http://127.0.0.1.example/app.git": false,
	} {
		if TakesLogin(remote) != want {
			t.Errorf("%s: %t", remote, !want)
		}
	}
}

// TestLoginOfGit: git has the login in its environment and not in its arguments, for that
// repository; somebody without a login has none.
func TestLoginOfGit(t *testing.T) {
	t.Parallel()
	login, err := TokenLogin("canary")
	if err != nil {
		t.Fatal(err)
	}
	at := Location{URL: "https://git.example/acme/app.git"}.With(login)
	r, err := newRunner(at)
	if err != nil {
		t.Fatal(err)
	}
	defer r.remove()
	cmd := r.command(context.Background(), "version")
	env := strings.Join(cmd.Env, "\n")
	if strings.Contains(strings.Join(cmd.Args, " "), login.header) || !strings.Contains(env, "GIT_CONFIG_KEY_0=http.https://git.example/acme/app.git.extraHeader\nGIT_CONFIG_VALUE_0=Authorization: "+login.header) {
		t.Errorf("%v\n%s", cmd.Args, env)
	}
	r.anonymous = true
	if env := strings.Join(r.command(context.Background(), "version").Env, "\n"); strings.Contains(env, login.header) || strings.Contains(env, "extraHeader") {
		t.Error("somebody without a login has one")
	}
	at.resolve = "git.example:443:192.0.2.1"
	if len(at.environment()) > 0 {
		t.Error("what a stranger named is asked with a login")
	}
	if plain := (Location{URL: "http://git.example/app.git"}).With(login); plain.login != (Login{}) {
		t.Error("a login over plain HTTP")
	}
	if text := fmt.Sprintf("%v %+v %s", at, at, at); strings.Contains(text, login.header) {
		t.Errorf("it prints itself: %s", text)
	}
}

// TestAnswers: a repository answers at exactly its URL, with the login; where it sends git on
// nobody is asked.
func TestAnswers(t *testing.T) {
	t.Parallel()
	login, err := TokenLogin("canary")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != login.Header():
			http.Error(w, "no", http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		default:
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, "001e# service=git-upload-pack\n00000000")
		}
	}))
	defer server.Close()
	at := func(path string) Location { return Location{URL: server.URL + path} }
	if err := at("/app.git").With(login).Answers(t.Context()); err != nil {
		t.Error(err)
	}
	if err := at("/app.git").Answers(t.Context()); err == nil {
		t.Error("without a login")
	}
	if err := at("/moved.git").With(login).Answers(t.Context()); err == nil || !strings.Contains(err.Error(), "redirect") || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}
