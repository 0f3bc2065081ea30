package inforce_test

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/inforce"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const quorum = `package hallmark.signing

import data.hallmark.lib

default allow := false

allow if {
	lib.signed_tag_by({"role:release"})
	lib.quorum({"alice", "bob", "carol"}, 2)
}
`

// world is a repository with a signed tag, whose policy is in a store, as it is an hour after the
// second version of it was logged.
type world struct {
	*policyforge.World
	*policyforge.Operator
	t      *testing.T
	now    time.Time
	repo   *gitrepo.Repo
	people record.RawJSON
	v1, v2 *policyforge.Signed
	dir    string // of approvals
	cfg    *inforce.Config
	job    *judge.Job // nil: a rehearsal
}

func newWorld(t *testing.T, rego string) *world {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	w := &world{World: policyforge.New(now.Add(-200 * time.Hour)), Operator: policyforge.NewOperator(), t: t, now: now, repo: gitrepo.New(t, "sha1"), dir: t.TempDir()}
	key := gitrepo.NewKey(t, "ed25519", 0)
	data, err := os.ReadFile(key.Path)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	w.Take("hsm", signer)
	w.repo.Write("Dockerfile", "FROM scratch\n")
	w.repo.Commit("one")
	w.repo.SignTag(key, "v1.0.0", "HEAD")
	w.people = w.Authority(policyforge.Role{Threshold: 2, People: []string{"alice", "bob", "carol"}}, w.WithRole("release", policyforge.Role{People: []string{"hsm"}}))
	w.v1 = w.add(w.First(w.before(100), w.people, "alice", "bob"), rego)
	w.v2 = w.add(w.Next(w.before(2), w.v1, w.people, "bob", "carol"), rego)
	w.cfg = &inforce.Config{Store: "unused", Trust: filepath.Join(t.TempDir(), "trust"), TrustedRoot: "unused",
		Updaters: []policy.Identity{{Subject: policyforge.Updater, Issuer: policyforge.Issuer}}}
	if err := os.WriteFile(w.cfg.Trust, []byte(w.Trust()), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) before(hours float64) time.Time {
	return w.now.Add(-time.Duration(hours * float64(time.Hour)))
}

// add logs a version with rules, and shows it at once and now.
func (w *world) add(v policyforge.Version, rego string) *policyforge.Signed {
	w.t.Helper()
	var bundle []byte
	if rego != "" {
		p, why := rules.Load(map[string][]byte{rules.RulesFile: []byte(rego)}, rules.Options{Obligations: rules.ObligationTypes()})
		if why != nil {
			w.t.Fatal(why)
		}
		bundle = p.Bundle()
	}
	return w.addBundle(v, bundle)
}

func (w *world) addBundle(v policyforge.Version, bundle []byte) *policyforge.Signed {
	w.t.Helper()
	change := v.Change
	v.Change = func(p *record.Predicate) {
		if change != nil {
			change(p)
		}
		if p.Policy != nil && bundle != nil {
			p.Policy.Bundle, p.Policy.Size = evidence.SHA256(bundle), int64(len(bundle))
		}
	}
	s := w.Sign(v)
	if s.Policy != nil {
		s.Text = bundle
	}
	w.Append(s)
	w.Publish(v.At.Add(time.Minute))
	w.Show(w.now.Add(-time.Minute))
	return s
}

func (w *world) ask() *inforce.Answer {
	w.t.Helper()
	c, err := inforce.Open(w.cfg, inforce.Options{Root: w.Sigstore.Root, Source: w.Operator, Now: func() time.Time { return w.now },
		Load: func(_ context.Context, files map[string][]byte) (*rules.Policy, []policy.Reason, error) {
			p, why := rules.Load(files, rules.Options{Obligations: rules.ObligationTypes()})
			return p, why, nil
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	repo := chain.Repository{Key: policyforge.Key}
	if w.job != nil {
		repo.Name, repo.OwnerID, repo.IssuedAt = policyforge.Name, policyforge.OwnerID, w.now
	}
	answer, err := c.Ask(w.t.Context(), repo)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// check is the gate: the store is asked, and the policy about the tag.
func (w *world) check() *judge.Result {
	w.t.Helper()
	a := w.ask()
	if len(a.Denied) > 0 {
		return &judge.Result{Decision: policy.Deny(a.Denied...)}
	}
	at, err := git.ParseLocation(w.repo.Dir, false)
	if err != nil {
		w.t.Fatal(err)
	}
	repo, why, err := git.OpenRepository(w.t.Context(), at)
	if err != nil || why != nil {
		w.t.Fatal(err, why)
	}
	defer repo.Close() //nolint:errcheck // of a test
	res, err := judge.Check(w.t.Context(), judge.Request{Folder: a.Folder, Absent: a.Absent, Repo: repo, Ref: "v1.0.0", Key: policyforge.Key, Dirs: []string{w.dir}, Job: w.job, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	res.Decision.Warnings = append(a.Warnings, res.Decision.Warnings...)
	return res
}

func codes(reasons []policy.Reason) string {
	var out []string
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	return strings.Join(slices.Compact(out), " ")
}

func (w *world) want(what, denied, warned string) *judge.Result {
	w.t.Helper()
	res := w.check()
	if got := codes(res.Decision.Reasons); got != denied || res.Decision.Allowed != (denied == "") {
		w.t.Errorf("%s: denied by %q, want %q\n%+v", what, got, denied, res.Decision)
	}
	if got := codes(res.Decision.Warnings); got != warned {
		w.t.Errorf("%s: warned of %q, want %q\n%+v", what, got, warned, res.Decision.Warnings)
	}
	return res
}

// says makes somebody's approval or rejection under a version of the policy.
func (w *world) says(who string, under *policyforge.Signed, change func(*approval.Statement)) []byte {
	w.t.Helper()
	as, key, other := strings.Cut(who, "=")
	if !other {
		key = as
	}
	root := under.Root
	if root == "" {
		root = under.Digest
	}
	commit := w.repo.Git("rev-parse", "HEAD")
	s := approval.Statement{Action: approval.ActionBuild, Decision: approval.Approve, Principal: as, Repository: approval.Repository{Key: policyforge.Key, URI: "local"},
		Commit: commit, Ref: "refs/tags/v1.0.0", TagObject: w.repo.Git("rev-parse", "v1.0.0"), Tree: w.repo.Git("rev-parse", "HEAD^{tree}"),
		Policy: approval.Policy{Root: string(root), Version: under.Version, Digest: string(under.Digest)}, IssuedAt: w.before(1), ExpiresAt: w.now.Add(time.Hour)}
	if change != nil {
		change(&s)
	}
	payload, err := approval.Build(s)
	if err != nil {
		w.t.Fatal(err)
	}
	envelope, err := approval.SignSSH(payload, w.Person(key))
	if err != nil {
		w.t.Fatal(err)
	}
	return envelope
}

func (w *world) approve(who string, under *policyforge.Signed) {
	w.t.Helper()
	envelope := w.says(who, under, nil)
	e, why := approval.Parse(envelope)
	if why != nil {
		w.t.Fatal(why)
	}
	if _, err := git.WriteApprovalDir(w.dir, e.Statement.Commit, strings.TrimPrefix(e.ID, "sha256:"), envelope); err != nil {
		w.t.Fatal(err)
	}
}

// TestApprovalsBindTheRecord: of two versions only approvals of the one in force count, and what the
// rules see is the record.
func TestApprovalsBindTheRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	w.want("nobody", "QUORUM_MISSING", "")
	w.approve("alice", w.v1)
	w.approve("bob", w.v1)
	w.want("under the version before", "QUORUM_MISSING", "")
	w.approve("alice", w.v2)
	w.approve("mallory", w.v2)
	w.approve("bob=mallory", w.v2)
	w.want("one, and a stranger", "QUORUM_MISSING", "")
	w.approve("bob", w.v2)
	res := w.want("two", "", "")
	p := res.Input.Policy
	if p.Key != policyforge.Key || p.Root != string(w.v1.Digest) || p.Version != 2 || p.Digest != string(w.v2.Digest) || p.OwnerID != policyforge.OwnerID || p.Freshness != "witnessed" ||
		p.StoredAt == nil || *p.StoredAt != input.At(w.before(2).Add(time.Minute)) || p.HeadTime == nil || *p.HeadTime != input.At(w.now.Add(-time.Minute)) || p.Pending || p.Resets != 0 {
		t.Errorf("%+v", p)
	}
	if res.Policy != (approval.Policy{Root: p.Root, Version: 2, Digest: p.Digest}) {
		t.Errorf("%+v", res.Policy)
	}
}

// TestVetoInTheStore: a rejection that was filed with the store counts, also under the next version, and
// a store that cannot show it denies.
func TestVetoInTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	w.approve("alice", w.v2)
	w.approve("bob", w.v2)
	w.want("two", "", "")
	reject := func(s *approval.Statement) { s.Decision, s.Reviewed.Note = approval.Reject, "no" }
	other := w.says("carol", w.v1, func(s *approval.Statement) { reject(s); s.Ref = "refs/tags/v0.9.0" })
	w.Notice(policyforge.Key, other)
	w.Publish(w.before(0.5))
	w.Show(w.now.Add(-time.Minute))
	w.want("a veto of another release", "", "")
	w.Notice(policyforge.Key, w.says("carol", w.v1, reject))
	w.Publish(w.before(0.4))
	w.Show(w.now.Add(-time.Minute))
	w.want("a veto", approval.CodeRejected, "")
	for path := range maps.Clone(w.Files) {
		if strings.HasPrefix(path, "notice/") {
			delete(w.Files, path)
		}
	}
	w.want("its file is gone", chain.CodeNoNotices, "")
}

// TestNone: no policy is a notice, and never where one is required.
func TestNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	v := w.Next(w.before(1.5), w.v2, w.people, "alice", "bob")
	v.Effective = v.At.Add(65 * time.Minute)
	v.Change = func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
	w.add(v, "")
	if res := w.want("tombstone", "", chain.CodeNone); res.Input != nil || res.Policy.Digest != "" {
		t.Errorf("%+v", res)
	}
	w.cfg.Require = true
	w.want("tombstone, and one is required", chain.CodeRequired, "")

	w = newWorld(t, quorum)
	w.Operator = policyforge.NewOperator()
	if err := os.WriteFile(w.cfg.Trust, []byte(w.Trust()), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Publish(w.before(1))
	w.Show(w.now)
	w.want("an empty store", "", chain.CodeNone)
	w.cfg.Require = true
	w.want("an empty store, and one is required", chain.CodeRequired, "")
}

// TestRefusals: what the store's client refuses is a denial with its code.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		change func(w *world)
		code   string
	}{
		"stale":     {func(w *world) { w.now = w.now.Add(25 * time.Hour) }, "STORE_STALE"},
		"future":    {func(w *world) { w.Show(w.now.Add(time.Hour)) }, "STORE_FROM_FUTURE"},
		"maxAge":    {func(w *world) { w.cfg.MaxAge = 30 * time.Second }, "STORE_STALE"},
		"floor":     {func(w *world) { w.cfg.Floor = chain.Point{Size: w.Size() + 1, Root: w.Root(w.Size())} }, "STORE_ROLLBACK"},
		"fork":      {func(w *world) { w.cfg.Floor = chain.Point{Size: 2, Root: w.Root(1)} }, "STORE_FORKED"},
		"log's key": {func(w *world) { w.trust(policyforge.NewOperator().Trust()) }, "STORE_BAD_SIGNATURE"},
		"updater":   {func(w *world) { w.cfg.Updaters[0].Subject += "x" }, chain.CodeBadUpdater},
		"no bundle": {func(w *world) { delete(w.Files, "bundle/"+strings.TrimPrefix(string(w.v2.Policy.Bundle), "sha256:")) }, chain.CodeDigest},
		"no record": {func(w *world) { delete(w.Files, "record/"+strings.TrimPrefix(string(w.v2.Digest), "sha256:")) }, chain.CodeBroken},
		"no tar": {func(w *world) {
			w.addBundle(w.Next(w.before(1), w.v2, w.people, "alice", "bob"), []byte("package hallmark.signing\n"))
		}, "POLICY_COMPILE"},
		"no such rule": {func(w *world) { w.addBundle(w.Next(w.before(1), w.v2, w.people, "alice", "bob"), uncompiled(w)) }, "POLICY_COMPILE"},
		"renamed": {func(w *world) {
			w.job = job(w)
			v := w.Next(w.before(1), w.v2, w.people, "alice", "bob")
			v.Change = func(p *record.Predicate) {
				p.Action, p.Name, p.Policy = record.Rebind, "github.com/org/other", w.v2.Policy
			}
			w.addBundle(v, w.v2.Text)
		}, chain.CodeRenamed},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quorum)
			w.approve("alice", w.v2)
			w.approve("bob", w.v2)
			tc.change(w)
			w.want(what, tc.code, "")
		})
	}
}

func (w *world) trust(text string) {
	if err := os.WriteFile(w.cfg.Trust, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// uncompiled is a good bundle whose rules ask for what the input has not.
func uncompiled(w *world) []byte {
	good := "package hallmark.signing\n\nallow if input.git.tag.message == \"x\"\n"
	p, why := rules.Load(map[string][]byte{rules.RulesFile: []byte(good)}, rules.Options{})
	if why != nil {
		w.t.Fatal(why)
	}
	bad := strings.Replace(string(p.Bundle()), "message", "massage", 1)
	if _, err := rules.OpenBundle([]byte(bad)); err != nil {
		w.t.Fatal(err)
	}
	return []byte(bad)
}

// job is the CI's job of the tag.
func job(w *world) *judge.Job {
	text := func(s string) *string { return &s }
	one, commit := 1, w.repo.Git("rev-parse", "HEAD")
	return &judge.Job{Commit: commit, Ref: "refs/tags/v1.0.0", IssuedAt: w.now,
		Source:  input.Source{Provider: "github.com", ID: "123456", OwnerID: "42", Name: "org/app", URI: "https://github.com/org/app", Visibility: "public"},
		Run:     input.Run{ID: text("7"), Attempt: &one, Event: text("push"), Actor: text("x"), ActorID: text("1"), Workflow: text("release"), HeadSHA: text(commit)},
		Builder: input.Builder{ID: "https://github.com/hall/builder"}}
}

// TestMemory: the largest head that was seen is remembered, and an older log is a rollback.
func TestMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	w.cfg.Memory = filepath.Join(t.TempDir(), "state", "head")
	old := w.Fork()
	w.add(w.Next(w.before(1), w.v2, w.people, "alice", "bob"), quorum)
	w.want("the newest", "QUORUM_MISSING", "")
	w.Operator = old
	w.want("the one before", "STORE_ROLLBACK", "")
}

// TestPendingAndWarn: a newer record that waits is told of; one in mode "warn" denies vetoes alone.
func TestPendingAndWarn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	v := w.Next(w.before(1.5), w.v2, w.people, "alice", "bob")
	v.Effective = w.now.Add(time.Hour)
	v.Change = func(p *record.Predicate) { p.Policy.Mode = record.Warn }
	v3 := w.add(v, quorum)
	if res := w.want("it waits", "QUORUM_MISSING", inforce.CodePending); !res.Input.Policy.Pending {
		t.Error("the rules do not see it")
	}
	w.now = w.now.Add(2 * time.Hour)
	w.Show(w.now)
	if res := w.want("it warns", "", judge.CodeWouldDeny); !res.Warned {
		t.Error("a verdict would say that it passed")
	}
	w.Notice(policyforge.Key, w.says("carol", v3, func(s *approval.Statement) {
		s.Decision, s.Reviewed.Note, s.ExpiresAt = approval.Reject, "no", w.now.Add(time.Hour)
	}))
	w.Publish(w.now.Add(-time.Minute))
	w.want("a veto", approval.CodeRejected, judge.CodeWouldDeny)
}

// TestOwner: the owner's rules must allow, too, and a name that the owner gives to somebody is theirs.
func TestOwner(t *testing.T) {
	t.Parallel()
	owned := func(rego string, people ...string) *world {
		w := newWorld(t, quorum)
		authority := w.Authority(policyforge.Role{Threshold: 1, People: people})
		v := w.First(w.before(90), authority, people[0])
		v.Change = func(p *record.Predicate) {
			p.Key, p.Name, p.Authority, p.Owner = "github.com/owner/42", "github.com/org", authority, &record.Owner{Require: true}
		}
		w.add(v, rego)
		w.job = job(w)
		w.approve("alice", w.v2)
		w.approve("bob", w.v2)
		return w
	}
	res := owned("package hallmark.signing\n\nallow if input.org.require\n", "olga").want("allowed", "", "")
	if o := res.Input.Org; o == nil || o.Key != "github.com/owner/42" || o.Version != 1 || !o.Require || o.Reserve {
		t.Errorf("%+v", o)
	}
	res = owned("package hallmark.signing\n\ndefault allow := false\n\nallow if input.build.network == \"none\"\n", "olga").want("denied", "POLICY_DENIED", "")
	if !strings.Contains(res.Decision.Reasons[0].Message, "by the owner's policy") {
		t.Errorf("%+v", res.Decision)
	}
	const byAlice = "package hallmark.signing\n\nimport data.hallmark.lib\n\ndefault allow := false\n\nallow if lib.quorum({\"alice\"}, 1)\n"
	owned(byAlice, "olga").want("the repository's alice", "", "")
	owned(byAlice, "alice").want("the same alice", "", "")
	owned(byAlice, "alice=another").want("the owner has another alice", "QUORUM_MISSING", "")

	w := owned("package hallmark.signing\n\nallow := true\n", "olga")
	v := w.Next(w.before(1.5), w.v2, w.people, "alice", "bob")
	v.Effective = v.At.Add(65 * time.Minute)
	v.Change = func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
	w.add(v, "")
	w.want("the owner requires one", chain.CodeRequired, "")
}

// TestReboundTombstone: a repository that gave its policy up and was renamed since has none.
func TestReboundTombstone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quorum)
	v := w.Next(w.before(1.9), w.v2, w.people, "alice", "bob")
	v.Effective = v.At.Add(65 * time.Minute)
	v.Change = func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
	v3 := w.add(v, "")
	v = w.Next(w.before(0.5), v3, w.people, "alice", "bob")
	v.Change = func(p *record.Predicate) { p.Action, p.Name, p.Policy = record.Rebind, "github.com/org/other", nil }
	w.add(v, "")
	w.want("none", "", chain.CodeNone)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	good := `{"version":1,"store":"https://policy.example/","trust":"trust","trustedRoot":"public","updaters":[{"identity":"https://x/w.yml@refs/tags/v1","issuer":"https://i"}],` +
		`"anyRunner":true,"require":true,"maxAge":"2h","firstDelay":"0s","memory":"state/head","cache":"/var/cache/x","floor":{"size":5,"root":"` + root + `"}}`
	c, err := inforce.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if !c.AnyRunner || !c.Require || c.MaxAge != 2*time.Hour || c.FirstDelay != -1 || c.Floor.Size != 5 || c.Updaters[0].Issuer != "https://i" {
		t.Errorf("%+v", c)
	}
	for what, change := range map[string][2]string{
		"version 2": {`"version":1`, `"version":2`}, "no version": {`"version":1,`, ``}, "unknown": {`"require"`, `"requires"`}, "twice": {`"require":true`, `"require":true,"require":true`},
		"no store": {`"store":"https://policy.example/",`, ``}, "empty store": {"https://policy.example/", ""}, "no trust": {`"trust":"trust",`, ``}, "empty trust": {`"trust":"trust"`, `"trust":""`},
		"no root": {`"trustedRoot":"public",`, ``}, "no updater": {`{"identity":"https://x/w.yml@refs/tags/v1","issuer":"https://i"}`, ``},
		"no issuer": {`,"issuer":"https://i"`, ``}, "empty issuer": {`"https://i"`, `""`}, "null": {`"require":true`, `"require":null`},
		"age": {"2h", "2"}, "no age": {"2h", "0s"}, "negative": {"0s", "-1s"}, "for ever": {"2h", "9999999h"}, "size": {`"size":5`, `"size":0`}, "short root": {root, root[4:]},
		"spelling of the root": {root, root[:42] + "B="}, "bytes after": {`}}`, `}} ` + "x"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Errorf("%s: nothing changed", what)
		}
		if c, err := inforce.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted: %+v", what, c)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "store.json")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = inforce.Read(file); err != nil || c.Trust != filepath.Join(dir, "trust") || c.TrustedRoot != "public" || c.Store != "https://policy.example/" ||
		c.Memory != filepath.Join(dir, "state/head") || c.Cache != "/var/cache/x" || !slices.Equal(c.Files(), []string{c.Trust, c.Memory}) {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := inforce.Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := inforce.Parse([]byte(strings.Repeat(" ", inforce.MaxConfig) + good)); err == nil {
		t.Error("too large")
	}
}

// FuzzParse: what is read names a store, who believes it, and an updater.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"store":"s","trust":"t","trustedRoot":"public","updaters":[{"identity":"x","issuer":"y"}],"maxAge":"1h"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := inforce.Parse(data)
		if err == nil && (c.Store == "" || c.Trust == "" || c.TrustedRoot == "" || len(c.Updaters) == 0 || c.MaxAge < 0) {
			t.Fatalf("%+v", c)
		}
	})
}
