package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// runner runs git in a fresh bare repository with nothing of the machine's,
// the user's or the source's configuration: no hooks, no helpers, no filters,
// one allowed protocol, no prompts, no lazy fetches.
type runner struct {
	dir       string // holds repo.git and the configuration file
	location  Location
	anonymous bool // without anybody's login: no ~/.netrc, no SSH agent
	place     bool // the repository is made of links to the folder's own objects and refs
	detached  bool // and no branch of it is checked out
	hexLen    int  // of the repository, once it is made

	kept *batch // of a place
}

const maxOutput = 1 << 20

// newRunner makes the directory and the repository in it; hexLen is the length
// of the source's object ids.
func newRunner(location Location) (*runner, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fault.Hint(fmt.Errorf("git is not installed"), "install it: apt-get install git")
	}
	dir, err := os.MkdirTemp("", "hallmark-git-")
	if err != nil {
		return nil, err
	}
	r := &runner{dir: dir, location: location, anonymous: location.resolve != ""}
	// What is fetched is read once and deleted: compressing it, and waiting for the disk, is wasted time.
	config := "[core]\n\thooksPath = /dev/null\n\tcompression = 0\n\tfsync = none\n[fetch]\n\tunpackLimit = 1\n"
	if location.Path != "" {
		// The person named this very path. git's upload-pack is made for
		// repositories of others; lazy fetches, the known way around that,
		// are off. The path reaches upload-pack only through this file.
		for _, p := range []string{location.Path, filepath.Join(location.Path, ".git")} {
			config += "[safe]\n\tdirectory = " + quoteConfig(p) + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

// forgetOrigin makes the private repository one that has only what it has. A fetch with a
// filter leaves in its configuration where the rest would be, and a git before 2.45 then
// dies for want of it, or goes for it, where it should say that something is missing.
func (r *runner) forgetOrigin() error {
	format := "sha1"
	if r.hexLen == 64 {
		format = "sha256"
	}
	text := "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = " + format + "\n"
	return os.WriteFile(filepath.Join(r.repo(), "config"), []byte(text), 0o600)
}

func quoteConfig(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

func (r *runner) init(ctx context.Context, hexLen int) error {
	if r.hexLen == hexLen {
		return nil
	}
	if r.hexLen != 0 {
		return fmt.Errorf("%s has ids of different lengths", r.location)
	}
	format := "sha1"
	if hexLen == 64 {
		format = "sha256"
	}
	_, err := r.run(ctx, "making a temporary repository", "init", "--quiet", "--bare", "--template=",
		"--object-format="+format, r.repo())
	if err == nil {
		r.hexLen = hexLen
	}
	return err
}

func (r *runner) repo() string { return filepath.Join(r.dir, "repo.git") }

func (r *runner) remove() error {
	_ = r.endBatch() // what was read was read
	return os.RemoveAll(r.dir)
}

// command is git with the hardening. The environment is built, not inherited.
func (r *runner) command(ctx context.Context, args ...string) *exec.Cmd {
	protocol := r.location.protocol()
	if r.place {
		protocol = "none" // it is read where it lies
	}
	base := []string{
		"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.attributesFile=/dev/null",
		"-c", "credential.helper=", "-c", "submodule.recurse=false", "-c", "fetch.recurseSubmodules=false",
		"-c", "fetch.fsckObjects=true", "-c", "transfer.bundleURI=false", "-c", "http.followRedirects=false",
		"-c", "protocol.allow=never", "-c", "protocol." + protocol + ".allow=always",
		"-c", "gc.auto=0", "-c", "maintenance.auto=false",
	}
	if r.location.resolve != "" {
		base = append(base, "-c", "http.curloptResolve="+r.location.resolve, "-c", "http.proxy=")
	}
	cmd := exec.CommandContext(ctx, "git", append(base, args...)...)
	cmd.Dir = r.dir
	cmd.Env = []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(r.dir, "config"), "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_ALLOW_PROTOCOL=" + protocol, "GIT_SSH_COMMAND=ssh -oBatchMode=yes", "LC_ALL=C",
		// Temporary folders may lie in a checkout, whose configuration is not ours.
		"GIT_CEILING_DIRECTORIES=" + ceiling(r.dir),
	}
	for _, name := range []string{"PATH", "HOME", "SSH_AUTH_SOCK", "TMPDIR", "HTTPS_PROXY", "https_proxy", "http_proxy",
		"NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"} {
		if v, ok := os.LookupEnv(name); ok && !(r.anonymous && (name == "HOME" || name == "SSH_AUTH_SOCK")) {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if !r.anonymous {
		cmd.Env = append(cmd.Env, r.location.environment()...)
	}
	if r.anonymous { // nor Kerberos tickets, which lie beside HOME
		cmd.Env = append(cmd.Env, "HOME="+r.dir, "KRB5CCNAME=FILE:/dev/null")
	}
	// git starts helpers of its own: end the whole group, not only git.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// ceiling is the folders above one, in which git is not to look for a repository: as
// it is named, and where it is.
func ceiling(dir string) string {
	above := filepath.Dir(dir)
	if real, err := filepath.EvalSymlinks(above); err == nil && real != above {
		above += string(filepath.ListSeparator) + real
	}
	return above
}

// gitError is a git that failed, with what it said.
type gitError struct {
	step   string
	stderr string
}

func (e *gitError) Error() string { return e.step + ": " + e.cause() }

// cause is the one line of what git said that matters.
func (e *gitError) cause() string {
	said := "it failed without a message"
	for line := range strings.SplitSeq(e.stderr, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "fatal: ") || strings.HasPrefix(line, "error: ") || said == "it failed without a message" && line != "" {
			said = line
		}
		if strings.HasPrefix(line, "fatal: ") {
			break
		}
	}
	return "git: " + said[:min(len(said), 300)]
}

// run runs git and returns what it wrote, at most 1 MiB.
func (r *runner) run(ctx context.Context, step string, args ...string) ([]byte, error) {
	cmd := r.command(ctx, args...)
	stdout, stderr := &limitedBuffer{limit: maxOutput}, &limitedBuffer{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, r.explain(&gitError{step: step, stderr: stderr.String()})
	case stdout.over:
		return nil, fmt.Errorf("%s: git wrote more than %d bytes", step, maxOutput)
	}
	return stdout.Bytes(), nil
}

// explain gives a failure its kind: a server that does not answer is not the
// same as one that says no.
func (r *runner) explain(e *gitError) error {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(e.stderr, p) {
				return true
			}
		}
		return false
	}
	host := r.location.Host()
	switch {
	case has("Authentication failed", "could not read Username", "could not read Password", "Permission denied (publickey", "error: 401", "error: 403"):
		return fault.Hint(fmt.Errorf("%s: %s wants a login", e.step, host),
			"put the login for %s into ~/.netrc, or a token into the variable GIT_AUTH_TOKEN when that is SOURCE's server, else GIT_AUTH_TOKEN.%s; or clone the repository and give the path of the clone", host, host)
	case has("error: 301", "error: 302", "error: 307", "error: 308", "redirect"):
		return fault.Hint(fmt.Errorf("%s: %s answers with a redirect, which is not followed", e.step, host),
			"give the address that it leads to")
	case has("not found", "does not appear to be a git repository", "does not exist"):
		return fault.Hint(fmt.Errorf("%s: no git repository at %s", e.step, r.location), "check the path or URL")
	case has("Could not resolve host", "Failed to connect", "Connection refused", "Connection timed out", "unable to access",
		"Could not read from remote repository", "Connection reset", "hung up"):
		return fault.Unreachablef("%s: %s: %s", e.step, host, e.cause())
	}
	return e
}

// limitedBuffer keeps the first bytes and remembers that there were more.
type limitedBuffer struct {
	bytes.Buffer
	limit int
	over  bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); len(p) > room {
		b.over = true
		b.Buffer.Write(p[:room])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
