package git_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

func openRepository(t testing.TB, l git.Location) *git.Repository {
	t.Helper()
	r, why, err := git.OpenRepository(context.Background(), l)
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func release(t testing.TB, r *git.Repository, ref string) *git.Release {
	t.Helper()
	rel, why, err := r.Release(context.Background(), ref)
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	return rel
}

// TestRelease: the same facts of a folder in its forms and of a URL.
func TestRelease(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, format)
			id := f.SignTag(f.key, "v1", f.commit)
			f.Git("tag", "light")
			bare, work := filepath.Join(t.TempDir(), "bare"), filepath.Join(t.TempDir(), "work")
			f.Git("clone", "-q", "--bare", f.Dir, bare)
			f.Git("--git-dir="+bare, "pack-refs", "--all")
			f.Git("worktree", "add", "-q", work, "-b", "side")
			filters := &gitrepo.Repo{Dir: filepath.Join(t.TempDir(), "filters")}
			f.Git("clone", "-q", "--mirror", f.Dir, filepath.Join(filters.Dir, ".git"))
			f.Git("--git-dir="+filepath.Join(filters.Dir, ".git"), "config", "uploadpack.allowFilter", "true")
			f.Git("--git-dir="+filepath.Join(filters.Dir, ".git"), "update-ref", "-d", "refs/heads/side")
			for name, l := range map[string]git.Location{"URL of a server with filters": serve(t, filters), "folder": {Path: f.Dir}, ".git": {Path: filepath.Join(f.Dir, ".git")}, "bare": {Path: bare},
				"linked work tree": {Path: work}, "URL": serve(t, f.Repo)} {
				r := openRepository(t, l)
				rel := release(t, r, "v1")
				switch {
				case rel.Git.Ref != "refs/tags/v1", rel.Git.TagName != "v1", rel.Git.Checksum != id, rel.Git.CommitChecksum != f.commit, !rel.Git.IsAnnotatedTag,
					rel.SHA256 != (format == "sha256"), rel.Commit.Tree != f.Git("rev-parse", "HEAD^{tree}"), string(rel.RawTag) != string(f.Raw("tag", id)),
					string(rel.RawCommit) != string(f.Raw("commit", f.commit)), rel.Git.Tag.Signer != nil:
					t.Errorf("%s: %+v", name, rel)
				}
				if signer, why := rel.Verify([]git.TagKey{sshTagKey(t, f.key)}, now); why != nil || signer.Principal != "release" || rel.Git.Tag.Signer.Principals[0] != "release" {
					t.Error(name, signer, why)
				}
				if why, err := r.Moved(context.Background(), rel); why != nil || err != nil {
					t.Error(name, why, err)
				}
				for _, ref := range []string{"refs/heads/main", "light", f.commit} {
					rel := release(t, r, ref)
					if rel.Tag != nil || rel.RawTag != nil || rel.Commit.ID != f.commit || rel.Git.Checksum != f.commit {
						t.Errorf("%s %s: %+v", name, ref, rel)
					}
					wantCode(t, second(rel.Verify(nil, now)), "TAG_NOT_ANNOTATED", "nobody signed it")
				}
				want := "refs/heads/main"
				if name == "linked work tree" {
					want = "refs/heads/side"
				}
				if got, err := r.DefaultBranch(context.Background()); err != nil || got != want {
					t.Error(name, got, err)
				}
				tags, more, err := r.Tags(context.Background(), 10)
				if err != nil || more || !reflect.DeepEqual(tags, []git.Tip{{Ref: "refs/tags/light", ID: f.commit, Commit: f.commit}, {Ref: "refs/tags/v1", ID: id, Commit: f.commit}}) {
					t.Error(name, tags, more, err)
				}
				if tags, more, err := r.Tags(context.Background(), 1); err != nil || !more || len(tags) != 1 {
					t.Error(name, tags, more, err)
				}
				if _, _, err := r.Release(context.Background(), "nothing"); err == nil || !strings.Contains(err.Error(), "no tag or branch") {
					t.Error(name, err)
				}
			}
			f.Git("tag", "-f", "light", f.Commit("second"))
			r := openRepository(t, git.Location{Path: f.Dir})
			rel := release(t, r, "light")
			f.Git("tag", "-d", "light")
			why, err := r.Moved(context.Background(), rel)
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, why, "TAG_MOVED", "deleted")
		})
	}
}

