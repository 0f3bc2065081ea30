// Package gitrepo makes real git repositories, keys and signed tags for tests,
// with the machine's own git, ssh-keygen and gpg. For tests only.
package gitrepo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Repo is a repository with a work tree, in a folder of the test.
type Repo struct {
	Dir string
	t   testing.TB
}

// Key is an SSH key of ssh-keygen.
type Key struct {
	Path   string // private key file
	Public string // "type base64", without comment
}

// Env is the environment of every tool run here: nobody's configuration.
func Env() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ann Author", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_AUTHOR_DATE=1700000000 +0100",
		"GIT_COMMITTER_NAME=Carl Committer", "GIT_COMMITTER_EMAIL=carl@example.com", "GIT_COMMITTER_DATE=1700000000 +0100",
		"LC_ALL=C",
	}
}

// New makes an empty repository; format is "sha1" or "sha256".
func New(t testing.TB, format string) *Repo {
	t.Helper()
	r := &Repo{Dir: t.TempDir(), t: t}
	r.Git("init", "--quiet", "--initial-branch=main", "--object-format="+format)
	return r
}

// Git runs git in the repository and returns what it printed, trimmed.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	out, err := r.Try(nil, args...)
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs git with some input and returns output and error joined as they came.
func (r *Repo) Try(stdin []byte, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env, cmd.Stdin = r.Dir, Env(), bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Write puts a file into the work tree and the index.
func (r *Repo) Write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.Git("add", "--", name)
}

// Commit commits the index and returns the commit's id.
func (r *Repo) Commit(message string) string {
	r.t.Helper()
	r.Git("commit", "--quiet", "--allow-empty", "-m", message)
	return r.Git("rev-parse", "HEAD")
}

// SignTag makes an annotated tag of target signed with key and returns its id.
func (r *Repo) SignTag(key Key, name, target string) string {
	r.t.Helper()
	r.Git("-c", "gpg.format=ssh", "-c", "user.signingKey="+key.Path, "tag", "-s", "-m", "release "+name, name, target)
	return r.Git("rev-parse", "refs/tags/"+name)
}

// Object writes an object byte for byte, whatever git thinks of it, and
// returns its id.
func (r *Repo) Object(kind string, raw []byte) string {
	r.t.Helper()
	out, err := r.Try(raw, "hash-object", "-w", "--literally", "-t", kind, "--stdin")
	if err != nil {
		r.t.Fatalf("hash-object: %v\n%s", err, out)
	}
	return out
}

// Raw is the content of an object.
func (r *Repo) Raw(kind, id string) []byte {
	r.t.Helper()
	cmd := exec.Command("git", "cat-file", kind, id)
	cmd.Dir, cmd.Env = r.Dir, Env()
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("cat-file %s %s: %v", kind, id, err)
	}
	return out
}

// SetRef makes a ref point to an object that git itself would not put there.
func (r *Repo) SetRef(ref, id string) {
	r.t.Helper()
	path := filepath.Join(r.Dir, ".git", filepath.FromSlash(ref))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// NewKey makes an SSH key without passphrase; kind and bits as for ssh-keygen
// ("ed25519", "ecdsa", "rsa"; 0 bits for its default).
func NewKey(t testing.TB, kind string, bits int) Key {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	args := []string{"-q", "-t", kind, "-N", "", "-C", "", "-f", path}
	if bits != 0 {
		args = append(args, "-b", fmt.Sprint(bits))
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen (from openssh-client, run make tools): %v\n%s", err, out)
	}
	pub, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return Key{Path: path, Public: strings.TrimSpace(string(pub))}
}

// Sign makes an armored SSHSIG over data with a namespace and hash.
func (k Key) Sign(t testing.TB, data []byte, namespace, hash string) []byte {
	t.Helper()
	cmd := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-O", "hashalg="+hash, "-f", k.Path)
	cmd.Stdin = bytes.NewReader(data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v\n%s", err, stderr.String())
	}
	return out
}
