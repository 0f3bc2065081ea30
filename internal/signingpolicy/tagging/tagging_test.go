package tagging_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
	"github.com/hallmark-dev/hallmark/internal/hmtest/sshagent"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/tagging"
)

const repositoryKey = "github.com/id/123456"

var policyDigest = "sha256:" + strings.Repeat("0f", 32)

// desk is a person's environment: git's own of the test, and no other. It sets variables,
// so that tests with it are not parallel.
func desk(t *testing.T) {
	t.Helper()
	for _, kv := range gitrepo.Env() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	t.Setenv("SSH_AUTH_SOCK", "")
}

func tagKey(t testing.TB, public ssh.PublicKey) git.TagKey {
	return git.TagKey{Principal: "release", Kind: "ssh", SSH: public}
}

// verifies checks a made tag as the gate does and as git does.
func verifies(t testing.TB, repo *gitrepo.Repo, made *tagging.Made, key git.TagKey) {
	t.Helper()
	signer, why := git.VerifyTag(made.Tag, made.Ref, []git.TagKey{key}, time.Now())
	if why != nil || signer.Principal != "release" {
		t.Fatal(signer, why)
	}
	if !bytes.Equal(repo.Raw("tag", made.Ref), made.Raw) || repo.Git("rev-parse", made.Ref) != made.ID || repo.Git("rev-parse", made.Ref+"^{commit}") != made.Commit {
		t.Error("the repository has another tag")
	}
	if key.SSH == nil {
		return
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, append([]byte("release "), ssh.MarshalAuthorizedKey(key.SSH)...), 0o600); err != nil {
		t.Fatal(err)
	}
	repo.Git("-c", "gpg.ssh.allowedSignersFile="+list, "verify-tag", made.Ref)
}

