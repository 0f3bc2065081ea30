package git_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

// serveWritable is a git server over HTTP to which anybody may push; login, when it is not
// "", is the Authorization header that it wants.
func serveWritable(t testing.TB, repo *gitrepo.Repo, login string) git.Location {
	t.Helper()
	repo.Git("config", "http.receivepack", "true")
	repo.Git("config", "transfer.fsckObjects", "true")
	repo.Git("config", "uploadpack.allowFilter", "true")
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + repo.Dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent"},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if login != "" && r.Header.Get("Authorization") != login {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	l, err := git.ParseLocation(srv.URL+"/.git", false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func approvalID(n int) string { return fmt.Sprintf("%064x", n+1) }

func list(t testing.TB, l git.Location, subject string) *git.Listing {
	t.Helper()
	got, err := git.ListApprovals(context.Background(), l, subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestApprovals: what is pushed is found, once, whoever pushes it and however it is read.
func TestApprovals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, format)
			served := serveWritable(t, f.Repo, "")
			local := git.Location{Path: f.Dir}
			proposal := git.PolicyApprovals("sha256:" + strings.Repeat("0c", 32))
			for _, subject := range []string{f.commit, proposal} {
				if got := list(t, served, subject); len(got.Found)+got.Junk+got.Unread != 0 {
					t.Fatalf("%+v", got)
				}
				first, second := []byte(`{"one":1}`), []byte(`{"two":2}`)
				for range 2 { // the second time it is there
					ref, err := git.PushApproval(ctx, served, subject, approvalID(1), first)
					if err != nil || ref != git.ApprovalRefs+subject+"/"+approvalID(1) {
						t.Fatal(ref, err)
					}
					if _, err := git.PushApproval(ctx, local, subject, approvalID(2), second); err != nil {
						t.Fatal(err)
					}
				}
				for _, id := range []string{approvalID(1), approvalID(2)} { // neither way writes over one
					for _, l := range []git.Location{served, local} {
						if _, err := git.PushApproval(ctx, l, subject, id, []byte("{}")); err == nil {
							t.Error("written over at", l)
						}
					}
				}
				for _, l := range []git.Location{served, local} {
					got := list(t, l, subject)
					if len(got.Found) != 2 || got.Junk != 0 || got.Unread != 0 {
						t.Fatalf("%s: %+v", l, got)
					}
					for i, want := range [][]byte{first, second} {
						if f := got.Found[i]; f.ID != approvalID(i+1) || !bytes.Equal(f.Envelope, want) || f.Ref != git.ApprovalRefs+subject+"/"+f.ID {
							t.Errorf("%s: %+v", l, f)
						}
					}
					kept, err := git.ListApprovals(ctx, l, subject, func(f git.Found) bool { return f.ID == approvalID(2) })
					if err != nil || len(kept.Found) != 1 {
						t.Errorf("%s: %+v %v", l, kept, err)
					}
				}
			}
			// The same approval is the same object wherever it is made.
			if out := f.Git("for-each-ref", "--format=%(objectname)", git.ApprovalRefs+"*/"+approvalID(1)); format == "sha1" && out != "" &&
				len(slices.Compact(strings.Split(out, "\n"))) != 1 {
				t.Errorf("%s", out)
			}
			if out := f.Git("log", "--format=%an %ae %at %cn %ct %s", git.ApprovalRefs+f.commit+"/"+approvalID(1)); out != "hallmark approval approval@hallmark.invalid 0 hallmark approval 0 approval sha256:"+approvalID(1) {
				t.Error(out)
			}
			f.Git("fsck", "--strict")
		})
	}
}

