package sshsigner_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
	"github.com/hallmark-dev/hallmark/internal/hmtest/sshagent"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

func fingerprint(t testing.TB, public string) string {
	t.Helper()
	return ssh.FingerprintSHA256(parse(t, public))
}

func parse(t testing.TB, public string) ssh.PublicKey {
	t.Helper()
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// check signs with a signer, and has ssh-keygen verify what it signed.
func check(t testing.TB, s *sshsigner.Signer, public string) {
	t.Helper()
	message := []byte("what is approved")
	blob, err := s.SSHSIG(message, "hallmark-approval")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	list, sig := filepath.Join(dir, "list"), filepath.Join(dir, "sig")
	armored := sshsigner.Armor(blob)
	if back, err := sshsignature.Unarmor(armored); err != nil || !bytes.Equal(back, blob) {
		t.Error(err)
	}
	for path, data := range map[string][]byte{list: []byte("alice " + public + "\n"), sig: armored} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", list, "-I", "alice", "-n", "hallmark-approval", "-s", sig)
	cmd.Stdin = bytes.NewReader(message)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen -Y verify: %v\n%s", err, out)
	}
}

// TestSigners: keys in files, open and locked, in an agent, and in a token behind one. It
// sets SSH_AUTH_SOCK, so that it is not parallel.
func TestSigners(t *testing.T) {
	tokens := softhsm.Make(t.TempDir(), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	tokens.Init("release")
	tokens.Import("release", "p256", "01", "P-256")
	tokens.Import("release", "p384", "02", "P-384")
	tokens.Import("release", "rsa", "03", "rsa:3072")
	a := sshagent.Start(t, "SOFTHSM2_CONF="+tokens.Conf)
	a.AddToken(tokens)
	fromToken := a.Keys()
	if len(fromToken) != 3 {
		t.Fatal(fromToken)
	}
	ed, rsa, locked, outside := gitrepo.NewKey(t, "ed25519", 0), gitrepo.NewKey(t, "rsa", 3072), gitrepo.NewKey(t, "ecdsa", 384), gitrepo.NewKey(t, "ed25519", 0)
	a.Add(ed.Path)
	a.Add(rsa.Path)
	if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", locked.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	t.Setenv("SSH_AUTH_SOCK", "")
	for _, ref := range []string{"", "SHA256:x", ed.Path + ".pub"} {
		if _, err := sshsigner.Open(ref, nil); fault.KindOf(err) != fault.Usage {
			t.Errorf("without an agent %q: %v", ref, err)
		}
	}
	if s, err := sshsigner.Find([]ssh.PublicKey{parse(t, ed.Public)}); s != nil || err != nil {
		t.Error(s, err)
	}
	ok := func(ref, public, where string, password func() ([]byte, error)) {
		t.Helper()
		s, err := sshsigner.Open(ref, password)
		if err != nil {
			t.Fatal(ref, err)
		}
		defer s.Close()
		if s.Where != where || ssh.FingerprintSHA256(s.PublicKey()) != fingerprint(t, public) {
			t.Errorf("%s: %s in %s", ref, ssh.FingerprintSHA256(s.PublicKey()), s.Where)
		}
		check(t, s, public)
	}
	ok(outside.Path, outside.Public, outside.Path, nil)
	ok(rsa.Path, rsa.Public, rsa.Path, nil)
	ok(locked.Path, locked.Public, locked.Path, func() ([]byte, error) { return []byte("secret words"), nil })

	t.Setenv("SSH_AUTH_SOCK", a.Socket)
	for _, k := range append([]string{ed.Public, rsa.Public}, fromToken...) {
		ok(fingerprint(t, k), k, "ssh-agent", nil)
	}
	ok(rsa.Path+".pub", rsa.Public, "ssh-agent", nil)
	s, err := sshsigner.Find([]ssh.PublicKey{parse(t, outside.Public), parse(t, fromToken[0])})
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	check(t, s, fromToken[0])
	s.Close()
	if s, err := sshsigner.Find([]ssh.PublicKey{parse(t, outside.Public)}); s != nil || err != nil {
		t.Error(s, err)
	}

	weak := gitrepo.NewKey(t, "rsa", 2048)
	if s, err := sshsigner.Open(weak.Path, nil); err != nil {
		t.Error(err)
	} else if _, err := s.SSHSIG([]byte("x"), "git"); err == nil || !strings.Contains(err.Error(), "3072") {
		t.Error(err)
	}
	for ref, say := range map[string]string{
		"": "has 5", "SHA256:nothing": "does not have it", "no such comment": "does not have it", "./nothing": "no such key file",
		outside.Path + ".pub": "does not have it", locked.Path: "locked", t.TempDir(): "", "/dev/null": "no key file",
	} {
		_, err := sshsigner.Open(ref, nil)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	stop := errors.New("no")
	if _, err := sshsigner.Open(locked.Path, func() ([]byte, error) { return nil, stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if _, err := sshsigner.Open(locked.Path, func() ([]byte, error) { return []byte("wrong"), nil }); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	a.Add(outside.Path)
	if s, err := sshsigner.Open(outside.Path+".pub", nil); err != nil {
		t.Error(err)
	} else {
		check(t, s, outside.Public)
		s.Close()
	}
}