// hostile puts everything that could run a command into a repository's configuration.
func (f *fixture) hostile() (sentinel string) {
	f.t.Helper()
	sentinel = filepath.Join(f.t.TempDir(), "ran")
	run := "touch " + sentinel
	hooks := filepath.Join(f.Dir, ".git", "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		f.t.Fatal(err)
	}
	script := filepath.Join(hooks, "script")
	for _, name := range []string{"script", "post-checkout", "pre-receive", "update", "post-receive", "post-update", "reference-transaction", "post-index-change", "pre-push", "proc-receive"} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\n"+run+"\nexec \"$@\"\n"), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	for _, kv := range [][2]string{
		{"core.fsmonitor", script}, {"filter.evil.smudge", run}, {"filter.evil.clean", run}, {"filter.evil.process", run},
		{"uploadpack.packObjectsHook", script}, {"core.hooksPath", hooks}, {"core.sshCommand", run}, {"core.askPass", run},
		{"core.alternateRefsCommand", run}, {"diff.evil.textconv", run}, {"diff.external", run}, {"gpg.program", run}, {"gpg.ssh.program", run},
		{"gpg.ssh.defaultKeyCommand", run}, {"credential.helper", "!" + run}, {"remote.origin.url", "ext::" + run}, {"remote.origin.uploadpack", run},
		{"remote.origin.receivepack", run}, {"remote.origin.promisor", "true"}, {"extensions.partialClone", "origin"}, {"protocol.ext.allow", "always"},
		{"protocol.allow", "always"}, {"core.pager", run}, {"pager.for-each-ref", run}, {"core.editor", run}, {"log.showSignature", "true"},
		{"include.path", "more"}, {"transfer.bundleURI", "true"}, {"core.gitProxy", run}, {"alias.for-each-ref", "!" + run}, {"alias.cat-file", "!" + run},
	} {
		f.Git("config", kv[0], kv[1])
	}
	if err := os.WriteFile(filepath.Join(f.Dir, ".git", "more"), []byte("[core]\n\tfsmonitor = "+script+"\n[gpg]\n\tprogram = "+script+"\n"), 0o644); err != nil {
		f.t.Fatal(err)
	}
	return sentinel
}