// TestApprovalsOfAnEmptyRepository: a proposal is approved where there is nothing yet.
func TestApprovalsOfAnEmptyRepository(t *testing.T) {
	t.Parallel()
	f := gitrepo.New(t, "sha1")
	l := serveWritable(t, f, "")
	subject := git.PolicyApprovals("sha256:" + strings.Repeat("0c", 32))
	if _, err := git.PushApproval(context.Background(), l, subject, approvalID(0), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := list(t, l, subject); len(got.Found) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestPushApprovalFrom a clone, with the person's own configuration and hooks.
func TestPushApprovalFrom(t *testing.T) {
	for _, kv := range gitrepo.Env() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	f := newFixture(t, "sha256")
	l := serveWritable(t, f.Repo, "")
	clone := filepath.Join(t.TempDir(), "clone")
	f.Git("clone", "-q", l.String(), clone)
	sentinel := filepath.Join(t.TempDir(), "hook")
	hook := filepath.Join(clone, ".git", "hooks", "pre-push")
	if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+sentinel+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, err := git.PushApprovalFrom(context.Background(), clone, "origin", f.commit, approvalID(1), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sentinel); err != nil {
		t.Error("the person's own hook did not run")
	}
	for _, l := range []git.Location{l, {Path: clone}} {
		if got := list(t, l, f.commit); len(got.Found) != 1 || got.Found[0].Ref != ref {
			t.Errorf("%s: %+v", l, got)
		}
	}
	for _, remote := range []string{"", "--upload-pack=x", "nothing"} {
		if _, err := git.PushApprovalFrom(context.Background(), clone, remote, f.commit, approvalID(2), []byte("{}")); err == nil {
			t.Errorf("pushed to %q", remote)
		}
	}
}

func TestPushWithLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	login, err := git.TokenLogin("a-token-of-somebody")
	if err != nil {
		t.Fatal(err)
	}
	l := serveWritable(t, f.Repo, login.Header())
	if _, err := git.PushApproval(context.Background(), l, f.commit, approvalID(1), []byte("{}")); err == nil || !strings.Contains(err.Error(), "wants a login") {
		t.Error(err)
	}
	if _, err := git.ListApprovals(context.Background(), l, f.commit, nil); err == nil {
		t.Error("what could not be read counts as none")
	}
	if _, err := git.PushApproval(context.Background(), l.With(login), f.commit, approvalID(1), []byte("{}")); err != nil {
		t.Error(err)
	}
	if got := list(t, l.With(login), f.commit); len(got.Found) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestApprovalNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	good := []byte("{}")
	for _, c := range []struct {
		subject, id string
		envelope    []byte
	}{
		{"", approvalID(1), good}, {"main", approvalID(1), good}, {"../" + f.commit, approvalID(1), good}, {strings.ToUpper(f.commit), approvalID(1), good},
		{"policy-" + f.commit, approvalID(1), good}, {"policy-sha256:" + approvalID(1), approvalID(1), good}, {f.commit, "", good}, {f.commit, "sha256:" + approvalID(1), good},
		{f.commit, approvalID(1)[1:], good}, {f.commit, f.commit, good}, {f.commit, approvalID(1), nil}, {f.commit, approvalID(1), make([]byte, git.MaxApprovalSize+1)},
	} {
		if _, err := git.PushApproval(context.Background(), git.Location{Path: f.Dir}, c.subject, c.id, c.envelope); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q %q: %v", c.subject, c.id, err)
		}
		if _, err := git.WriteApprovalDir(t.TempDir(), c.subject, c.id, c.envelope); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q %q: %v", c.subject, c.id, err)
		}
	}
	if _, err := git.PushApproval(context.Background(), git.Location{Path: f.Dir}, f.commit, approvalID(1), make([]byte, git.MaxApprovalSize)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:0", strings.Repeat("ab", 32)} {
		if got := git.PolicyApprovals(bad); got != "" {
			t.Error(bad, got)
		}
	}
}

// TestKept: memory is bounded, and what is not worth keeping takes none.
func TestKept(t *testing.T) {
	t.Parallel()
	dir, commit := t.TempDir(), strings.Repeat("ab", 20)
	n := git.MaxKept/git.MaxApprovalSize + 3
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, approvalID(i)+".json"), bytes.Repeat([]byte{'x'}, git.MaxApprovalSize), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := git.ReadApprovalDir(dir, commit, nil); err != nil || len(got.Found) != n-3 || got.Unread != 3 {
		t.Errorf("%d %d %v", len(got.Found), got.Unread, err)
	}
	if got, err := git.ReadApprovalDir(dir, commit, func(f git.Found) bool { return f.ID == approvalID(n-1) }); err != nil || len(got.Found) != 1 || got.Unread != 0 {
		t.Errorf("%d %d %v", len(got.Found), got.Unread, err)
	}
}

