package key

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"golang.org/x/crypto/ssh"
)

func line(t *testing.T, public any) string {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(k))
}

// TestSSHPublic: the public half of a key that signs git's objects is a key of ours.
func TestSSHPublic(t *testing.T) {
	t.Parallel()
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	for _, public := range []any{ed, &ec.PublicKey} {
		text := line(t, public)
		for _, s := range []string{text, text[:len(text)-1], text[:len(text)-1] + " ann@example.com\n"} {
			got, err := parsePublic([]byte(s))
			if err != nil || Fingerprint(got) != Fingerprint(public) {
				t.Errorf("%q: %v %v", s, got, err)
			}
		}
	}
	ok := line(t, ed)
	certificate := &ssh.Certificate{Key: mustSSH(t, ed), CertType: ssh.UserCert}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	authority, err := ssh.NewSignerFromKey(private)
	if err == nil {
		err = certificate.SignCert(rand.Reader, authority)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"two keys": ok + ok, "options": "no-pty " + ok, "cut": ok[:len(ok)-10], "no key": "ssh-ed25519 ", "another kind": "ssh-ed25519" + line(t, &ec.PublicKey)[19:],
		"too short": line(t, &weak.PublicKey), "a certificate": string(ssh.MarshalAuthorizedKey(certificate)), "a principal before it": "ann " + ok,
	} {
		if got, err := parsePublic([]byte(s)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func mustSSH(t *testing.T, public any) ssh.PublicKey {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func FuzzSSHPublic(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxvY2tsb2NrbG9ja2xvY2tsb2NrbG9ja2xvY2tsb2Nr ann"))
	f.Add([]byte("ssh-rsa AAAA"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if public, err := parseSSHPublic(data); err == nil && Fingerprint(public) == "" {
			t.Fatalf("%q is a key without a fingerprint", data)
		}
	})
}
