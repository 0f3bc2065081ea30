package key_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]key.Kind{
		"release.key": key.KindFile, "./env://X": key.KindFile, "a:b": key.KindFile, "/x/pkcs11:y": key.KindFile, "c://x": key.KindFile,
		"PKCS11:x": key.KindFile, "env://X": key.KindEnv, "env:X": key.KindFile, "pkcs11:x": key.KindPKCS11, "pkcs11://x": key.KindPKCS11,
		"awskms://x": key.KindPlugin, "ssh-agent://x": key.KindAgent, "file:///x": key.KindPlugin,
	} {
		if got := key.KindOf(ref); got != want {
			t.Errorf("%s: %s", ref, got)
		}
	}
	for ref, want := range map[string]string{
		"pkcs11:token=a?pin-value=1234": "pkcs11:token=a?pin-value=…", "hsm://token=a?pin-value=1234&module-path=/x": "hsm://token=a?pin-value=…",
		"PKCS11:token=a?pin-value=1234": "PKCS11:token=a?pin-value=…", "/keys/Pkcs11:token=a?PIN-Value=1234": "/keys/Pkcs11:token=a?PIN-Value=…",
		"pkcs11:token=a?pin=1234": "pkcs11:token=a?pin=…", "pkcs11:token=a?pin%2dvalue=1234": "pkcs11:token=a?pin%2dvalue=…",
		"pkcs11:token=a?pin-value:1234": "pkcs11:token=a?pin-value…", "pkcs11:token=a;pinvalue=1234": "pkcs11:token=a;pinvalue=…",
		"pkcs11:token=a?pin-source=1234": "pkcs11:token=a?pin-source=…", "pkcs11:token=a?pin-source=file:/p&pin-value=1234": "pkcs11:token=a?pin-source=file:/p&pin-value=…",
		"pkcs11:token=a?pin-source=file:/p&module-path=/m": "pkcs11:token=a?pin-source=file:/p&module-path=/m",
		"./pin-value=1234": "./pin-value=…", "pin.key": "pin.key", "/run/pin-1/release.key": "/run/pin-1/release.key",
		"env://X": "env://X", "env://": "env://…", "env://A-B": "env://…", "env://1234": "env://…", "env://MHcCAQEEIA==": "env://…",
		"env://-----BEGIN": "env://…", "env://-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----": "env://…",
		"awskms://-----BEGIN PRIVATE KEY-----": "awskms://…", "ENV://-----BEGIN": "…", "-----BEGIN PRIVATE KEY-----\nMC4=": "…", "a\x1b[2J": "…",
	} {
		if got := key.Redact(ref); got != want {
			t.Errorf("%s is shown as %s", ref, got)
		}
	}
}

// TestReferencesThatLeadNowhere: each says what is wrong with it, in the place where it is.
func TestReferencesThatLeadNowhere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("EMPTY_KEY", " \n")
	t.Setenv("WRONG_KEY", "hunter2")
	for ref, why := range map[string]string{
		"":                                   "no such file",
		"env://":                             "is the name of an environment variable",
		"env://A-B":                          "is the name of an environment variable",
		"env://1A":                           "is the name of an environment variable",
		"env://-----BEGIN hunter2\nhunter2":  "is the name of an environment variable",
		"-----BEGIN hunter2\nhunter2":        "no such file",
		"PKCS11:token=a?pin-value=hunter2":   "no such file",
		"pkcs11:token=a?pin=hunter2":         `the attribute "pin" is not known`,
		"env://NO_SUCH_KEY":                  "the environment variable NO_SUCH_KEY is not set",
		"env://EMPTY_KEY":                    "EMPTY_KEY is empty",
		"env://WRONG_KEY":                    "does not start with a PEM block",
		"awskms://":                          "nothing follows awskms://",
		"awskms:///alias/x":                  "the program sigstore-kms-awskms was not found in /",
		"pkcs11:token=a":                     "the program sigstore-kms-pkcs11 was not found in /",
		"pkcs11://token=a":                   "no // after pkcs11:",
		"pkcs11:token=a;type=public":         "a public key cannot sign",
		"pkcs11:token=a;objekt=b":            `the attribute "objekt" is not known`,
		"pkcs11:token=a?pin-value=hunter2":   "is seen in lists of processes",
		"hsm://token=a?pin-value=hunter2":    "is seen in lists of processes",
		"ssh-agent://":                       "fingerprint or comment",
		"ssh-agent://x":                      "SSH_AUTH_SOCK is not set",
		"hsm://" + strings.Repeat("x", 5000): "more than 4096 bytes",
	} {
		_, _, err := key.Open(ref, nil)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "hunter2") || strings.Contains(fault.HintOf(err), "hunter2") {
			t.Errorf("%.60s: %v", ref, err)
		}
		if _, err := key.OpenPublic(ref); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.60s: is a public key, or its secret is shown: %v", ref, err)
		}
		if _, _, err := key.Load(ref, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.60s: %v", ref, err)
		}
	}
}

