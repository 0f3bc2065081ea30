package main

import "testing"

// What --ci signs becomes public: no credential of a clone URL may be in it, and
// a text of which nobody can say that is not signed at all.
func TestWithoutCredentials(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://git.example/app.git":                       "https://git.example/app.git",
		"https://user:hunter2@git.example/app.git":          "https://git.example/app.git",
		"https://hunter2@git.example:8443/app.git":          "https://git.example:8443/app.git",
		"https://git.example/app.git?private_token=hunter2": "https://git.example/app.git",
		"https://git.example/app.git#hunter2":               "https://git.example/app.git",
		"ssh://git:hunter2@git.example/app.git":             "ssh://git.example/app.git",
		"git@git.example:org/app.git":                       "git@git.example:org/app.git",
		"/srv/git/app.git":                                  "/srv/git/app.git",
		"https://user:hunter%2@git.example/app.git":         "", // not a URL: the password has a stray %
		"https://user:hunter 2@git.example/app.git":         "",
		"https://user:hun/ter2@git.example/app.git":         "",
		"user:hunter2@git.example:org/app.git":              "",
		"https://user:hunter2@/app.git":                     "",
		"":                                                  "",
	} {
		if got := withoutCredentials(raw); got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
	}
}