// TestHostileFolder: everything that is done with a folder, in one that is set up against
// whoever looks at it (row 88). Objects that it promises to have elsewhere are missing, too.
func TestHostileFolder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.Write(".gitattributes", "* filter=evil diff=evil export-subst text eol=crlf\n")
	f.Write("a/file", "1\n")
	first := f.Commit("first")
	f.Git("update-index", "--force-remove", "a/file")
	f.Write("module/.keep", "")
	commit := f.Commit("evil")
	f.SignTag(f.key, "v1", commit)
	sentinel := f.hostile()
	gone := f.Git("rev-parse", first+":a/file")
	if err := os.Remove(filepath.Join(f.Dir, ".git", "objects", gone[:2], gone[2:])); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := openRepository(t, git.Location{Path: f.Dir})
	rel := release(t, r, "v1")
	if _, why := rel.Verify([]git.TagKey{sshTagKey(t, f.key)}, now); why != nil {
		t.Error(why)
	}
	if a, err := r.Ancestry(ctx, commit, nil); err != nil || !a.Known || !slices.Equal(a.ContainedIn, []string{"refs/heads/main"}) {
		t.Error(a, err)
	}
	if b, err := r.Between(ctx, first, commit, 10); err != nil || b.Count != 1 {
		t.Error(b, err)
	}
	if _, _, err := r.Tags(ctx, 10); err != nil {
		t.Error(err)
	}
	reader, err := r.Reader(ctx, commit, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := reader.Blob(gone, 100); err == nil {
		t.Error("an object that is missing was read")
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	id := strings.Repeat("5a", 32)
	if _, err := git.PushApproval(ctx, git.Location{Path: f.Dir}, commit, id, []byte("{}")); err != nil {
		t.Error(err)
	}
	if got, err := r.Approvals(ctx, commit, nil); err != nil || len(got.Found) != 1 {
		t.Error(got, err)
	}
	if _, err := os.Stat(sentinel); err == nil {
		t.Error("the repository made us run its command")
	}
}

// TestFoldersThatAreRefused are those that have their objects or refs elsewhere.
func TestFoldersThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(f *fixture, dir string)
		code   string // "" for an error
	}{
		"alternates":         {func(f *fixture, dir string) { f.file("objects/info/alternates", "/tmp\n") }, "FETCH_REFUSED"},
		"http-alternates":    {func(f *fixture, dir string) { f.file("objects/info/http-alternates", "/x\n") }, "FETCH_REFUSED"},
		"objects elsewhere":  {func(f *fixture, dir string) { f.elsewhere("objects") }, ""},
		"packs elsewhere":    {func(f *fixture, dir string) { f.Git("gc", "-q"); f.elsewhere("objects/pack") }, "FETCH_REFUSED"},
		"refs elsewhere":     {func(f *fixture, dir string) { f.elsewhere("refs") }, "FETCH_REFUSED"},
		"packed elsewhere":   {func(f *fixture, dir string) { f.Git("pack-refs", "--all"); f.elsewhere("packed-refs") }, ""},
		"refs in a table":    {func(f *fixture, dir string) { f.file("reftable/tables.list", "") }, "FETCH_REFUSED"},
		"another format":     {func(f *fixture, dir string) { f.Git("config", "extensions.objectFormat", "md5") }, "FETCH_REFUSED"},
		"config a pipe":      {func(f *fixture, dir string) { f.elsewhere("config") }, "FETCH_REFUSED"},
		"a pointer":          {func(f *fixture, dir string) { f.pointer("gitdir: " + newFixture(f.t, "sha1").Dir + "/.git\n") }, ""},
		"a pointer to a lie": {func(f *fixture, dir string) { f.pointer("gitdir: /nowhere\n") }, ""},
		"an overlong one":    {func(f *fixture, dir string) { f.pointer("gitdir: " + strings.Repeat("/a", 4096) + "\n") }, ""},
		"none":               {func(f *fixture, dir string) { f.must(os.RemoveAll(dir)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "sha1")
			c.change(f, filepath.Join(f.Dir, ".git"))
			r, why, err := git.OpenRepository(context.Background(), git.Location{Path: f.Dir})
			switch {
			case r != nil:
				r.Close()
				t.Error("opened")
			case c.code == "" && (err == nil || why != nil):
				t.Error(why, err)
			case c.code != "" && err != nil:
				t.Error(err)
			case c.code != "":
				wantCode(t, why, c.code, "")
			}
		})
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) file(name, text string) {
	f.must(os.MkdirAll(filepath.Dir(filepath.Join(f.Dir, ".git", name)), 0o755))
	f.must(os.WriteFile(filepath.Join(f.Dir, ".git", name), []byte(text), 0o644))
}

// elsewhere moves a part of the repository away and puts a link to it in its place.
func (f *fixture) elsewhere(name string) {
	from, to := filepath.Join(f.Dir, ".git", name), filepath.Join(f.t.TempDir(), "there")
	f.must(os.Rename(from, to))
	f.must(os.Symlink(to, from))
}

func (f *fixture) pointer(text string) {
	f.must(os.RemoveAll(filepath.Join(f.Dir, ".git")))
	f.must(os.WriteFile(filepath.Join(f.Dir, ".git"), []byte(text), 0o644))
}

// TestWhatARepositorySaysBesideItsObjects: replacements, grafts, an index of packs and a
// commit-graph that lie about the tag, the commit or its parents change nothing.
func TestWhatARepositorySaysBesideItsObjects(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	f := newFixture(t, "sha1")
	f.Git("checkout", "-q", "--orphan", "side")
	side := f.Commit("not on main")
	f.Git("checkout", "-q", "main")
	on := f.Commit("second")
	f.SignTag(f.key, "v1", on)
	fake := f.Object("commit", []byte(strings.Replace(string(f.Raw("commit", on)), "parent "+f.commit, "parent "+side, 1)))
	f.Git("replace", on, fake)
	f.file("info/grafts", on+" "+side+"\n")
	check := func() {
		t.Helper()
		r := openRepository(t, git.Location{Path: f.Dir})
		if rel := release(t, r, "v1"); !slices.Equal(rel.Commit.Parents, []string{f.commit}) {
			t.Error(rel.Commit)
		}
		if a, err := r.Ancestry(ctx, side, []string{"refs/heads/main"}); err != nil || !a.Known || len(a.ContainedIn) != 0 {
			t.Errorf("%+v %v", a, err)
		}
	}
	check()
	// A commit-graph that was written while the replacement's parents were the commit's.
	f.Git("replace", "-d", on)
	f.must(os.Remove(filepath.Join(f.Dir, ".git", "info", "grafts")))
	f.Git("commit-graph", "write", "--reachable")
	path := filepath.Join(f.Dir, ".git", "objects", "info", "commit-graph")
	data, err := os.ReadFile(path)
	f.must(err)
	f.must(os.Chmod(path, 0o644))
	f.must(os.WriteFile(path, lieAboutParents(t, data, on, side), 0o644))
	if out := f.Git("rev-list", "main"); !strings.Contains(out, side) {
		t.Fatal("git itself does not believe the commit-graph any more: this test proves nothing")
	}
	check()
}

