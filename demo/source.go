package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// app is the demo's own repository, policy the rules that its releases must meet.
//
//go:embed all:app policy
var files embed.FS

// makeBaseImage pushes Debian's busybox as the image that the Dockerfile builds on.
func (d *demo) makeBaseImage(ctx context.Context) error {
	img, err := testimage.Busybox()
	if err != nil {
		return err
	}
	ref, err := registry.ParseRef(d.authority.Registry + "/base/busybox:1")
	if err != nil {
		return err
	}
	if _, err := testimage.Push(ctx, d.client, ref, img); err != nil {
		return err
	}
	d.args = []string{"--build-arg", "BASE=" + ref.String()}
	return nil
}

// makeSource makes the repository to build from and the policy that guards it.
func (d *demo) makeSource(ctx context.Context) error {
	d.rules, d.source, d.tag = d.path("policy"), d.path("source"), "v1.0.0"
	name := "app"
	switch {
	case d.repo != "" && d.policy != "":
		return d.useTheirs()
	case d.repo != "":
		name = imageName(d.repo)
		if err := d.clone(ctx, d.repo, d.ref); err != nil {
			return err
		}
		d.args = nil
	case d.self:
		name = "hallmark"
		if err := d.clone(ctx, ".", "HEAD"); err != nil {
			return err
		}
		if err := d.makeGoImage(ctx); err != nil {
			return err
		}
	default:
		if err := d.makeApp(ctx); err != nil {
			return err
		}
	}
	d.image = d.authority.Registry + "/demo/" + name + ":" + d.tag
	return d.tagReleases(ctx)
}

// useTheirs takes the user's repository, tag and policy as they are.
func (d *demo) useTheirs() error {
	rules, err := filepath.Abs(d.policy)
	if err != nil {
		return err
	}
	d.rules, d.source, d.tag, d.args = rules, absolute(d.repo), strings.TrimPrefix(d.ref, "refs/tags/"), nil
	d.image = d.authority.Registry + "/demo/" + imageName(d.repo) + ":demo"
	d.page.add(chapter{
		title: "Your repository, your tag, your policy",
		text:  "The tag is built only if your policy allows it.",
		seen:  []string{d.repo + " at " + d.ref, "policy: " + d.policy},
	})
	return nil
}

// imageName makes a repository name out of a path or an URL: lower case, and a
// dash for whatever an image's name may not have.
func imageName(repo string) string {
	name := strings.ToLower(strings.TrimSuffix(filepath.Base(absolute(repo)), ".git"))
	name = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name), "-")
	for strings.Contains(name, "---") {
		name = strings.ReplaceAll(name, "---", "--")
	}
	if name == "" {
		return "app"
	}
	return name
}

// absolute makes a local path absolute and leaves an URL alone.
func absolute(repo string) string {
	if strings.Contains(repo, "://") {
		return repo
	}
	if abs, err := filepath.Abs(repo); err == nil {
		return abs
	}
	return repo
}

// clone makes a scratch clone, so that nothing is ever written to the original.
func (d *demo) clone(ctx context.Context, from, ref string) error {
	if _, err := d.tool(ctx, "", "git", "clone", "--quiet", "--no-hardlinks", "--", absolute(from), d.source); err != nil {
		return err
	}
	_, err := d.tool(ctx, d.source, "git", "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", ref)
	return err
}

// makeApp writes and commits the demo's own small application, and serves the
// file that its Dockerfile fetches over HTTP.
func (d *demo) makeApp(ctx context.Context) error {
	if err := copyTree(files, "app", d.source); err != nil {
		return err
	}
	web, err := serve("motd.txt", "Made from a signed tag, and it shows.\n")
	if err != nil {
		return err
	}
	d.web = web
	d.args = append(d.args, "--build-arg", "MOTD_URL="+web.url)
	for _, args := range [][]string{
		{"git", "init", "--quiet", "--initial-branch=main", "."},
		{"git", "add", "."},
		{"git", "-c", "user.name=Rita", "-c", "user.email=rita@example.com", "commit", "--quiet", "-m", "The application"},
	} {
		if _, err := d.tool(ctx, d.source, args...); err != nil {
			return err
		}
	}
	return nil
}

// tagReleases makes two SSH keys and three tags on one commit: a release signed
// by the release key, a release that nobody signed, and one signed by a stranger.
func (d *demo) tagReleases(ctx context.Context) error {
	if err := copyTree(files, "policy", d.rules); err != nil {
		return err
	}
	for _, who := range []string{"release", "stranger"} {
		if _, err := d.tool(ctx, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", d.path(who+".key")); err != nil {
			return err
		}
	}
	public, err := os.ReadFile(d.path("release.key.pub"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.rules, "allowed_signers"), append([]byte(`release namespaces="git" `), public...), 0o644); err != nil {
		return err
	}
	tag := func(name, key string) error {
		args := []string{"git", "-c", "user.name=Rita", "-c", "user.email=rita@example.com"}
		if key != "" {
			args = append(args, "-c", "gpg.format=ssh", "-c", "user.signingKey="+d.path(key+".key"), "tag", "--force", "-s")
		} else {
			args = append(args, "tag", "--force", "-a")
		}
		_, err := d.tool(ctx, d.source, append(args, "-m", "Release "+name, name, "HEAD")...)
		return err
	}
	for name, key := range map[string]string{d.tag: "release", "v1.0.1": "", "v1.0.2": "stranger"} {
		if err := tag(name, key); err != nil {
			return err
		}
	}
	commit, err := d.tool(ctx, d.source, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	d.page.add(chapter{
		title: "A release is tagged, and a policy outside the repository guards it",
		text:  "Rita signs the tag " + d.tag + " with the release key. Who may release is written in a policy that lies outside the repository, so whoever can push there cannot change it.",
		seen: []string{
			"commit " + commit[:12] + ", tag " + d.tag + " signed with SSH",
			"policy: " + strings.Join(policySentences, " and "),
		},
	})
	return nil
}

// copyTree writes an embedded folder to disk.
func copyTree(from fs.FS, root, to string) error {
	return fs.WalkDir(from, root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, root))
		if e.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}

// webServer serves one file on loopback.
type webServer struct {
	url string
	srv *http.Server
}

func serve(name, content string) (*webServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/"+name {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, name, time.Unix(0, 0), strings.NewReader(content))
	})
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	return &webServer{url: fmt.Sprintf("http://%s/%s", l.Addr(), name), srv: srv}, nil
}

func (w *webServer) close() { _ = w.srv.Close() }