// TestMake: tags by keys of a file and of tokens behind an agent, in both formats of
// repositories, which we and git verify.
func TestMake(t *testing.T) {
	desk(t)
	tokens := softhsm.Make(t.TempDir(), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	tokens.Init("release")
	tokens.Import("release", "p256", "01", "P-256")
	tokens.Import("release", "rsa", "02", "rsa:3072")
	a := sshagent.Start(t, "SOFTHSM2_CONF="+tokens.Conf)
	a.AddToken(tokens)
	t.Setenv("SSH_AUTH_SOCK", a.Socket)
	refs := []string{gitrepo.NewKey(t, "ed25519", 0).Path}
	for _, k := range a.Keys() {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ssh.FingerprintSHA256(public))
	}
	for _, format := range []string{"sha1", "sha256"} {
		repo := gitrepo.New(t, format)
		repo.Write("Dockerfile", "FROM scratch\n")
		commit := repo.Commit("first")
		for i, ref := range refs {
			s, err := sshsigner.Open(ref, nil)
			if err != nil {
				t.Fatal(err)
			}
			name := "v1.0." + string(rune('0'+i))
			made, err := tagging.Make(context.Background(), tagging.Request{Clone: repo.Dir, Name: name, Message: "Release\n\nof many things\n\n",
				Repository: repositoryKey, Policy: policyDigest, Signer: s, Keys: []git.TagKey{tagKey(t, s.PublicKey())}})
			if err != nil {
				t.Fatal(format, ref, err)
			}
			if made.Commit != commit || made.Signer.Principal != "release" || made.Tag.Message != "Release\n\nof many things\n\nHallmark-Repository: "+repositoryKey+"\nHallmark-Policy: "+policyDigest+"\n" {
				t.Errorf("%+v %q", made, made.Tag.Message)
			}
			if ok, why := made.Tag.OfRepository(repositoryKey); !ok || why != nil {
				t.Error(ok, why)
			}
			verifies(t, repo, made, tagKey(t, s.PublicKey()))
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		repo.Git("fsck", "--strict")
	}
}

// TestMakeByGit: what git itself signs, with gpg, gpgsm and ssh-keygen.
func TestMakeByGit(t *testing.T) {
	desk(t)
	home, err := os.MkdirTemp("", "gpg") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	run := func(stdin string, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.String())
		}
		return string(out)
	}
	run("", "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "Release <r@example.com>", "ed25519", "sign", "never")
	pgp := git.TagKey{Principal: "release", Kind: "openpgp", OpenPGP: run("", "gpg", "--batch", "--armor", "--export")}
	repo := gitrepo.New(t, "sha1")
	repo.Commit("first")
	want := tagging.Request{Clone: repo.Dir, Name: "v1", Repository: repositoryKey, Keys: []git.TagKey{pgp}}
	if _, err := tagging.Make(context.Background(), want); err == nil {
		t.Error("signed by nobody")
	}
	repo.Git("config", "user.signingKey", "r@example.com")
	made, err := tagging.Make(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	verifies(t, repo, made, pgp)
	if made.Tag.Signature.Kind != "openpgp" || made.Tag.Message != "v1\n\nHallmark-Repository: "+repositoryKey+"\n" {
		t.Errorf("%+v", made.Tag)
	}
	key := gitrepo.NewKey(t, "ed25519", 0)
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	repo.Git("config", "gpg.format", "ssh")
	repo.Git("config", "user.signingKey", key.Path)
	want.Name, want.Message = "v2", "# not a comment\n\n\n\nand spaces  "
	// The policy lists another key: the tag is not kept.
	if _, err := tagging.Make(context.Background(), want); err == nil || !strings.Contains(err.Error(), "TAG_SIGNER") {
		t.Error(err)
	}
	if out := repo.Git("tag", "-l", "v2"); out != "" {
		t.Error("the tag was kept")
	}
	want.Keys = nil
	if made, err = tagging.Make(context.Background(), want); err != nil {
		t.Fatal(err)
	}
	verifies(t, repo, made, tagKey(t, public))
	if made.Signer != nil || !strings.HasPrefix(made.Tag.Message, "# not a comment\n\n\n\nand spaces\n\nHallmark-") {
		t.Errorf("%+v %q", made.Signer, made.Tag.Message)
	}
}

// TestMakeRefuses what should not be tagged; nothing is left behind.
func TestMakeRefuses(t *testing.T) {
	desk(t)
	key := gitrepo.NewKey(t, "ed25519", 0)
	s, err := sshsigner.Open(key.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, _, _, err := ssh.ParseAuthorizedKey([]byte(gitrepo.NewKey(t, "ed25519", 0).Public))
	if err != nil {
		t.Fatal(err)
	}
	repo := gitrepo.New(t, "sha1")
	make1 := func(change func(*tagging.Request)) error {
		want := tagging.Request{Clone: repo.Dir, Name: "v1", Repository: repositoryKey, Signer: s}
		change(&want)
		_, err := tagging.Make(context.Background(), want)
		return err
	}
	if err := make1(func(*tagging.Request) {}); fault.KindOf(err) != fault.Usage {
		t.Error("an empty repository:", err)
	}
	repo.Write("file", "1\n")
	repo.Commit("first")
	repo.Git("tag", "old")
	for name, change := range map[string]func(*tagging.Request){
		"a tag that is there":  func(w *tagging.Request) { w.Name = "old" },
		"an empty name":        func(w *tagging.Request) { w.Name = "" },
		"dots":                 func(w *tagging.Request) { w.Name = "v1..2" },
		"an option":            func(w *tagging.Request) { w.Name = "-f" },
		"a lock":               func(w *tagging.Request) { w.Name = "v1.lock" },
		"a space":              func(w *tagging.Request) { w.Name = "v 1" },
		"a line feed":          func(w *tagging.Request) { w.Name = "v1\ntag v2" },
		"a tree":               func(w *tagging.Request) { w.Target = "HEAD^{tree}" },
		"nothing":              func(w *tagging.Request) { w.Target = "nothing" },
		"an option as target":  func(w *tagging.Request) { w.Target = "--all" },
		"another trailer":      func(w *tagging.Request) { w.Message = "x\n\nHallmark-Repository: github.com/id/1" },
		"a trailer of its own": func(w *tagging.Request) { w.Message, w.Repository = "x\n\nHallmark-Repository: github.com/id/1", "" },
		"a name as repository": func(w *tagging.Request) { w.Repository = "github.com/org/app" },
		"two lines":            func(w *tagging.Request) { w.Repository = "github.com/id/1\nHallmark-Policy: " + policyDigest },
		"a short digest":       func(w *tagging.Request) { w.Policy = "sha256:0f" },
	} {
		if err := make1(change); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*tagging.Request){
		"a signature in the message": func(w *tagging.Request) { w.Message = "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----" },
		"a control character":        func(w *tagging.Request) { w.Message = "x\x1b[2Jy" },
		"a key that is not listed":   func(w *tagging.Request) { w.Keys = []git.TagKey{tagKey(t, other)} },
		"below a tag":                func(w *tagging.Request) { w.Name = "old/1" },
	} {
		if err := make1(change); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if err := os.WriteFile(filepath.Join(repo.Dir, "file"), []byte("2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := make1(func(*tagging.Request) {}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "changed") {
		t.Error("a changed file:", err)
	}
	if out := repo.Git("tag", "-l"); out != "old" {
		t.Error(out)
	}
	if err := make1(func(w *tagging.Request) { w.Target = "main" }); err != nil {
		t.Error("a named commit:", err)
	}
	if err := make1(func(w *tagging.Request) { w.Name, w.AllowDirty = "v2", true }); err != nil {
		t.Error("though changed:", err)
	}
}

func TestPush(t *testing.T) {
	desk(t)
	origin, clone := gitrepo.New(t, "sha1"), filepath.Join(t.TempDir(), "clone")
	origin.Commit("first")
	origin.Git("clone", "-q", origin.Dir, clone)
	s, err := sshsigner.Open(gitrepo.NewKey(t, "ed25519", 0).Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tagging.Make(context.Background(), tagging.Request{Clone: clone, Name: "v1", Signer: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Push(context.Background(), clone, "--force"); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	if err := made.Push(context.Background(), clone, "origin"); err != nil || origin.Git("rev-parse", "v1") != made.ID {
		t.Error(err)
	}
}
