package sourcepolicy_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestFetchByCommit: with fetch-by-commit BuildKit fetches the commit and believes the
// ref beside it unseen, so a policy is not told that ref, by the name or by BuildKit.
func TestFetchByCommit(t *testing.T) {
	t.Parallel()
	commit, other := strings.Repeat("a", 40), strings.Repeat("b", 40)
	const repo = "git://example.org/x.git"
	type attrs = map[string]string
	by := func(checksum string) attrs {
		return attrs{sourcepolicy.AttrGitFetchByCommit: "true", sourcepolicy.AttrGitChecksum: checksum}
	}
	branch := head + `allow if input.git.branch == "main"`
	tag := head + `allow if input.git.tagName == "v1"`
	ref := head + `allow if input.git.ref == "refs/heads/main"`
	pinned := head + "allow if {\n input.git.isCommitRef\n input.git.commitChecksum == \"" + commit + "\"\n input.git.ref == input.git.checksum\n}"
	for _, c := range []struct {
		name, policy, id string
		attrs            attrs
		allowed          bool
		code             string
	}{
		{"a branch that was looked up by its name", branch, repo + "#refs/heads/main", nil, true, ""},
		{"a branch that is claimed", branch, repo + "#refs/heads/main", by(commit), false, "POLICY_DENIED"},
		{"a short name that is claimed", branch, repo + "#main", by(commit), false, "POLICY_DENIED"},
		{"a tag that is claimed", tag, repo + "#refs/tags/v1", by(commit), false, "POLICY_DENIED"},
		{"a ref that is claimed", ref, repo + "#refs/heads/main:dir", by(commit), false, "POLICY_DENIED"},
		{"the commit", pinned, repo + "#refs/heads/main", by(commit), true, ""},
		{"the commit without a ref", pinned, repo, by(commit), true, ""},
		{"the commit as the ref", pinned, repo + "#" + commit, by(other), true, ""}, // BuildKit refuses what differs
		{"another commit", pinned, repo + "#refs/heads/main", by(other), false, "POLICY_DENIED"},
		{"the checksum without fetch-by-commit", branch, repo + "#refs/heads/main", attrs{sourcepolicy.AttrGitChecksum: commit}, true, ""},
		{"switched off", branch, repo + "#refs/heads/main", attrs{sourcepolicy.AttrGitFetchByCommit: "false", sourcepolicy.AttrGitChecksum: commit}, true, ""},
		{"no checksum", branch, repo + "#refs/heads/main", by(""), false, "SOURCE_UNSUPPORTED"},
		{"a prefix of one", branch, repo + "#refs/heads/main", by(commit[:12]), false, "SOURCE_UNSUPPORTED"},
		{"out of a bundle", branch, repo + "#refs/heads/main", attrs{sourcepolicy.AttrGitBundle: "docker-image+blob://example.org/x@" + string(digest1)}, false, "SOURCE_UNSUPPORTED"},
	} {
		src := sourcepolicy.Source{Identifier: c.id, Attrs: c.attrs}
		// What BuildKit answers: the ref that was claimed.
		claimed := sourcepolicy.Facts{Git: &sourcepolicy.GitRefFact{Ref: "refs/heads/main", Checksum: commit, CommitChecksum: commit}}
		if c.name == "another commit" {
			claimed.Git.Checksum, claimed.Git.CommitChecksum = other, other
		}
		for what, known := range map[string]sourcepolicy.Facts{"by its name": {}, "with BuildKit's answer": claimed} {
			d, err := compile(t, c.policy).Evaluate(t.Context(), sourcepolicy.Request{Source: src, Known: known, Now: noon})
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != c.allowed || !c.allowed && d.Reasons[0].Code != c.code {
				t.Errorf("%s, %s: %+v", c.name, what, d.Decision)
			}
		}
	}
}