func TestKeyInAVariable(t *testing.T) {
	private, err := key.Generate("ecdsa-p384")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.EncryptCosign(private, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HALLMARK_TEST_KEY", string(sealed))
	t.Setenv("HALLMARK_TEST_PUB", string(public))
	opened, info, err := key.Open("env://HALLMARK_TEST_KEY", func(bool) ([]byte, error) { return []byte("secret"), nil })
	if err != nil || info.Kind != key.KindEnv || !info.Encrypted || info.Algorithm != "ecdsa-p384" {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := key.Try(opened, true); err != nil {
		t.Error(err)
	}
	if got, err := key.OpenPublic("env://HALLMARK_TEST_PUB"); err != nil || key.Fingerprint(got) != key.Fingerprint(private.Public()) {
		t.Errorf("%v", err)
	}
	if _, err := key.OpenPublic("env://HALLMARK_TEST_KEY"); err == nil || !strings.Contains(err.Error(), "a private key") {
		t.Errorf("%v", err)
	}
}

// theAgent serves keys by the agent protocol, and after swap signs with other ones.
func theAgent(t *testing.T, a agent.Agent) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = agent.ServeAgent(a, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
}

func TestKeysInAnAgent(t *testing.T) {
	ring := agent.NewKeyring()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"ed25519": ed, "ecdsa-p256": p256, "ecdsa-p384": p384, "rsa-2048": r}
	for name, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k, Comment: "my " + name}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: other, Comment: "twins"}); err != nil {
			t.Fatal(err)
		}
	}
	theAgent(t, ring)
	message := []byte("message")
	for name, k := range keys {
		blob, err := ssh.NewPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{"ssh-agent://my " + name, "ssh-agent://" + ssh.FingerprintSHA256(blob)} {
			s, info, err := key.Load(ref, nil)
			if err != nil || info.Algorithm != name || info.Kind != key.KindAgent || !s.Whole() {
				t.Fatalf("%s: %+v, %v", ref, info, err)
			}
			sig, err := s.Sign(message)
			if err != nil || key.Verify(k.Public(), message, sig) != nil {
				t.Errorf("%s: %v", ref, err)
			}
			if s.Hash() == 0 {
				continue
			}
			if _, err := s.SignDigest(make([]byte, s.Hash().Size())); err == nil || !strings.Contains(err.Error(), "whole messages") {
				t.Errorf("%s signs a digest: %v", ref, err)
			}
		}
	}
	s, _, err := key.Load("ssh-agent://my ed25519", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Prehashed(s).SignDigest(make([]byte, 64)); err == nil {
		t.Error("an agent made an Ed25519ph signature")
	}
	for ref, why := range map[string]string{"ssh-agent://nobody": "no such key", "ssh-agent://twins": "2 keys with this comment"} {
		if _, _, err := key.Load(ref, nil); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// swappedAgent signs with another key than it is asked for.
type swappedAgent struct {
	agent.ExtendedAgent
	with ssh.Signer
}

func (a swappedAgent) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.with.Sign(rand.Reader, data)
}

func TestAgentThatSignsWithAnotherKey(t *testing.T) {
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	for _, algorithm := range []string{"ecdsa-p256", "ed25519"} {
		k, err := key.Generate(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: k, Comment: algorithm}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with, err := ssh.NewSignerFromKey(other)
	if err != nil {
		t.Fatal(err)
	}
	theAgent(t, swappedAgent{ring, with})
	for _, algorithm := range []string{"ecdsa-p256", "ed25519"} {
		s, _, err := key.Load("ssh-agent://"+algorithm, nil)
		if err != nil {
			t.Fatal(err)
		}
		if sig, err := s.Sign([]byte("message")); err == nil || !strings.Contains(err.Error(), "thrown away") {
			t.Errorf("%s: %x, %v", algorithm, sig, err)
		}
	}
}

// TestPublicFile: a path is a path, also one that would be a reference elsewhere.
func TestPublicFile(t *testing.T) {
	private, err := key.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HALLMARK_TEST_PUB", string(public))
	t.Chdir(t.TempDir())
	if err := os.WriteFile("pkcs11:token=a", public, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := key.OpenPublicFile("pkcs11:token=a"); err != nil || key.Fingerprint(got) != key.Fingerprint(private.Public()) {
		t.Errorf("%v", err)
	}
	for _, path := range []string{"env://HALLMARK_TEST_PUB", "pkcs11:token=b", "none.pub"} {
		if _, err := key.OpenPublicFile(path); err == nil || !strings.Contains(err.Error(), path+": no such file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzRedact: no message shows what follows pin-value, nor a PEM block.
func FuzzRedact(f *testing.F) {
	f.Add("pkcs11:token=a?", "1234")
	f.Add("HSM://x;PIN-source=file:/x&", "a=b&c")
	f.Fuzz(func(t *testing.T, before, secret string) {
		for _, name := range []string{"pin-value=", "-----BEGIN "} {
			ref := before + name + secret
			if len(secret) < 4 || strings.Contains(before+name+"…", secret) { // it stands before, too, or reads on into the name
				continue
			}
			if shown := key.Redact(ref); strings.Contains(shown, secret) {
				t.Errorf("%q is shown as %q", ref, shown)
			}
		}
	})
}
