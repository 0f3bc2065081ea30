package git

import (
	"os"
	"strings"
	"testing"
)

// TestCollision: what is one of a colliding pair is refused (row 31). Nobody has published a
// pair of git objects, whose hashed bytes begin with "commit" and a size: the published
// messages stand for what is hashed.
func TestCollision(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"shattered-1", "sha-mbles-2"} {
		data, err := os.ReadFile("../sha1collision/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		id := strings.Repeat("a", 40)
		if why := collidingMessage("commit", id, data); why == nil || why.Code != CodeCollision {
			t.Error(name, why)
		}
		if why := collides("commit", id, data); why != nil { // behind a header it is none
			t.Error(name, why)
		}
		if why := collidingMessage("commit", strings.Repeat("a", 64), data); why != nil {
			t.Error(name, "in a SHA-256 repository", why)
		}
	}
}
