package tagging_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/tagging"
)

// pinentry answers gpg-agent as somebody who types the password of the key (Assuan protocol).
const pinentry = `#!/bin/sh
echo "OK ready"
while read -r cmd rest; do case $cmd in GETPIN) echo "D x"; echo OK;; BYE) echo OK; exit;; *) echo OK;; esac; done
`

// TestMakeWithGpgsm: a tag that git has gpgsm sign, in CMS without any certificate in it
// that would verify it, by the key of the listed certificate.
func TestMakeWithGpgsm(t *testing.T) {
	desk(t)
	home, err := os.MkdirTemp("", "gpgsm") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader("x\n")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v (run make tools): %v\n%s", name, args, err, stderr.String())
		}
		return string(out)
	}
	cert, key, p12 := filepath.Join(home, "c.pem"), filepath.Join(home, "k.pem"), filepath.Join(home, "p.p12")
	run("openssl", "req", "-x509", "-nodes", "-subj", "/CN=release/emailAddress=r@example.com", "-newkey", "rsa:3072", "-days", "100", "-sha256",
		"-keyout", key, "-out", cert, "-addext", "keyUsage=critical,digitalSignature,nonRepudiation")
	run("openssl", "pkcs12", "-export", "-legacy", "-in", cert, "-inkey", key, "-out", p12, "-passout", "pass:x",
		"-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	file("gpg-agent.conf", "allow-loopback-pinentry\npinentry-program "+file("pinentry", pinentry, 0o700)+"\n", 0o600)
	file("gpgsm.conf", "disable-crl-checks\n", 0o600)
	run("gpgsm", "--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0", "--import", p12)
	_, fingerprint, _ := strings.Cut(run("gpgsm", "--list-keys", "--with-colons"), "\nfpr:::::::::")
	fingerprint, _, _ = strings.Cut(fingerprint, ":")
	file("trustlist.txt", fingerprint+" S relax\n", 0o600)
	run("gpgconf", "--kill", "gpg-agent")

	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	listed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	repo := gitrepo.New(t, "sha1")
	repo.Commit("first")
	for _, kv := range [][2]string{{"gpg.format", "x509"}, {"gpg.x509.program", "gpgsm"}, {"user.signingKey", fingerprint}} {
		repo.Git("config", kv[0], kv[1])
	}
	k := git.TagKey{Principal: "release", Kind: "x509", X509: listed}
	made, err := tagging.Make(context.Background(), tagging.Request{Clone: repo.Dir, Name: "v1", Repository: repositoryKey, Keys: []git.TagKey{k}})
	if err != nil {
		t.Fatal(err)
	}
	if made.Signer.Kind != "x509" || made.Tag.Signature.Kind != "x509" {
		t.Errorf("%+v", made.Signer)
	}
	verifies(t, repo, made, k)
	if _, err := git.Own(context.Background(), repo.Dir, nil, "verify-tag", "v1"); err != nil {
		t.Error(err)
	}
}
