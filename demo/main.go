// Command demo runs Hallmark's main job on real parts and tells the story: a
// private Sigstore, a git repository with a signed release tag, a build on
// BuildKit, signatures, verification, an admission decision, and then the
// attempts that must be refused. Nothing is mocked: every step is the hallmark
// command that the page shows.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	hallmark string // the binary under demonstration
	repo     string // the user's own repository: path or URL
	ref      string // its release tag
	policy   string // its signing policy's folder
	self     bool   // build Hallmark's own image from this checkout's commit
	keep     bool   // leave the authority running and the folder in place
}

func main() {
	var o options
	flag.StringVar(&o.hallmark, "hallmark", "bin/hallmark", "the hallmark binary")
	flag.StringVar(&o.repo, "repo", "", "your own repository, a path or an URL (default: a small one made here)")
	flag.StringVar(&o.ref, "ref", "", "the release tag to build from, with -repo")
	flag.StringVar(&o.policy, "policy", "", "the folder of your signing policy, with -repo")
	flag.BoolVar(&o.self, "self", false, "build Hallmark's own image from the commit checked out here")
	flag.BoolVar(&o.keep, "keep", false, "leave everything running and say how to look at it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, o, os.Stdout))
}

func run(ctx context.Context, o options, page io.Writer) int {
	start := time.Now()
	d, err := newDemo(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		return 2
	}
	err = d.play(ctx)
	if err == nil {
		d.page.print(page, time.Since(start))
	}
	d.close(page, err == nil && o.keep)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		return 1
	}
	return 0
}

// play is the story: first what must work, then what must be refused.
func (d *demo) play(ctx context.Context) error {
	steps := []struct {
		doing string
		do    func(context.Context) error
	}{
		{"starting a private Sigstore and registry", d.startAuthority},
		{"making the base image", d.makeBaseImage},
		{"making the source repository", d.makeSource},
		{"building from the release tag on BuildKit, then signing", d.build},
		{"verifying the image", d.verify},
		{"asking the admission policy about a Pod", d.admit},
		{"trying what must be refused", d.refusals},
	}
	for i, s := range steps {
		t0 := time.Now()
		fmt.Fprintf(os.Stderr, "[%d/%d] %s …", i+1, len(steps), s.doing)
		if err := s.do(ctx); err != nil {
			fmt.Fprintln(os.Stderr, " failed")
			return err
		}
		fmt.Fprintf(os.Stderr, " %.1f s\n", time.Since(t0).Seconds())
	}
	return nil
}

// newDemo checks the options and makes the demo's folder.
func newDemo(o options) (*demo, error) {
	if (o.ref != "" || o.policy != "") && o.repo == "" {
		return nil, errors.New("REF and POLICY belong to REPO: make demo REPO=path-or-url REF=tag")
	}
	if o.repo != "" && o.ref == "" {
		return nil, errors.New("which tag? make demo REPO=path-or-url REF=tag")
	}
	if o.repo != "" && o.self {
		return nil, errors.New("REPO and SELF exclude each other")
	}
	bin, err := filepath.Abs(o.hallmark)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("%w: run make build", err)
	}
	dir, err := os.MkdirTemp("", "hallmark-demo-")
	if err != nil {
		return nil, err
	}
	d := &demo{options: o, bin: bin, dir: dir, started: time.Now()}
	d.env = append(os.Environ(), "HOME="+dir, "DOCKER_CONFIG="+dir+"/docker", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	// The caller's own identity and services must not leak into the story.
	for _, name := range []string{"SIGSTORE_ID_TOKEN", "HALLMARK_TRUSTED_ROOT", "HALLMARK_SIGNING_CONFIG", "HALLMARK_DATA", "ACTIONS_ID_TOKEN_REQUEST_URL", "SSH_AUTH_SOCK"} {
		d.env = append(d.env, name+"=")
	}
	if os.Getenv("HALLMARK_TOOLS") == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		d.env = append(d.env, "HALLMARK_TOOLS="+filepath.Join(home, ".cache/hallmark/tools/bin"))
	}
	return d, nil
}
