package git_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

func TestHas(t *testing.T) {
	t.Parallel()
	repo := gitrepo.New(t, "sha256")
	repo.Write("Dockerfile", "FROM scratch\n")
	repo.Write("docker/app/Dockerfile.rego", "package docker\n")
	for link, to := range map[string]string{"link": "docker", "dangling": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(repo.Dir, link)); err != nil {
			t.Fatal(err)
		}
		repo.Git("add", link)
	}
	repo.SignTag(gitrepo.NewKey(t, "ed25519", 0), "v1.0.0", repo.Commit("all"))
	repo.Write("later", "not in the tag\n")
	repo.Commit("later")
	src, why, err := git.Open(context.Background(), git.Location{Path: repo.Dir}, "v1.0.0")
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	t.Cleanup(func() { src.Close() })
	for path, want := range map[string]bool{
		"Dockerfile": true, "docker": true, "docker/app": true, "docker/app/Dockerfile.rego": true,
		"link/app/Dockerfile.rego": true, "dangling": true, // only the exported tree tells
		"dockerfile": false, "Dockerfile.rego": false, "docker/Dockerfile.rego": false, "Dockerfile/x": false,
		"later": false, "": false, "docker/": false, "../Dockerfile": false, "/Dockerfile": false,
	} {
		if got, err := src.Has(context.Background(), path); got != want || err != nil {
			t.Errorf("%q: %v %v, want %v", path, got, err, want)
		}
	}
	for path, want := range map[string]bool{
		"docker": true, "docker/app": true,
		"link": false, "link/app": false, "dangling": false, "Dockerfile": false, "Dockerfile/x": false, "docker/nowhere": false,
		"": false, ".": false, "..": false, "docker/..": false, "docker/": false, "/docker": false,
	} {
		if got, err := src.IsFolder(context.Background(), path); got != want || err != nil {
			t.Errorf("folder %q: %v %v, want %v", path, got, err, want)
		}
	}
}
