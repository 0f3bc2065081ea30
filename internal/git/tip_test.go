package git_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

func TestFind(t *testing.T) {
	t.Parallel()
	repo := gitrepo.New(t, "sha1")
	repo.Write("a", "1")
	commit := repo.Commit("one")
	repo.Git("tag", "light")
	repo.Git("tag", "-a", "-m", "x", "annotated")
	repo.Git("tag", "both")
	repo.Git("branch", "both")
	repo.Git("branch", "other")
	object := strings.TrimSpace(repo.Git("rev-parse", "refs/tags/annotated"))
	at := git.Location{Path: repo.Dir}
	for ref, want := range map[string]git.Tip{
		"":                    {Ref: "HEAD", ID: commit, Commit: commit},
		"light":               {Ref: "refs/tags/light", ID: commit, Commit: commit},
		"annotated":           {Ref: "refs/tags/annotated", ID: object, Commit: commit},
		"refs/tags/annotated": {Ref: "refs/tags/annotated", ID: object, Commit: commit},
		"tags/light":          {Ref: "refs/tags/light", ID: commit, Commit: commit},
		"refs/heads/both":     {Ref: "refs/heads/both", ID: commit, Commit: commit},
		"other":               {Ref: "refs/heads/other", ID: commit, Commit: commit},
		commit:                {Ref: commit, ID: commit, Commit: commit},
		object:                {Ref: object, ID: object, Commit: object},
	} {
		got, err := git.Find(context.Background(), at, ref)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"both": "is more than one thing", "none": "has no tag or branch none", "ght": "has no tag or branch ght", "-x": "", "a..b": "", "*": "", commit[:39]: "has no tag or branch",
	} {
		if got, err := git.Find(context.Background(), at, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", ref, got, err, want)
		}
	}
}
