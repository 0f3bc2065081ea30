package main

import (
	"context"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// scriptSource is the verb "source DIR": it makes the folder a git repository
// with one commit, the key "release" and the key "stranger" beside it, and
// policy/allowed_signers that lists the first as release. The tags: v1.0.0
// signed by release, v1.0.1 unsigned, v1.0.2 by the stranger, v1.0.3
// lightweight, nightly signed by release. It sets KEY, DIR.git for git -C.
func scriptSource(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: source DIR")
	}
	dir := ts.MkAbs(args[0])
	do := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, gitrepo.Env()
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	do("git", "init", "--quiet", "--initial-branch=main")
	do("git", "add", ".")
	do("git", "commit", "--quiet", "-m", "all")
	for tag, who := range map[string]string{"v1.0.0": "release", "v1.0.2": "stranger", "nightly": "release"} {
		key := ts.MkAbs(who + ".key")
		if _, err := os.Stat(key); err != nil {
			do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
		}
		do("git", "-c", "gpg.format=ssh", "-c", "user.signingKey="+key, "tag", "-s", "-m", tag, tag)
	}
	do("git", "tag", "-a", "-m", "nobody signs", "v1.0.1")
	do("git", "tag", "v1.0.3")
	public, err := os.ReadFile(ts.MkAbs("release.key.pub"))
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs("policy"), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs("policy/allowed_signers"), append([]byte(`release namespaces="git" `), public...), 0o644))
	ts.Setenv("COMMIT", do("git", "rev-parse", "HEAD"))
}

// scriptBuildkit is the verb "buildkit": it lets hallmark find buildkitd and
// sets BASE to a busybox image in $REG.
func scriptBuildkit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: buildkit")
	}
	scriptTool(ts, false, []string{"buildkitd"})
	ts.Setenv("HALLMARK_TOOLS", filepath.Dir(ts.Getenv("BUILDKITD")))
	ref, err := registry.ParseRef(ts.Getenv("REG") + "/base/busybox:1")
	ts.Check(err)
	img, err := testimage.Busybox()
	ts.Check(err)
	_, err = testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img)
	ts.Check(err)
	ts.Setenv("BASE", ref.String())
}

// scriptTagMover is the verb "tagmover DIR TAG": it sets MOVER to a URL; whoever
// fetches it, as a build step does, makes the tag point to another object.
func scriptTagMover(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tagmover DIR TAG")
	}
	dir := ts.MkAbs(args[0])
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cmd := exec.Command("git", "tag", "-f", "-a", "-m", "moved", args[1])
		cmd.Dir, cmd.Env = dir, gitrepo.Env()
		if out, err := cmd.CombinedOutput(); err != nil {
			http.Error(w, string(out), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("moved\n"))
	}))
	ts.Defer(srv.Close)
	ts.Setenv("MOVER", srv.URL+"/file")
}

// scriptGitServer is the verb "gitserver DIR": it serves the repository in the
// folder over HTTP and sets GITURL.
func scriptGitServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gitserver DIR")
	}
	out, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	srv := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  append(gitrepo.Env(), "GIT_PROJECT_ROOT="+ts.MkAbs(args[0]), "GIT_HTTP_EXPORT_ALL=1"),
	})
	ts.Defer(srv.Close)
	ts.Setenv("GITURL", srv.URL+"/.git")
}
