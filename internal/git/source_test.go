package git_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

func TestParseLocation(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://example.com/org/app.git": "https://example.com/org/app.git", "https://example.com:8443/x": "https://example.com:8443/x",
		"http://127.0.0.1:80/x.git": "http://127.0.0.1:80/x.git", "http://localhost/x": "http://localhost/x",
		"ssh://git@example.com/x": "ssh://git@example.com/x", "git@example.com:org/app.git": "ssh://git@example.com/org/app.git",
	} {
		l, err := git.ParseLocation(in, false)
		if err != nil || l.String() != want {
			t.Errorf("%s: %s %v", in, l, err)
		}
	}
	for _, in := range []string{
		"", "-x", "--upload-pack=x", "ext::sh -c id", "https::x", "http://example.com/x", "git://example.com/x", "file:///tmp/x",
		"ftp://example.com/x", "https://user:secret@example.com/x", "https://token@example.com/x", "https://example.com/x?a=b",
		"https://example.com/x#v1", "https:///x", "ssh://-oProxyCommand=id/x", "ssh://-x@example.com/y", "https://exa mple.com/", "/does/not/exist",
		"https://example.com/x\n",
	} {
		_, err := git.ParseLocation(in, false)
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v, want a usage error", in, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error repeats the password", in)
		}
	}
	if _, err := git.ParseLocation("http://example.com/x", true); err != nil {
		t.Error(err)
	}
}

// serve is a git server over HTTP on loopback, git's own http-backend.
func serve(t testing.TB, repo *gitrepo.Repo) git.Location {
	t.Helper()
	l, err := git.ParseLocation(gitrepo.Serve(t, repo), false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, l git.Location, ref string) *git.Source {
	t.Helper()
	src, why, err := git.Open(context.Background(), l, ref)
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		f := newFixture(t, format)
		f.SignTag(f.key, "v1", f.commit)
		src := open(t, serve(t, f.Repo), "v1")
		if why := src.Verify(trust(t, f.key, ""), now); why != nil {
			t.Fatal(format, why)
		}
		if why, err := src.Moved(context.Background()); why != nil || err != nil {
			t.Fatal(format, why, err)
		}
	}
}

func TestMoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	src := open(t, git.Location{Path: f.Dir}, "v1")
	f.Write("Dockerfile", "FROM evil\n")
	second := f.Commit("second")
	f.Git("tag", "-d", "v1")
	why, err := src.Moved(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, why, "TAG_MOVED", "was deleted")
	f.SignTag(f.key, "v1", second)
	if why, err = src.Moved(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, why, "TAG_MOVED", "now")
	// What was judged is what is written out all the same.
	dir := t.TempDir()
	if _, err := src.Export(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "Dockerfile")); string(got) != "FROM scratch\n" {
		t.Errorf("exported %q", got)
	}
}

