// Package sshagent starts real ssh-agents for tests, of OpenSSH, with keys of files and of
// SoftHSM's tokens in them. For tests only.
package sshagent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
)

// Agent is a running ssh-agent.
type Agent struct {
	Socket string // for SSH_AUTH_SOCK
	t      testing.TB
	env    []string
}

// Start starts an agent that ends with the test. env is what it and ssh-add see besides
// PATH, as SOFTHSM2_CONF=….
func Start(t testing.TB, env ...string) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // short: the socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Socket: filepath.Join(dir, "s"), t: t}
	a.env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "SSH_AUTH_SOCK="+a.Socket)
	// -D keeps it in the foreground: it is ended as the child that it is.
	cmd := exec.Command("ssh-agent", "-D", "-a", a.Socket, "-P", "/usr/lib*,/usr/local/lib*,/opt/homebrew/*")
	cmd.Env = a.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("ssh-agent (from openssh-client, run make tools): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it speaks when it listens
		t.Fatal(err)
	}
	return a
}

// Add adds the key of a file.
func (a *Agent) Add(path string) {
	a.t.Helper()
	a.add(nil, "-q", path)
}

// AddToken adds the keys of SoftHSM's tokens.
func (a *Agent) AddToken(tokens *softhsm.Tokens) {
	a.t.Helper()
	ask := filepath.Join(filepath.Dir(a.Socket), "ask")
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho "+softhsm.PIN+"\n"), 0o700); err != nil {
		a.t.Fatal(err)
	}
	a.add([]string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}, "-s", tokens.Module)
}

func (a *Agent) add(env []string, args ...string) {
	a.t.Helper()
	cmd := exec.Command("ssh-add", args...)
	cmd.Env = append(env, a.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("ssh-add %v: %v\n%s", args, err, out)
	}
}

// Keys are the public keys in the agent, as "type base64", without comments.
func (a *Agent) Keys() (keys []string) {
	a.t.Helper()
	cmd := exec.Command("ssh-add", "-L")
	cmd.Env = a.env
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		keys = append(keys, f[0]+" "+f[1])
	}
	return keys
}
