package judge_test

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const repositoryKey = "github.com/id/123456"

const quorum = `package hallmark.signing

import data.hallmark.lib

default allow := false

allow if {
	lib.signed_tag_by({"role:release"})
	lib.quorum({"alice", "bob", "carol"}, 2)
}
`

// world is a repository with a signed tag v1.0.0, and a policy of three people.
type world struct {
	t       *testing.T
	repo    *gitrepo.Repo
	release gitrepo.Key
	people  map[string]crypto.Signer
	public  map[string]string
	folder  *judge.Folder
	dir     string // of approvals
}

func newWorld(t *testing.T, text string) *world {
	t.Helper()
	w := &world{t: t, repo: gitrepo.New(t, "sha1"), release: gitrepo.NewKey(t, "ed25519", 0), people: map[string]crypto.Signer{}, public: map[string]string{}, dir: t.TempDir()}
	for i, name := range []string{"alice", "bob", "carol", "mallory"} {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string('a'+rune(i)), ed25519.SeedSize)))
		public, err := ssh.NewPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		w.people[name], w.public[name] = key, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	}
	w.repo.Write("Dockerfile", "FROM scratch\n")
	w.repo.Commit("one")
	w.repo.SignTag(w.release, "v1.0.0", "HEAD")
	w.folder = w.policy(text)
	return w
}

