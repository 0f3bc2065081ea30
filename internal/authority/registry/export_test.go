package registry

import "time"

// Internals that the tests look at from outside.
var (
	CheckName     = checkName
	ValidTag      = validTag
	ParseManifest = parseManifest
)

// MaxUploads is how many uploads are remembered at once.
const MaxUploads = maxUploads

// CheckToken reports whether a token is good, and has one that is.
func CheckToken() (check func(raw string) bool, good string) {
	t := newTokens("http://registry.example", "registry.example", time.Now)
	good, _, err := t.issue("user:x", []access{{"repository", "app", allActions}})
	if err != nil {
		panic(err)
	}
	return func(raw string) bool { _, err := t.check(raw); return err == nil }, good
}
