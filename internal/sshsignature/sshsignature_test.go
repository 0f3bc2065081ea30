package sshsignature_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

const (
	namespace = "hallmark-approval"
	minRSA    = 3072
)

var message = []byte("what is signed")

// TestSSHKeygen: what ssh-keygen signs is accepted, and its neighbours are not.
func TestSSHKeygen(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]gitrepo.Key{
		"ed25519": gitrepo.NewKey(t, "ed25519", 0), "ecdsa": gitrepo.NewKey(t, "ecdsa", 384), "rsa": gitrepo.NewKey(t, "rsa", 3072),
	} {
		for _, hash := range []string{"sha256", "sha512"} {
			blob, err := sshsignature.Unarmor(key.Sign(t, message, namespace, hash))
			if err != nil {
				t.Fatal(name, err)
			}
			s, err := sshsignature.Parse(blob)
			if err != nil {
				t.Fatal(name, err)
			}
			if err := s.Verify(message, namespace, minRSA); err != nil || s.SecurityKey || s.Verified {
				t.Errorf("%s: %v", name, err)
			}
			if got := sshsignature.ClaimedKey(blob); got != ssh.FingerprintSHA256(s.Key) {
				t.Errorf("%s claims %s", name, got)
			}
			if err := s.Verify(append(message[:len(message):len(message)], '.'), namespace, minRSA); sshsignature.ProblemOf(err) != sshsignature.Unverified {
				t.Errorf("%s, another message: %v", name, err)
			}
			if err := s.Verify(message, "git", minRSA); sshsignature.ProblemOf(err) != sshsignature.OtherPurpose {
				t.Errorf("%s, another namespace: %v", name, err)
			}
			for i := range blob { // a flipped bit anywhere
				flipped := bytes.Clone(blob)
				flipped[i] ^= 1
				if s, err := sshsignature.Parse(flipped); err == nil && s.Verify(message, namespace, minRSA) == nil {
					t.Fatalf("%s: byte %d may be another", name, i)
				}
			}
		}
	}
	weak := gitrepo.NewKey(t, "rsa", 2048)
	blob, _ := sshsignature.Unarmor(weak.Sign(t, message, namespace, "sha512"))
	s, err := sshsignature.Parse(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(message, namespace, minRSA); sshsignature.ProblemOf(err) != sshsignature.TooWeak {
		t.Error(err)
	}
	if err := s.Verify(message, namespace, 2048); err != nil {
		t.Error(err)
	}
}

// securityKey is the blob of PROTOCOL.sshsig's, with a signature by a security key in software.
func securityKey(flags byte, change func(sig *ssh.Signature)) []byte {
	_, priv, _ := ed25519.GenerateKey(nil)
	public := ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, priv.Public().(ed25519.PublicKey), "ssh:"})
	sum := sha512.Sum512(message)
	signed := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Sum                       []byte
	}{namespace, "", "sha512", sum[:]})...)
	app, data, rest := sha256.Sum256([]byte("ssh:")), sha256.Sum256(signed), []byte{flags, 0, 0, 0, 7}
	sig := ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(priv, bytes.Join([][]byte{app[:], rest, data[:]}, nil)), Rest: rest}
	if change != nil {
		change(&sig)
	}
	return append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Sig                       []byte
	}{1, public, namespace, "", "sha512", ssh.Marshal(sig)})...)
}

func TestSecurityKeys(t *testing.T) {
	t.Parallel()
	for flags, verified := range map[byte]bool{1: false, 5: true} {
		s, err := sshsignature.Parse(securityKey(flags, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(message, namespace, minRSA); err != nil || !s.SecurityKey || s.Verified != verified {
			t.Errorf("flags %d: %+v, %v", flags, s, err)
		}
	}
	for _, flags := range []byte{0, 4} { // OpenSSH's own verifier calls these good
		if _, err := sshsignature.Parse(securityKey(flags, nil)); sshsignature.ProblemOf(err) != sshsignature.NotTouched {
			t.Errorf("flags %d: %v", flags, err)
		}
	}
	for _, rest := range [][]byte{nil, {1}, {1, 0, 0, 0}, {1, 0, 0, 0, 7, 0}} {
		blob := securityKey(1, func(s *ssh.Signature) { s.Rest = rest })
		if _, err := sshsignature.Parse(blob); sshsignature.ProblemOf(err) != sshsignature.Malformed {
			t.Errorf("%v: %v", rest, err)
		}
	}
	untouched := securityKey(0, func(s *ssh.Signature) { s.Rest[0] = 1 }) // the flag is signed
	if s, err := sshsignature.Parse(untouched); err != nil || sshsignature.ProblemOf(s.Verify(message, namespace, minRSA)) != sshsignature.Unverified {
		t.Error(err)
	}
}

func TestUnarmor(t *testing.T) {
	t.Parallel()
	good := string(gitrepo.NewKey(t, "ed25519", 0).Sign(t, message, namespace, "sha512"))
	for name, bad := range map[string]string{
		"nothing": "", "no end": strings.TrimSuffix(good, "-----END SSH SIGNATURE-----\n"), "text before": "x\n" + good, "text behind": good + "x\n",
		"a blank line": strings.Replace(good, "\n", "\n\n", 1), "a header": strings.Replace(good, "\n", "\nComment: x\n", 1),
		"CRLF": strings.ReplaceAll(good, "\n", "\r\n"), "no padding": strings.ReplaceAll(good, "=", ""), "no newline": strings.TrimSuffix(good, "\n"),
		"one long line": "-----BEGIN SSH SIGNATURE-----\n" + strings.Repeat("A", 200) + "\n-----END SSH SIGNATURE-----\n",
		"another block": strings.ReplaceAll(good, "SSH SIGNATURE", "PGP SIGNATURE"),
	} {
		if _, err := sshsignature.Unarmor([]byte(bad)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "U1NIU0lH"} {
		blob, _ := base64.StdEncoding.DecodeString(text)
		f.Add(blob)
	}
	f.Add(securityKey(1, nil))
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, err := sshsignature.Parse(blob)
		switch {
		case err == nil && s.Verify([]byte("never signed by anybody"), namespace, minRSA) == nil:
			t.Error("verified")
		case err != nil && sshsignature.ProblemOf(err) == 0:
			t.Errorf("%v has no problem", err)
		}
	})
}

// TestSign: ssh-keygen verifies what is made, which has ssh-keygen's one encoding.
func TestSign(t *testing.T) {
	t.Parallel()
	for _, key := range []gitrepo.Key{gitrepo.NewKey(t, "ed25519", 0), gitrepo.NewKey(t, "ecdsa", 256), gitrepo.NewKey(t, "rsa", 3072)} {
		data, err := os.ReadFile(key.Path)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(data)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := sshsignature.Sign(message, namespace, signer, minRSA)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := sshsignature.Parse(blob); err != nil || s.Verify(message, namespace, minRSA) != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(gitrepo.NewKey(t, "rsa", 2048).Path)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sshsignature.Sign(message, namespace, weak, minRSA); err == nil {
		t.Error("a short key signs")
	}
}