// lieAboutParents changes a commit-graph (gitformat-commit-graph(5)) so that a commit's
// first parent is another one.
func lieAboutParents(t testing.TB, graph []byte, commit, parent string) []byte {
	t.Helper()
	at := func(off int) int {
		return int(graph[off])<<24 | int(graph[off+1])<<16 | int(graph[off+2])<<8 | int(graph[off+3])
	}
	chunks := map[string]int{}
	for i := 0; i < int(graph[6]); i++ {
		chunks[string(graph[8+12*i:12+12*i])] = at(8 + 12*i + 8)
	}
	total := at(chunks["OIDF"] + 4*255)
	index := map[string]int{}
	for i := range total {
		index[fmt.Sprintf("%x", graph[chunks["OIDL"]+20*i:chunks["OIDL"]+20*i+20])] = i
	}
	off := chunks["CDAT"] + 36*index[commit] + 20
	graph[off], graph[off+1], graph[off+2], graph[off+3] = 0, 0, 0, byte(index[parent])
	return graph
}

// TestPackIndexThatLies: a pack's index that gives one commit's bytes under another's id.
func TestPackIndexThatLies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	second := f.Commit("second")
	third := f.Commit("third")
	f.Git("repack", "-q", "-a", "-d")
	packs, _ := filepath.Glob(filepath.Join(f.Dir, ".git", "objects", "pack", "*.idx"))
	data, err := os.ReadFile(packs[0])
	f.must(err)
	// Version 2 (gitformat-pack(5)): header, fan-out, ids, CRCs, offsets.
	total := int(data[8+4*255+3])
	offset := func(id string) []byte {
		for i := range total {
			if fmt.Sprintf("%x", data[8+1024+20*i:8+1024+20*i+20]) == id {
				return data[8+1024+24*total+4*i : 8+1024+24*total+4*i+4]
			}
		}
		t.Fatal(id)
		return nil
	}
	copy(offset(second), offset(f.commit)) // main's history is said to be one commit shorter
	f.must(os.Chmod(packs[0], 0o644))
	f.must(os.WriteFile(packs[0], data, 0o644))
	r := openRepository(t, git.Location{Path: f.Dir})
	a, err := r.Ancestry(context.Background(), f.commit, nil)
	if err != nil || a.Known || len(a.ContainedIn) != 0 || !strings.Contains(a.Why, "not the commit that its id promises") {
		t.Errorf("%+v %v", a, err)
	}
	if _, _, err := r.Release(context.Background(), second); err == nil || !strings.Contains(err.Error(), "has the content of") {
		t.Error(err)
	}
	if rel := release(t, r, third); rel.Commit.ID != third {
		t.Error(rel)
	}
}

// TestNobodyWritesIntoAFolder that is only looked at.
func TestNobodyWritesIntoAFolder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	before := snapshot(t, f.Dir)
	r := openRepository(t, git.Location{Path: f.Dir})
	release(t, r, "v1")
	if _, err := r.Ancestry(context.Background(), f.commit, nil); err != nil {
		t.Error(err)
	}
	if _, err := r.Approvals(context.Background(), f.commit, nil); err != nil {
		t.Error(err)
	}
	if after := snapshot(t, f.Dir); !reflect.DeepEqual(before, after) {
		t.Error("the folder was changed")
	}
}

