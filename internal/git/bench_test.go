package git_test

import (
	"context"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// BenchmarkGate is what a gate reads of a folder: a release, its signer, two approvals, and
// on which branches it lies.
func BenchmarkGate(b *testing.B) {
	f := newFixture(b, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	l := git.Location{Path: f.Dir}
	ctx := context.Background()
	for i := range 2 {
		if _, err := git.PushApproval(ctx, l, f.commit, approvalID(i), []byte{'{', byte('0' + i), '}'}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		r, why, err := git.OpenRepository(ctx, l)
		if why != nil || err != nil {
			b.Fatal(why, err)
		}
		rel, why, err := r.Release(ctx, "v1")
		if why != nil || err != nil {
			b.Fatal(why, err)
		}
		if _, why := rel.Verify([]git.TagKey{sshTagKey(b, f.key)}, now); why != nil {
			b.Fatal(why)
		}
		if got, err := r.Approvals(ctx, rel.Commit.ID, nil); err != nil || len(got.Found) != 2 {
			b.Fatal(err)
		}
		if a, err := r.Ancestry(ctx, rel.Commit.ID, []string{"refs/heads/main"}); err != nil || len(a.ContainedIn) != 1 {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
