package input

import "strings"

// Example is a complete document: the release v1.4.0 of github.com/org/app, with a tag
// signed in an HSM and approved by alice (FIDO) and bob (HSM), scanned by codeql and
// semgrep. Tests of policies get it as data.hallmark.testing.release.
func Example() *Document {
	const commit, object = "56ae342c12a9bb032e762c6fc648270f8027db40", "e1b1c5a1a6c2d1f0b7d84b2d3c4f5a69788c9d10"
	now, soon, before := Time("2026-11-20T12:00:00Z"), Time("2026-11-27T09:30:00Z"), Time("2026-11-20T09:30:00Z")
	stored, workflow := Time("2026-10-01T08:00:00Z"), "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/tags/v2"
	person := Person{Name: "Alice", Email: "alice@example.org", When: "2026-11-20T09:00:00Z"}
	text := func(s string) *string { return &s }
	number := func(n int) *int { return &n }
	yes := true
	approval := func(id, principal, protection string) Approval {
		return Approval{
			ID: "sha256:" + strings.Repeat(id, 64), Source: "signed", Principal: principal, Decision: "approve", Protection: protection,
			UserVerified: protection == "fido", Kind: "ssh", IssuedAt: &before, ExpiresAt: &soon,
			ReviewedBase: "0f6e5d4c3b2a19080706050403020100ffeeddcc",
		}
	}
	scan := func(tool string) Scan {
		return Scan{
			Tool: Tool{Name: tool, Version: "1.0.0"}, Scope: "attested", Trusted: true, Completed: true, Commit: commit,
			ConfigDigest: "sha256:" + strings.Repeat("c", 64), Rules: 120, FilesScanned: 88, MaxSeverity: "low", Counts: Counts{Low: 1},
			Signer: &Signed{Issuer: "https://token.actions.githubusercontent.com", Identity: "https://github.com/org/app/.github/workflows/scan.yml@refs/tags/v1.4.0"}, At: &before,
		}
	}
	return &Document{
		Kind: Kind, Action: "build", Now: now,
		Source: Source{Provider: "github.com", ID: "123456", OwnerID: "42", Name: "org/app", URI: "https://github.com/org/app", Visibility: "public", DefaultBranch: "main"},
		Git: Git{
			Schema: "https", Host: "github.com", Remote: "https://github.com/org/app.git", FullURL: "https://github.com/org/app.git#refs/tags/v1.4.0",
			Ref: "refs/tags/v1.4.0", TagName: "v1.4.0", Checksum: object, CommitChecksum: commit, IsAnnotatedTag: true,
			Tag: &Tag{
				Object: commit, Type: "commit", Tag: "v1.4.0", Tagger: person, Message: "v1.4.0\n\nHallmark-Repository: github.com/id/123456\n",
				SSHSignature: &SSHSignature{Version: 1, PubKey: "SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk"},
				Signer: &Signer{
					Verified: true, Kind: "ssh", KeyID: "SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk",
					Fingerprint: "SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk", Principal: "release-hsm", Roles: []string{"release"},
					Protection: "hsm", Namespace: "git", Hash: "sha512",
				},
				Trailers: Trailers{Repository: "github.com/id/123456"}, NameMatchesRef: true, RepositoryMatches: true,
			},
			Commit: Commit{Tree: "9bd1d3a0b7c8e2f4a5d6c7b8091a2b3c4d5e6f70", Parents: []string{"0f6e5d4c3b2a19080706050403020100ffeeddcc"}, Author: person, Committer: person, Message: "Release v1.4.0\n"},
		},
		Ancestry: Ancestry{
			ContainedIn: []string{"main"}, FirstParentIn: []string{"main"}, LastRelease: &Release{Tag: "v1.3.2", Commit: "0f6e5d4c3b2a19080706050403020100ffeeddcc"},
			LastReleaseIsAncestor: &yes, CommitsSince: number(41), UnsignedCommits: number(0),
		},
		Approvals: []Approval{approval("7", "alice", "fido"), approval("8", "bob", "hsm")},
		Rejected:  []Rejected{}, Scans: []Scan{scan("codeql"), scan("semgrep")},
		Builder: Builder{
			ID: "https://github.com/docker/github-builder", URI: workflow, Ref: "refs/tags/v2", Digest: "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00",
			Version: "v2", RunnerEnvironment: "github-hosted", Issuer: "https://token.actions.githubusercontent.com",
		},
		Run: Run{
			ID: text("9001"), Attempt: number(1), Event: text("push"), Actor: text("carol-gh"), ActorID: text("583233"), ActorPrincipal: text("carol"),
			Workflow: text(".github/workflows/release.yml"), HeadSHA: text(commit), URL: text("https://github.com/org/app/actions/runs/9001"),
		},
		Build: Build{Type: "image", Platforms: []string{"linux/amd64", "linux/arm64"}, Args: map[string]string{}, Push: true, Images: []string{"docker.io/org/app:1.4.0"}, Network: "default", Caps: []string{}},
		Policy: Policy{
			Key: "github.com/id/123456", Root: "sha256:" + strings.Repeat("1", 64), Version: 7, Digest: "sha256:" + strings.Repeat("2", 64), OwnerID: "42",
			StoredAt: &stored, EffectiveAt: &stored, PreviousRoots: []string{}, Freshness: "witnessed", HeadTime: &now,
		},
	}
}
