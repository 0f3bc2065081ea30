package git_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

// TestReachable: a commit is the repository's when a branch or tag leads to it, with and
// without a server that can leave trees out.
func TestReachable(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"true", "false"} {
		repo := gitrepo.New(t, "sha1")
		repo.Git("config", "uploadpack.allowAnySHA1InWant", "true")
		repo.Git("config", "uploadpack.allowFilter", filter)
		repo.Write("a", "1")
		first := repo.Commit("one")
		repo.Write("a", "2")
		second := repo.Commit("two")
		repo.Git("branch", "old", first)
		alone := strings.TrimSpace(repo.Git("commit-tree", "-m", "tagged alone", first+"^{tree}"))
		repo.Git("tag", "-a", "-m", "x", "annotated", alone)
		repo.Git("tag", "of-a-file", strings.TrimSpace(repo.Git("rev-parse", "HEAD:a")))
		imposter := strings.TrimSpace(repo.Git("commit-tree", "-m", "imposter", "-p", second, first+"^{tree}"))
		repo.Git("update-ref", "refs/pull/1/head", imposter)
		at := git.Location{Path: repo.Dir}
		for _, c := range []struct {
			commit, ref string
			want        bool
		}{
			{first, "", true}, {second, "", true}, {alone, "", true}, {imposter, "", false},
			{first, "refs/heads/old", true}, {second, "refs/heads/old", false}, {alone, "refs/heads/old", false}, {imposter, "refs/pull/1/head", true},
		} {
			src, why, err := git.OpenCommit(context.Background(), at, c.commit)
			if why != nil || err != nil {
				t.Fatal(why, err)
			}
			why, err = src.Reachable(context.Background(), c.ref)
			if err != nil || (why == nil) != c.want || why != nil && why.Code != git.CodeUnreachable {
				t.Errorf("%s from %q: %+v, %v", c.commit, c.ref, why, err)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