func TestWhichRef(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	f.SignTag(f.key, "both", f.commit)
	f.Git("branch", "both")
	f.SetRef("refs/heads/refs/tags/tail", f.commit)
	l := git.Location{Path: f.Dir}
	if src := open(t, l, "refs/tags/both"); src.Git.Ref != "refs/tags/both" {
		t.Error(src.Git.Ref)
	}
	for ref, want := range map[string]struct {
		kind fault.Kind
		say  string
	}{
		"both": {fault.Usage, "a tag and a branch"}, "v2": {fault.Failure, "no tag or branch v2"},
		"refs/tags/tail": {fault.Failure, "no tag or branch"}, "-v1": {fault.Usage, "not a valid name"},
		"v1^{}": {fault.Usage, "not a valid name"}, "v*": {fault.Usage, "not a valid name"}, "../v1": {fault.Usage, "not a valid name"},
		"": {fault.Usage, "not a valid name"}, "refs/": {fault.Usage, "not a valid name"}, f.commit: {fault.Failure, "no tag or branch"},
	} {
		_, why, err := git.Open(context.Background(), l, ref)
		if why != nil || fault.KindOf(err) != want.kind || err == nil || !strings.Contains(err.Error(), want.say) {
			t.Errorf("%q: %v %v, want %q", ref, why, err, want.say)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := dead.Addr().String()
	dead.Close()
	_, _, err = git.Open(context.Background(), git.Location{URL: "http://" + addr + "/x.git"}, "v1")
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "listing the refs") {
		t.Errorf("nobody listens: %v", err)
	}
	status := func(code int) error {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Redirect(w, r, "http://"+addr+r.URL.Path, code)
		}))
		defer srv.Close()
		_, _, err := git.Open(context.Background(), git.Location{URL: srv.URL + "/x.git"}, "v1")
		return err
	}
	if err := status(302); err == nil || !strings.Contains(err.Error(), "redirect") || fault.HintOf(err) == "" {
		t.Errorf("redirect: %v", err)
	}
	if err := status(401); err == nil || !strings.Contains(err.Error(), "wants a login") {
		t.Errorf("401: %v", err)
	}
	if err := status(404); err == nil || !strings.Contains(err.Error(), "no git repository") {
		t.Errorf("404: %v", err)
	}
	_, _, err = git.Open(context.Background(), git.Location{Path: t.TempDir()}, "v1")
	if err == nil || !strings.Contains(err.Error(), "no git repository") {
		t.Errorf("no repository: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err = git.Open(ctx, git.Location{Path: t.TempDir()}, "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A hostile repository, read from its own folder: nothing that its
// configuration, hooks or attributes name may run.
func TestHostileRepository(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	sentinel := filepath.Join(t.TempDir(), "ran")
	run := "touch " + sentinel
	hook := filepath.Join(f.Dir, ".git", "hooks")
	script := []byte("#!/bin/sh\n" + run + "\nexec \"$@\"\n")
	f.Write(".gitattributes", "* filter=evil diff=evil export-subst text eol=crlf\nsecret export-ignore\n")
	f.Write("secret", "kept $Format:%H$\n")
	commit := f.Commit("evil")
	f.SignTag(f.key, "v1", commit)
	for _, name := range []string{"post-checkout", "pre-receive", "reference-transaction", "post-index-change", "pack"} {
		if err := os.MkdirAll(hook, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(hook, name), script, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, kv := range [][2]string{
		{"core.fsmonitor", run}, {"filter.evil.smudge", run}, {"filter.evil.clean", "cat"}, {"filter.evil.process", run},
		{"uploadpack.packObjectsHook", filepath.Join(hook, "pack")}, {"core.hooksPath", hook}, {"core.sshCommand", run},
		{"core.alternateRefsCommand", run}, {"diff.evil.textconv", run}, {"gpg.program", run}, {"gpg.ssh.program", run},
		{"remote.origin.url", "ext::" + run}, {"remote.origin.uploadpack", run}, {"remote.origin.promisor", "true"},
		{"extensions.partialClone", "origin"}, {"protocol.ext.allow", "always"}, {"core.pager", run}, {"core.editor", run},
	} {
		f.Git("config", kv[0], kv[1])
	}
	src := open(t, git.Location{Path: f.Dir}, "v1")
	if why := src.Verify(trust(t, f.key, ""), now); why != nil {
		t.Fatal(why)
	}
	dir := t.TempDir()
	if _, err := src.Export(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sentinel); err == nil {
		t.Error("the repository made us run its command")
	}
	if got, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil || string(got) != "kept $Format:%H$\n" {
		t.Errorf("export: %q %v: want the bytes of the commit whatever its attributes say", got, err)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	outside := t.TempDir()
	f.Write("sub/deep/file", "deep\n")
	f.Write("run.sh", "#!/bin/sh\n")
	f.Git("update-index", "--chmod=+x", "run.sh")
	for name, target := range map[string]string{"up": "../../etc/passwd", "abs": outside, "here": "sub"} {
		if err := os.Symlink(target, filepath.Join(f.Dir, name)); err != nil {
			t.Fatal(err)
		}
		f.Git("add", name)
	}
	f.Write(".gitmodules", "[submodule \"m\"]\n\tpath = m\n\turl = ext::sh\n")
	f.Git("update-index", "--add", "--cacheinfo", "160000,"+f.commit+",m")
	f.SignTag(f.key, "v1", f.Commit("tree"))
	src := open(t, git.Location{Path: f.Dir}, "v1")
	dir := t.TempDir()
	warnings, err := src.Export(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "submodules are not fetched, their folders are empty: m") {
		t.Errorf("warnings %q", warnings)
	}
	var got []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if info.Mode().IsRegular() && info.ModTime().Unix() != 1700000000 {
			t.Errorf("%s: time %v", rel, info.ModTime())
		}
		got = append(got, info.Mode().String()+" "+rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `-rw-r--r-- .gitmodules
-rw-r--r-- Dockerfile
Lrwxrwxrwx abs
Lrwxrwxrwx here
drwxr-xr-x m
-rwxr-xr-x run.sh
drwxr-xr-x sub
drwxr-xr-x sub/deep
-rw-r--r-- sub/deep/file
Lrwxrwxrwx up`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// The same commit gives the same tree whatever the umask and the clock: no mode
// and no time of this machine ends in an image. Not parallel: the umask is the
// process's.
func TestExportIsTheCommitAlone(t *testing.T) {
	f := newFixture(t, "sha1")
	f.Write("sub/deep/file", "deep\n")
	f.Git("update-index", "--add", "--cacheinfo", "160000,"+f.commit+",m")
	f.SignTag(f.key, "v1", f.Commit("tree"))
	src := open(t, git.Location{Path: f.Dir}, "v1")
	dir := t.TempDir()
	old := syscall.Umask(0o077)
	_, err := src.Export(context.Background(), dir)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o755, false: 0o644}[d.IsDir()]; info.Mode().Perm() != want || info.ModTime().Unix() != 1700000000 {
			t.Errorf("%s: %v of %v", path, info.Mode(), info.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Trees that git would not write. Fetching refuses most of them (fsck), the
// exporter the rest; none may write outside.
func TestEvilTrees(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	blob := f.Git("rev-parse", "HEAD:Dockerfile")
	raw := func(id string) string {
		var b strings.Builder
		for i := 0; i < len(id); i += 2 {
			hi, lo := strings.IndexByte("0123456789abcdef", id[i]), strings.IndexByte("0123456789abcdef", id[i+1])
			b.WriteByte(byte(hi<<4 | lo))
		}
		return b.String()
	}
	target := f.Object("blob", []byte("/tmp"))
	entry := func(mode, name, id string) string { return mode + " " + name + "\x00" + raw(id) }
	sub := f.Object("tree", []byte(entry("100644", "x", blob)))
	for name, tree := range map[string]string{
		"dotdot": entry("100644", "..", blob), "git": entry("40000", ".git", sub), "GIT": entry("40000", ".GIT", sub),
		"slash": entry("100644", "a/b", blob), "absolute": entry("100644", "/etc/x", blob), "empty": entry("100644", "", blob),
		"twice": entry("100644", "a", blob) + entry("100644", "a", blob), "link and folder": entry("120000", "a", target) + entry("40000", "a", sub),
		"mode": entry("100600", "a", blob), "cut": entry("100644", "a", blob)[:20], "tree as file": entry("100644", "a", sub),
	} {
		t.Run(name, func(t *testing.T) {
			id := f.Object("tree", []byte(tree))
			commit := f.Object("commit", []byte("tree "+id+"\nauthor A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000000 +0000\n\nx\n"))
			tag := strings.ReplaceAll(name, " ", "-")
			h := "object " + commit + "\ntype commit\ntag " + tag + "\n" + taggerLine + "\nx\n"
			f.put(tag, f.sign(f.key, h))
			src, why, err := git.Open(context.Background(), git.Location{Path: f.Dir}, tag)
			if why != nil || err != nil {
				if why != nil && why.Code != "FETCH_REFUSED" {
					t.Errorf("%v", why)
				}
				return
			}
			defer src.Close()
			if _, err := src.Export(context.Background(), t.TempDir()); err == nil {
				t.Error("exported")
			}
		})
	}
}

// A repository of another user, as CI checkouts often are.
func TestForeignOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("not root: files cannot be given away; the rest of the suite reads own files")
		return
	}
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	err := filepath.WalkDir(f.Dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 12345, 12345))
	})
	if err != nil {
		t.Fatal(err)
	}
	src, why := func() (*git.Source, *policy.Reason) {
		s, why, err := git.Open(context.Background(), git.Location{Path: f.Dir}, "v1")
		if err != nil {
			t.Fatal(err)
		}
		return s, why
	}()
	if why != nil {
		t.Fatal(why)
	}
	src.Close()
}
