package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/registry"
)

// demo is what the steps share.
type demo struct {
	options
	bin  string // absolute path of hallmark
	dir  string // everything is made in here
	env  []string
	page page

	up        *exec.Cmd // hallmark up
	authority authority
	client    *registry.Client

	source   string   // repository to build from
	tag      string   // its release tag
	rules    string   // signing policy's folder, outside the repository
	args     []string // build arguments of the demo's own repository
	web      *webServer
	identity string // who signs
	image    string // tag that the build pushed
	digest   string // what it points to
	started  time.Time
}

// authority is what "hallmark up --json" prints once it is ready.
type authority struct {
	URL           string `json:"url"`
	Registry      string `json:"registry"`
	Issuer        string `json:"issuer"`
	TUF           string `json:"tuf"`
	TrustedRoot   string `json:"trusted_root"`
	SigningConfig string `json:"signing_config"`
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

// hallmark runs the binary as a user would and returns what it did; the exit
// code is the caller's to judge.
func (d *demo) hallmark(ctx context.Context, args ...string) (result, error) {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env, cmd.Dir = d.env, d.dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}, nil
}

// must runs hallmark and fails unless it exits 0.
func (d *demo) must(ctx context.Context, args ...string) (result, error) {
	r, err := d.hallmark(ctx, args...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("%s: exit %d\n%s%s", d.shown(args...), r.code, r.stdout, r.stderr)
	}
	return r, err
}

// tool runs another program in dir and returns its output.
func (d *demo) tool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// shown is a command as the page shows it: short names for the demo's own
// folder and registry, so that a line stays readable.
func (d *demo) shown(args ...string) string {
	s := "hallmark " + strings.Join(args, " ")
	s = strings.ReplaceAll(s, d.dir+"/", "")
	return s
}

// startAuthority starts hallmark up and waits until it says that it is ready.
func (d *demo) startAuthority(ctx context.Context) error {
	d.up = exec.Command(d.bin, "up", "--data", d.path("authority"), "--listen", "127.0.0.1:0", "--json")
	d.up.Env, d.up.Dir = d.env, d.dir
	// A session of its own: Ctrl-C ends the demo, which then ends this; with KEEP=1 it lives on.
	d.up.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.Create(d.path("authority.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.up.Stderr = log
	answer := d.path("authority.json")
	out, err := os.Create(answer)
	if err != nil {
		return err
	}
	defer out.Close()
	d.up.Stdout = out
	if err := d.up.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		raw, err := os.ReadFile(answer)
		if err != nil {
			return err
		}
		if bytes.HasSuffix(raw, []byte("\n")) {
			if err := json.Unmarshal(raw, &d.authority); err != nil {
				return fmt.Errorf("hallmark up --json: %w", err)
			}
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			said, _ := os.ReadFile(d.path("authority.log"))
			return fmt.Errorf("hallmark up did not become ready:\n%s", said)
		}
	}
	d.env = append(d.env,
		"HALLMARK_TRUSTED_ROOT="+d.authority.TrustedRoot,
		"HALLMARK_SIGNING_CONFIG="+d.authority.SigningConfig,
		"HALLMARK_DATA="+d.path("authority"))
	d.client = registry.NewClient(registry.Options{})
	d.page.add(chapter{
		title:   "A private Sigstore starts",
		text:    "Sigstore is how software is signed without long-lived keys: an issuer says who a person is, a certificate authority turns that into a certificate of ten minutes, a public log writes down each signature for good, and a timestamp authority says when. Here all four, and a container registry, are one process on one port.",
		command: "hallmark up --data authority",
		seen:    []string{"ready at " + d.authority.URL},
	})
	return nil
}

// close ends what the demo started, or says how to look at it when it is kept.
func (d *demo) close(page io.Writer, keep bool) {
	if d.web != nil {
		d.web.close()
	}
	if d.up == nil || d.up.Process == nil {
		_ = os.RemoveAll(d.dir)
		return
	}
	if keep {
		sudo := ""
		if os.Getenv("SUDO_UID") != "" { // make demo runs this under sudo where that is needed
			sudo = "sudo "
		}
		fmt.Fprintf(page, "\nEverything is still there:\n  eval \"$(%s%s up env --data %s)\"\n  %s show %s\n  curl %s/api/v2/checkpoint\nTo end it:\n  %skill %d; %srm -rf %s\n",
			sudo, d.bin, d.path("authority"), d.bin, d.image, d.authority.URL, sudo, d.up.Process.Pid, sudo, d.dir)
		return
	}
	_ = d.up.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { _ = d.up.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = d.up.Process.Kill()
		<-done
	}
	_ = os.RemoveAll(d.dir)
}

var digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