// TestApprovalDir: the folder of --approval-dir.
func TestApprovalDir(t *testing.T) {
	t.Parallel()
	dir, commit := t.TempDir(), strings.Repeat("ab", 20)
	if _, err := git.WriteApprovalDir(dir, commit, approvalID(1), []byte("{1}")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{approvalID(2) + ".json": "{2}", "README.md": "x", "other.json": "{}", approvalID(3) + ".json": strings.Repeat("x", git.MaxApprovalSize+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, approvalID(4)+".json")); err != nil {
		t.Fatal(err)
	}
	got, err := git.ReadApprovalDir(dir, commit, nil)
	if err != nil || len(got.Found) != 2 || got.Junk != 3 || string(got.Found[0].Envelope)+string(got.Found[1].Envelope) != "{2}{1}" {
		t.Errorf("%+v %v", got, err)
	}
	if got, err = git.ReadApprovalDir(dir, strings.Repeat("cd", 20), nil); err != nil || len(got.Found) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err = git.ReadApprovalDir(filepath.Join(dir, "nothing"), commit, nil); err == nil {
		t.Error("a folder that is not there has none")
	}
}

// flood puts approvals into a repository as fast as git takes them: good of them as they
// should be, and garbage of other forms. The refs are packed.
func flood(t testing.TB, f *fixture, good, garbage int) {
	t.Helper()
	ctx := context.Background()
	for i := range good {
		if _, err := git.PushApproval(ctx, git.Location{Path: f.Dir}, f.commit, approvalID(1_000_000+i), fmt.Appendf(nil, `{"good":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	var in bytes.Buffer
	for i := range garbage {
		ref := git.ApprovalRefs + f.commit + "/" + approvalID(i)
		text := fmt.Sprintf("garbage %d", i)
		name := "approval.json"
		switch i % 10 {
		case 1:
			text = strings.Repeat(text+" ", 2000) // too large
		case 2:
			name = "other.json"
		case 3:
			name = "approval.json/x"
		}
		fmt.Fprintf(&in, "commit %s\ncommitter A <a@x> 1700000000 +0000\ndata 1\nx\nM 100644 inline %s\ndata %d\n%s\n\n", ref, name, len(text), text)
	}
	if out, err := f.Try(in.Bytes(), "fast-import", "--quiet", "--force"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.Git("pack-refs", "--all")
}

// TestApprovalFlood: two good approvals among many that are not (row 89): all are read up to
// a bound, in a folder and over the network, and memory stays small.
func TestApprovalFlood(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	flood(t, f, 2, 1000)
	for _, l := range []git.Location{{Path: f.Dir}, serveWritable(t, f.Repo, "")} {
		got, err := git.ListApprovals(context.Background(), l, f.commit, func(f git.Found) bool { return bytes.HasPrefix(f.Envelope, []byte("{")) })
		if err != nil {
			t.Fatal(l, err)
		}
		if len(got.Found) != 2 || got.Junk != 300 || got.Unread != 0 {
			t.Errorf("%s: %d found, %d junk, %d unread", l, len(got.Found), got.Junk, got.Unread)
		}
	}
}

// TestApprovalsOfAPartialClone: what is not there is not none, among few and many.
func TestApprovalsOfAPartialClone(t *testing.T) {
	t.Parallel()
	for _, garbage := range []int{10, 100} {
		f := newFixture(t, "sha1")
		flood(t, f, 1, garbage)
		f.Git("config", "uploadpack.allowFilter", "true")
		clone := filepath.Join(t.TempDir(), "clone")
		f.Git("clone", "-q", "--bare", "--no-local", "file://"+f.Dir, clone)
		f.Git("-C", clone, "fetch", "-q", "origin", "+refs/hallmark/*:refs/hallmark/*")
		if got := list(t, git.Location{Path: clone}, f.commit); len(got.Found) != 1+garbage*7/10 || got.Junk != garbage*3/10 {
			t.Errorf("%d %d", len(got.Found), got.Junk)
		}
		partial := filepath.Join(t.TempDir(), "partial")
		f.Git("clone", "-q", "--bare", "--no-local", "--filter=blob:none", "file://"+f.Dir, partial)
		f.Git("-C", partial, "fetch", "-q", "origin", "+refs/hallmark/*:refs/hallmark/*")
		if got, err := git.ListApprovals(context.Background(), git.Location{Path: partial}, f.commit, nil); err == nil || !strings.Contains(err.Error(), "partial clone") {
			t.Errorf("%+v %v", got, err)
		}
	}
}

// TestApprovalRefsToOtherThings: files, folders and tags are none, and hide none.
func TestApprovalRefsToOtherThings(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{1, 40} {
		f := newFixture(t, "sha1")
		flood(t, f, 1, 0)
		blob, tree := f.Git("rev-parse", "HEAD:Dockerfile"), f.Git("rev-parse", "HEAD^{tree}")
		f.Git("tag", "-m", "x", "of-blob", blob)
		f.Git("tag", "-m", "x", "of-tree", tree)
		ids := []string{blob, tree, f.Git("rev-parse", "of-blob"), f.Git("rev-parse", "of-tree"), f.commit}
		for i := range copies * len(ids) {
			f.SetRef(git.ApprovalRefs+f.commit+"/"+approvalID(i), ids[i%len(ids)])
		}
		f.SetRef(git.ApprovalRefs+f.commit+"/not-an-id", f.commit)
		f.SetRef(git.ApprovalRefs+f.commit+"/deep/"+approvalID(1), f.commit)
		for _, l := range []git.Location{{Path: f.Dir}, serve(t, f.Repo)} {
			if got := list(t, l, f.commit); len(got.Found) != 1 || got.Junk != copies*len(ids)+2 {
				t.Errorf("%s: %+v", l, got)
			}
		}
	}
}

// TestLargeApprovals: a few that are too large, by little and by much, beside a good one.
func TestLargeApprovals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	flood(t, f, 1, 0)
	for i, size := range []int{git.MaxApprovalSize + 1, 1 << 20, 3 << 20, 3<<20 + 1} {
		blob := f.Object("blob", bytes.Repeat([]byte{'x'}, size))
		tree, err := f.Try([]byte("100644 blob "+blob+"\tapproval.json\n"), "mktree")
		f.must(err)
		f.SetRef(git.ApprovalRefs+f.commit+"/"+approvalID(i), f.Git("commit-tree", "-m", "x", tree))
	}
	for _, l := range []git.Location{{Path: f.Dir}, serve(t, f.Repo), serveWritable(t, f.Repo, "")} { // without and with filters
		if got := list(t, l, f.commit); len(got.Found) != 1 || got.Junk != 4 {
			t.Errorf("%s: %+v", l, got)
		}
	}
}

// BenchmarkApprovalFlood reads as many as are read, of 100,000: those of the others that
// sort before are the attacker's.
func BenchmarkApprovalFlood(b *testing.B) {
	f := newFixture(b, "sha1")
	flood(b, f, 0, git.MaxApprovals)
	path := filepath.Join(f.Dir, ".git", "packed-refs")
	data, err := os.ReadFile(path)
	f.must(err)
	for i := range 100_000 - git.MaxApprovals {
		data = fmt.Appendf(data, "%s %s%s/f%063x\n", f.commit, git.ApprovalRefs, f.commit, i)
	}
	// In the order in which git looks for them.
	lines := strings.SplitAfter(string(data), "\n")
	header, refs := lines[0], lines[1:len(lines)-1]
	slices.SortFunc(refs, func(a, b string) int { return strings.Compare(a[41:], b[41:]) })
	f.must(os.WriteFile(path, []byte(header+strings.Join(refs, "")), 0o644))
	served := serveWritable(b, f.Repo, "")
	for name, l := range map[string]git.Location{"folder": {Path: f.Dir}, "URL": served} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got, err := git.ListApprovals(context.Background(), l, f.commit, func(git.Found) bool { return false })
				if err != nil || got.Unread != 100_000-git.MaxApprovals || got.Junk != git.MaxApprovals*3/10 {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// BenchmarkApprovals reads 2 good approvals beside 10,000 that are not.
func BenchmarkApprovals(b *testing.B) {
	f := newFixture(b, "sha1")
	flood(b, f, 2, 10_000)
	served := serveWritable(b, f.Repo, "")
	for name, l := range map[string]git.Location{"folder": {Path: f.Dir}, "URL": served} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got, err := git.ListApprovals(context.Background(), l, f.commit, func(f git.Found) bool { return bytes.HasPrefix(f.Envelope, []byte("{")) })
				if err != nil || len(got.Found) != 2 {
					b.Fatal(got, err)
				}
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/1e6, "MB")
		})
	}
}
