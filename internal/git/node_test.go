package git

import (
	"slices"
	"testing"
)

// FuzzParents: where the strict parser takes a commit, the history sees the same parents.
func FuzzParents(f *testing.F) {
	const tree, parent = "tree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "parent bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
	const rest = "author A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000001 +0000\n"
	f.Add([]byte(tree + parent + rest + "\nmessage\n"))
	f.Add([]byte(tree + rest + "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\n\n" + parent))
	f.Add([]byte(tree + parent + parent + rest + "mergetag object\n " + parent + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(raw)
		n, nerr := parseNode(string(raw), 40)
		if err != nil || len(c.Tree) != 40 {
			return
		}
		if nerr != nil || !slices.Equal(n.parents, c.Parents) || n.signed != (c.Signature.Kind != "") || n.when != c.Committer.When.Unix() {
			t.Errorf("%+v %v, want %+v", n, nerr, c)
		}
	})
}