func (w *world) policy(text string) *judge.Folder {
	w.t.Helper()
	dir := w.t.TempDir()
	var people []string
	for _, name := range []string{"alice", "bob", "carol"} {
		people = append(people, fmt.Sprintf(`%q:{"keys":[{"kind":"ssh","publicKey":%q,"protection":"software","uses":["approve","update"]}],"accounts":{"github.com":"%d"}}`, name, w.public[name], len(people)+1))
	}
	doc := fmt.Sprintf(`{"principals":{%s,"hsm":{"machine":true,"keys":[{"kind":"ssh","publicKey":%q,"protection":"hsm","uses":["tag"]}]}},
		"roles":{"update":{"threshold":2,"principals":["alice","bob","carol"],"evidence":["signed"]},"release":{"principals":["hsm"]}}}`, strings.Join(people, ","), w.release.Public)
	for name, content := range map[string]string{judge.AuthorityFile: doc, rules.RulesFile: text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	folder, why, err := judge.ReadFolder(dir, rules.Options{Obligations: rules.ObligationTypes()})
	if err != nil || len(why) > 0 {
		w.t.Fatal(err, why)
	}
	return folder
}

func (w *world) open() *git.Repository {
	w.t.Helper()
	at, err := git.ParseLocation(w.repo.Dir, false)
	if err != nil {
		w.t.Fatal(err)
	}
	repo, why, err := git.OpenRepository(w.t.Context(), at)
	if err != nil || why != nil {
		w.t.Fatal(err, why)
	}
	w.t.Cleanup(func() { _ = repo.Close() })
	return repo
}

func (w *world) check(change func(*judge.Request)) *judge.Result {
	w.t.Helper()
	r := judge.Request{Folder: w.folder, Repo: w.open(), Ref: "v1.0.0", Dirs: []string{w.dir}, Now: time.Now()}
	if change != nil {
		change(&r)
	}
	res, err := judge.Check(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// approve puts an approval by somebody into the folder.
func (w *world) approve(signer, principal string, change func(*approval.Statement)) string {
	w.t.Helper()
	res := w.check(nil)
	s := approval.Statement{Action: approval.ActionBuild, Decision: approval.Approve, Principal: principal,
		Repository: approval.Repository{Key: res.Key, URI: "local"}, Commit: res.Release.Git.CommitChecksum, Ref: res.Release.Git.Ref,
		TagObject: res.Release.Tag.ID, Tree: res.Release.Commit.Tree, Policy: res.Policy}
	if change != nil {
		change(&s)
	}
	payload, err := approval.Build(s)
	if err != nil {
		w.t.Fatal(err)
	}
	envelope, err := approval.SignWithKey(payload, w.people[signer])
	if err != nil {
		w.t.Fatal(err)
	}
	path, err := git.WriteApprovalDir(w.dir, res.Release.Git.CommitChecksum, strings.TrimPrefix(approval.ID(payload), "sha256:"), envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func codes(res *judge.Result) string {
	var out []string
	for _, r := range res.Decision.Reasons {
		out = append(out, r.Code)
	}
	if res.Decision.Allowed != (len(out) == 0) {
		out = append(out, fmt.Sprintf("allowed=%v", res.Decision.Allowed))
	}
	return strings.Join(slices.Compact(out), " ")
}

func (w *world) want(what, want string, change func(*judge.Request)) *judge.Result {
	w.t.Helper()
	res := w.check(change)
	if got := codes(res); got != want {
		w.t.Errorf("%s: %q, want %q\n%+v", what, got, want, res.Decision)
	}
	return res
}

func TestPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	w.want("nobody", "QUORUM_MISSING", nil)
	w.approve("alice", "alice", nil)
	w.want("one of two", "QUORUM_MISSING", nil)
	w.approve("alice", "alice", nil)
	w.want("the same person twice", "QUORUM_MISSING", nil)
	w.approve("mallory", "bob", nil)
	w.want("a stranger as bob", "QUORUM_MISSING", nil)
	w.approve("alice", "bob", nil)
	w.want("alice as bob", "QUORUM_MISSING", nil)
	for what, change := range map[string]func(*approval.Statement){
		"another commit":     func(s *approval.Statement) { s.Commit = strings.Repeat("1", 40) },
		"another tag object": func(s *approval.Statement) { s.TagObject = strings.Repeat("1", 40) },
		"another ref":        func(s *approval.Statement) { s.Ref = "refs/tags/v1.0.1" },
		"another tree":       func(s *approval.Statement) { s.Tree = strings.Repeat("1", 40) },
		"another repository": func(s *approval.Statement) { s.Repository.Key = repositoryKey },
		"another policy":     func(s *approval.Statement) { s.Policy.Digest = "sha256:" + strings.Repeat("1", 64) },
		"an update": func(s *approval.Statement) {
			s.Action, s.Commit, s.Ref, s.Tree, s.TagObject, s.Proposal = approval.ActionUpdate, "", "", "", "", "sha256:"+strings.Repeat("1", 64)
		},
		"expired": func(s *approval.Statement) {
			s.IssuedAt = time.Now().Add(-48 * time.Hour).UTC().Truncate(time.Second)
			s.ExpiresAt = s.IssuedAt.Add(time.Hour)
		},
	} {
		w.approve("bob", "bob", change)
		w.want(what, "QUORUM_MISSING", nil)
	}
	w.approve("mallory", "mallory", func(s *approval.Statement) { s.Decision = approval.Reject; s.Reviewed.Note = "no" })
	good := w.approve("bob", "bob", nil)
	res := w.want("two, and a stranger's veto", "", nil)
	if got := len(res.Input.Approvals); got < 2 || res.TagSigner == nil || res.TagSigner.Principal != "hsm" {
		t.Errorf("%d approvals, signer %+v", got, res.TagSigner)
	}
	w.approve("carol", "carol", func(s *approval.Statement) { s.Decision = approval.Reject; s.Reviewed.Note = "no" })
	w.want("a veto", "APPROVAL_REJECTED", nil)
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	w.want("a veto and one approval", "APPROVAL_REJECTED QUORUM_MISSING", nil)
}

// TestEvidence: a place of approvals that cannot be read denies, for it may hold a veto.
func TestEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	w.approve("alice", "alice", nil)
	w.approve("bob", "bob", nil)
	w.want("two", "", nil)
	w.want("a folder that is not there", git.CodeEvidence, func(r *judge.Request) { r.Dirs = append(r.Dirs, filepath.Join(w.dir, "gone")) })
}

func (w *world) job(change func(*judge.Job)) func(*judge.Request) {
	commit := w.repo.Git("rev-parse", "HEAD")
	text := func(s string) *string { return &s }
	attempt := 1
	j := &judge.Job{Commit: commit, Ref: "refs/tags/v1.0.0", IssuedAt: time.Now(),
		Source:  input.Source{Provider: "github.com", ID: "123456", OwnerID: "42", Name: "org/app", URI: "https://github.com/org/app", Visibility: "public"},
		Builder: input.Builder{ID: "https://github.com/b/b/.github/workflows/build.yml@refs/tags/v1", URI: "https://github.com/b/b/.github/workflows/build.yml@refs/tags/v1", Ref: "refs/tags/v1", Digest: commit, RunnerEnvironment: "github-hosted", Issuer: "https://token.actions.githubusercontent.com"},
		Run:     input.Run{ID: text("1"), Attempt: &attempt, Event: text("push"), Actor: text("rita"), ActorID: text("2"), Workflow: text("release"), HeadSHA: text(commit), URL: text("https://github.com/org/app/actions/runs/1")}}
	if change != nil {
		change(j)
	}
	return func(r *judge.Request) { r.Job = j }
}

func TestJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(quorum, "allow if {", "allow if {\n\tinput.source.id == \"123456\"\n\tinput.run.actorPrincipal == \"bob\"\n\tinput.source.defaultBranch == \"main\"", 1))
	for _, who := range []string{"alice", "bob"} {
		w.approve(who, who, func(s *approval.Statement) { s.Repository.Key = repositoryKey })
	}
	res := w.want("the job", "", w.job(nil))
	if res.Key != repositoryKey {
		t.Errorf("key %s", res.Key)
	}
	w.want("a fork's job", "POLICY_DENIED", w.job(func(j *judge.Job) { j.Source.ID = "777" }))
	w.want("another commit", judge.CodeCommitMismatch, w.job(func(j *judge.Job) { j.Commit = strings.Repeat("1", 40) }))
	w.want("another ref", judge.CodeCommitMismatch, w.job(func(j *judge.Job) { j.Ref = "refs/heads/main" }))
	w.want("a clock that is slow", judge.CodeClock, w.job(func(j *judge.Job) { j.IssuedAt = time.Now().Add(judge.MaxSkew + time.Minute) }))
	w.want("an old identity", judge.CodeClock, w.job(func(j *judge.Job) { j.IssuedAt = time.Now().Add(-judge.MaxSkew - time.Minute) }))
	w.want("no run", "INPUT_INCOMPLETE", w.job(func(j *judge.Job) { j.Run.ID = nil }))
	w.want("no owner", "INPUT_INCOMPLETE", w.job(func(j *judge.Job) { j.Source.OwnerID = "" }))
}

// TestTags: what is wrong with a tag is named, whatever the rules ask for.
func TestTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "package hallmark.signing\n\ndefault allow := false\n\nallow if input.git.isAnnotatedTag\n")
	w.want("a signed tag", "", nil)
	w.repo.Git("tag", "light")
	w.repo.Git("tag", "v9.9.9", "v1.0.0")
	w.repo.SignTag(w.release, "nested", "v1.0.0")
	at := func(ref string) func(*judge.Request) { return func(r *judge.Request) { r.Ref = ref } }
	w.want("a lightweight tag", "TAG_NOT_ANNOTATED POLICY_DENIED", at("light"))
	w.want("another name", "TAG_NAME_MISMATCH", at("v9.9.9"))
	w.want("a tag of a tag", "TAG_TARGET_TYPE", at("nested"))
	w.want("a branch", "POLICY_DENIED", at("refs/heads/main"))
	w.repo.Git("-c", "gpg.format=ssh", "-c", "user.signingKey="+w.release.Path, "tag", "-s", "-m", "v2\n\nHallmark-Repository: github.com/id/777", "v2.0.0")
	res := w.want("what the tag says", "", at("v2.0.0"))
	if res.Key != "github.com/id/777" || !res.Input.Git.Tag.RepositoryMatches {
		t.Errorf("key %s, matches %v", res.Key, res.Input.Git.Tag.RepositoryMatches)
	}
	w.want("another repository", "TAG_OTHER_REPOSITORY", func(r *judge.Request) { r.Ref, r.Key = "v2.0.0", repositoryKey })
	stranger := gitrepo.NewKey(t, "ed25519", 0)
	w.repo.Git("-c", "gpg.format=ssh", "-c", "user.signingKey="+stranger.Path, "tag", "-s", "-m", "v3\n\nHallmark-Repository: "+repositoryKey, "v3.0.0")
	res = w.want("a stranger's tag", "", at("v3.0.0"))
	if res.Key != input.Local || res.Input.Git.Tag.Signer != nil || res.Input.Git.Tag.Trailers.Repository != "" {
		t.Errorf("a stranger says which repository it is: %s, %+v", res.Key, res.Input.Git.Tag)
	}
}

// TestDigest: people and rules are in the policy's digest, spelling is not.
func TestDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	digest := func(f *judge.Folder) string {
		d, err := f.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest(w.folder)
	if again := digest(w.policy(quorum)); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other := digest(w.policy(quorum + "\n# changed\n")); other == first {
		t.Error("other rules, the same digest")
	}
	w.public["carol"] = w.public["mallory"]
	if other := digest(w.policy(quorum)); other == first {
		t.Error("other people, the same digest")
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	want := []string{"refs/tags/latest", "refs/tags/v1.0.0-rc.1", "refs/tags/v1.0.0", "refs/tags/1.2.0", "refs/tags/release-1.10.0", "refs/tags/v2.0.0"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, judge.CompareVersions)
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if judge.IsVersion("refs/tags/latest") || !judge.IsVersion("refs/tags/v1.0.0") {
		t.Error("what is a version")
	}
}

// TestPipe: nobody waits for what will never be written.
func TestPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, judge.AuthorityFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, why, err := judge.ReadFolder(dir, rules.Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v, %v", why, err)
	}
}
