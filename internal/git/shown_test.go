package git

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestCheckoutAroundTheTemporaryFolder: jobs put it into a checkout, whose configuration
// may hold the job's login.
func TestCheckoutAroundTheTemporaryFolder(t *testing.T) {
	checkout := t.TempDir()
	inside := filepath.Join(checkout, "tmp")
	for _, args := range [][]string{{"init", "--quiet", checkout}, {"-C", checkout, "config", "hallmark.leak", "yes"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(inside, link); err != nil {
		t.Fatal(err)
	}
	for _, tmp := range []string{inside, link} {
		t.Setenv("TMPDIR", tmp)
		r, err := newRunner(Location{URL: "https://git.example.com/x.git"})
		if err != nil {
			t.Fatal(err)
		}
		plain := exec.Command("git", "config", "hallmark.leak")
		plain.Dir = r.dir
		if out, err := plain.Output(); err != nil || string(out) != "yes\n" {
			t.Fatalf("the test tests nothing: %v %s", err, out)
		}
		for _, r.anonymous = range []bool{false, true} {
			if out, err := r.run(context.Background(), "looking", "config", "hallmark.leak"); err == nil {
				t.Errorf("%s: the checkout's configuration is read: %s", tmp, out)
			}
		}
		if err := r.remove(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenAddresses(t *testing.T) {
	t.Parallel()
	got := open([]string{
		"https://gitlab-ci-token:secret@gitlab.example.com/g/p.git", // GitLab's runner
		"https://gitlab.example.com/g/p.git",                        // the same
		"https://x-access-token@github.example.com/o/r",
		"git@github.example.com:o/r.git",
		"ssh://git@github.example.com:22/o/r.git",
		"/srv/git/r.git", "file:///srv/git/r.git", "ext::sh -c id", "https://", "",
	})
	want := []Location{{URL: "https://gitlab.example.com/g/p.git"}, {URL: "https://github.example.com/o/r"}, {URL: "https://github.example.com/o/r.git"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
