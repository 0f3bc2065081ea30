package main

import "testing"

// TestOfGitHub: where BuildKit shows a login to every repository of the server.
func TestOfGitHub(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]bool{
		"https://github.com/acme/app.git": true, "https://www.github.com/acme/app": true, "https://GitHub.com/acme/app": true, "https://github.com:443/a": true,
		"https://git.example/github.com/app.git": false, "https://github.com.example/a": false,
	} {
		if ofGitHub(remote) != want {
			t.Errorf("%s: %t", remote, !want)
		}
	}
}