func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAncestry: branches that contain a commit, by first parents and otherwise (row 29).
func TestAncestry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, format := range []string{"sha1", "sha256"} {
		f := newFixture(t, format)
		f.Git("checkout", "-q", "-b", "feature")
		merged := f.Commit("on the feature")
		f.Git("checkout", "-q", "main")
		f.Commit("on main")
		f.Git("merge", "-q", "--no-ff", "-m", "merge", "feature")
		f.Git("checkout", "-q", "-b", "release/v1")
		onRelease := f.Commit("on the release branch")
		f.Git("checkout", "-q", "--detach")
		dangling := f.Commit("on no branch")
		f.Git("tag", "keep")
		f.Git("config", "uploadpack.allowFilter", "true")
		for name, l := range map[string]git.Location{"folder": {Path: f.Dir}, "URL": serve(t, f.Repo)} {
			r := openRepository(t, l)
			for _, c := range []struct {
				commit        string
				branches      []string
				in, firstPart string
			}{
				{f.commit, nil, "[refs/heads/feature refs/heads/main refs/heads/release/v1]", "[refs/heads/feature refs/heads/main refs/heads/release/v1]"},
				{merged, nil, "[refs/heads/feature refs/heads/main refs/heads/release/v1]", "[refs/heads/feature]"},
				{merged, []string{"refs/heads/main"}, "[refs/heads/main]", "[]"},
				{onRelease, []string{"refs/heads/main", "refs/heads/release/v1", "refs/heads/none"}, "[refs/heads/release/v1]", "[refs/heads/release/v1]"},
				{dangling, nil, "[]", "[]"},
				{onRelease, []string{"refs/heads/none"}, "[]", "[]"},
				{strings.Repeat("ab", len(f.commit)/2), []string{"refs/heads/main"}, "[]", "[]"},
			} {
				a, err := r.Ancestry(ctx, c.commit, c.branches)
				if err != nil || !a.Known || a.Why != "" || fmt.Sprint(a.ContainedIn) != c.in || fmt.Sprint(a.FirstParentIn) != c.firstPart {
					t.Errorf("%s %s %v: %+v %v", format, name, c.branches, a, err)
				}
			}
			b, err := r.Between(ctx, f.commit, onRelease, 2)
			if err != nil || !b.Known || !b.IsAncestor || b.Count != 4 || b.Unsigned != 4 || len(b.Commits) != 2 {
				t.Errorf("%s %s: %+v %v", format, name, b, err)
			}
			if b, err = r.Between(ctx, onRelease, merged, 9); err != nil || b.IsAncestor || b.Count != 0 {
				t.Errorf("%s %s: %+v %v", format, name, b, err)
			}
			if b, err = r.Between(ctx, "", merged, 9); err != nil || b.IsAncestor || b.Count != 2 {
				t.Errorf("%s %s: %+v %v", format, name, b, err)
			}
			for _, bad := range []string{"main", "", "refs/heads/main"} {
				if _, err := r.Ancestry(ctx, bad, nil); err == nil {
					t.Error(bad)
				}
			}
			if _, err := r.Ancestry(ctx, merged, []string{"main"}); err == nil {
				t.Error("a short name")
			}
		}
	}
}

// TestShallow: where the history is cut off nobody says "none" (row 30).
func TestShallow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.Commit("second")
	third := f.Commit("third")
	clone := filepath.Join(t.TempDir(), "clone")
	f.Git("clone", "-q", "--depth=1", "file://"+f.Dir, clone)
	f.Git("-C", clone, "config", "uploadpack.allowFilter", "true") // as the hosts of everybody's projects do
	served := serve(t, &gitrepo.Repo{Dir: clone})
	for name, l := range map[string]git.Location{"folder": {Path: clone}, "URL": served} {
		r := openRepository(t, l)
		a, err := r.Ancestry(context.Background(), f.commit, nil)
		if err != nil || a.Known || !strings.Contains(a.Why, "shallow") || len(a.ContainedIn) != 0 {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if a, err = r.Ancestry(context.Background(), third, nil); err != nil || !a.Known || len(a.ContainedIn) != 1 {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if b, err := r.Between(context.Background(), "", third, 10); err != nil || b.Known || b.Count != 1 {
			t.Errorf("%s: %+v %v", name, b, err)
		}
	}
}

// TestFolderThatNeverAnswers has a pipe where a branch should be: whoever reads it stops
// when they are told to.
func TestFolderThatNeverAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.must(syscall.Mkfifo(filepath.Join(f.Dir, ".git", "refs", "heads", "pipe"), 0o600))
	r := openRepository(t, git.Location{Path: f.Dir})
	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	if a, err := r.Ancestry(ctx, f.commit, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v %v", a, err)
	}
}
