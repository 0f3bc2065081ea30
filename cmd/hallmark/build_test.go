package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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

// scriptDockerfiles is the verb "dockerfiles DIR": it puts the Dockerfiles of our own images
// into the folder, as Dockerfile and log.Dockerfile.
func scriptDockerfiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dockerfiles DIR")
	}
	for name, from := range map[string]string{"Dockerfile": "../../Dockerfile", "log.Dockerfile": "../../deploy/hallmark-log/Dockerfile"} {
		data, err := os.ReadFile(from)
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), name), data, 0o644))
	}
}

// TestImagesHaveCAs: every stage that becomes one of our images takes the CAs, also those
// whose binary is built in it.
func TestImagesHaveCAs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"../../Dockerfile": 3, "../../deploy/hallmark-log/Dockerfile": 2} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		images := 0
		for _, stage := range strings.Split(string(data), "\nFROM ")[1:] {
			if !strings.Contains(stage, "\nENTRYPOINT ") {
				continue
			}
			images++
			if !strings.HasPrefix(stage, "scratch") || !strings.Contains(stage, "\nCOPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/\n") {
				t.Errorf("%s: an image without CAs: FROM %s", path, stage)
			}
		}
		if images != want {
			t.Errorf("%s: %d images, want %d", path, images, want)
		}
	}
}

// scriptBuildkit is the verb "buildkit [TAG]...": it lets hallmark find buildkitd and
// sets BASE to a busybox image in $REG, which has these tags, too, and BUSYBOX to its
// digest.
func scriptBuildkit(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: buildkit [TAG]...")
	}
	scriptTool(ts, false, []string{"buildkitd"})
	ts.Setenv("HALLMARK_TOOLS", filepath.Dir(ts.Getenv("BUILDKITD")))
	img, err := testimage.Busybox()
	ts.Check(err)
	for _, tag := range append(args, "1") {
		ref, err := registry.ParseRef(ts.Getenv("REG") + "/base/busybox:" + tag)
		ts.Check(err)
		d, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img)
		ts.Check(err)
		ts.Setenv("BASE", ref.String())
		ts.Setenv("BUSYBOX", d.Digest.String())
	}
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

// scriptOnFetch is the verb "onfetch FILE": a URL, which it sets ONFETCH to, that runs the
// shell script before it answers.
func scriptOnFetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: onfetch FILE")
	}
	script, dir, env := ts.MkAbs(args[0]), ts.MkAbs("."), append(os.Environ(), "PATH="+ts.Getenv("PATH"), "HOME="+ts.Getenv("HOME"))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cmd := exec.Command("sh", script)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			http.Error(w, string(out), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("fetched\n"))
	}))
	ts.Defer(srv.Close)
	ts.Setenv("ONFETCH", srv.URL+"/file")
}

// scriptGitServer is the verb "gitserver DIR [TOKEN]": it serves the repository in the
// folder over HTTP, to whoever has the token if there is one, and sets GITURL and GITHOST.
// DIR.seen has the logins that it was shown. What is asked for below /to/HOST it sends there.
func scriptGitServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: gitserver DIR [TOKEN]")
	}
	out, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  append(gitrepo.Env(), "GIT_PROJECT_ROOT="+ts.MkAbs(args[0]), "GIT_HTTP_EXPORT_ALL=1"),
	}
	seen, err := os.OpenFile(ts.MkAbs(args[0])+".seen", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, shown, ok := r.BasicAuth()
		if ok || r.Header.Get("Authorization") != "" {
			fmt.Fprintln(seen, shown, r.Header.Get("Authorization"))
		}
		if len(args) == 2 && shown != args[1] {
			w.Header().Set("WWW-Authenticate", "Basic realm=git")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if to, ok := strings.CutPrefix(r.URL.Path, "/to/"); ok {
			http.Redirect(w, r, "http://"+to+"?"+r.URL.RawQuery, http.StatusFound)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	ts.Defer(func() { srv.Close(); seen.Close() })
	ts.Setenv("GITURL", srv.URL+"/.git")
	ts.Setenv("GITHOST", strings.TrimPrefix(srv.URL, "http://"))
}
