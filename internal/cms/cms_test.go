package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cms"
)

var content = []byte("what is signed\n")

// person is a self-signed certificate with its key, as openssl makes them.
type person struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func newPerson(t testing.TB, algorithm ...string) person {
	t.Helper()
	p := person{dir: t.TempDir()}
	run(t, p.dir, "openssl", append([]string{"genpkey", "-out", "key.pem", "-algorithm"}, algorithm...)...)
	run(t, p.dir, "openssl", "req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=Alice", "-days", "30", "-out", "cert.pem")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		return block.Bytes
	}
	var err error
	if p.cert, err = x509.ParseCertificate(read("cert.pem")); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(read("key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p.key = key.(crypto.Signer)
	return p
}

func (p person) sign(t testing.TB, options ...string) []byte {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"cms", "-sign", "-binary", "-in", "content", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "sig"}
	run(t, p.dir, "openssl", append(args, options...)...)
	data, err := os.ReadFile(filepath.Join(p.dir, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var (
	p256    = []string{"EC", "-pkeyopt", "ec_paramgen_curve:P-256"}
	p384    = []string{"EC", "-pkeyopt", "ec_paramgen_curve:P-384"}
	rsa3072 = []string{"RSA", "-pkeyopt", "rsa_keygen_bits:3072"}
	rsa2048 = []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2048"}
)

// TestOpenSSL: what openssl cms signs is accepted, and nothing near it.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key     []string
		options []string
		want    cms.Problem
	}{
		"RSA":                 {rsa3072, nil, 0},
		"RSA, SHA-384":        {rsa3072, []string{"-md", "sha384"}, 0},
		"P-256":               {p256, nil, 0},
		"P-384, SHA-512":      {p384, []string{"-md", "sha512"}, 0},
		"without certificate": {p256, []string{"-nocerts"}, 0},
		"by key id":           {p256, []string{"-keyid"}, 0},
		"CAdES":               {p256, []string{"-cades"}, 0},
		"no attributes":       {p256, []string{"-noattr"}, cms.Malformed},
		"not detached":        {p256, []string{"-nodetach"}, cms.Malformed},
		"streamed":            {p256, []string{"-nodetach", "-stream"}, cms.Malformed},
		"SHA-1":               {p256, []string{"-md", "sha1"}, cms.TooWeak},
		"MD5":                 {rsa3072, []string{"-md", "md5"}, cms.TooWeak},
		"SHA-224":             {p256, []string{"-md", "sha224"}, cms.Kind},
		"RSA-2048":            {rsa2048, nil, cms.TooWeak},
		"RSA-PSS":             {rsa3072, []string{"-keyopt", "rsa_padding_mode:pss"}, cms.Kind},
		"an attribute twice":  {p256, []string{"-econtent_type", "1.2.3.4"}, cms.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPerson(t, c.key...)
			sig := p.sign(t, c.options...)
			got, err := cms.Verify(sig, content, []*x509.Certificate{p.cert})
			if cms.ProblemOf(err) != c.want || (err == nil) != (c.want == 0) {
				t.Fatalf("%v, want problem %d", err, c.want)
			}
			if c.want != 0 {
				return
			}
			if got.Certificate != p.cert || time.Since(got.SigningTime).Abs() > 24*time.Hour || !strings.HasPrefix(got.Hash, "sha") {
				t.Errorf("%+v", got)
			}
			if _, err := cms.Verify(sig, append(content[:len(content):len(content)], '\n'), []*x509.Certificate{p.cert}); cms.ProblemOf(err) != cms.Unverified {
				t.Errorf("other content: %v", err)
			}
			if _, err := cms.Verify(sig, content, nil); cms.ProblemOf(err) != cms.Unknown {
				t.Errorf("no certificate: %v", err)
			}
			if _, err := cms.Verify(append(sig, 0), content, []*x509.Certificate{p.cert}); cms.ProblemOf(err) != cms.Malformed {
				t.Errorf("a byte behind it: %v", err)
			}
			stranger := newPerson(t, c.key...)
			if _, err := cms.Verify(sig, content, []*x509.Certificate{stranger.cert}); err == nil {
				t.Error("another key with the same name is taken")
			}
			if got, err := cms.Verify(sig, content, []*x509.Certificate{stranger.cert, p.cert}); err != nil || got.Certificate != p.cert {
				t.Errorf("of two: %v", err)
			}
		})
	}
}

// TestSameNameOtherKey is a certificate with the listed one's issuer and serial number, embedded
// in the signature: the listed key counts alone.
func TestSameNameOtherKey(t *testing.T) {
	t.Parallel()
	alice, mallory := newPerson(t, p256...), newPerson(t, p256...)
	run(t, mallory.dir, "openssl", "req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=Alice", "-days", "30",
		"-set_serial", alice.cert.SerialNumber.String(), "-out", "cert.pem")
	sig := mallory.sign(t)
	if _, err := cms.Verify(sig, content, []*x509.Certificate{alice.cert}); cms.ProblemOf(err) != cms.Unverified {
		t.Error(err)
	}
	// The other way round: a listed key in a certificate of another name counts.
	run(t, alice.dir, "openssl", "req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=Somebody", "-days", "30", "-out", "cert.pem")
	if got, err := cms.Verify(alice.sign(t), content, []*x509.Certificate{alice.cert}); err != nil || got.Certificate != alice.cert {
		t.Error(err)
	}
	if a, b := cms.SPKI(alice.cert), cms.SPKI(mallory.cert); a == b || len(a) != len("sha256:")+64 {
		t.Error(a, b)
	}
}

func TestTwoSigners(t *testing.T) {
	t.Parallel()
	alice, bob := newPerson(t, p256...), newPerson(t, p256...)
	sig := alice.sign(t, "-signer", filepath.Join(bob.dir, "cert.pem"), "-inkey", filepath.Join(bob.dir, "key.pem"))
	if _, err := cms.Verify(sig, content, []*x509.Certificate{alice.cert, bob.cert}); cms.ProblemOf(err) != cms.Malformed {
		t.Error(err)
	}
}

// TestGPGSM: gpgsm writes indefinite lengths, and no self-signed certificate.
func TestGPGSM(t *testing.T) {
	t.Parallel()
	p := newPerson(t, rsa3072...)
	home, err := os.MkdirTemp("", "gpgsm") // its agent's socket has a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(home)
	})
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("allow-loopback-pinentry\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, p.dir, "openssl", "pkcs12", "-export", "-legacy", "-inkey", "key.pem", "-in", "cert.pem", "-passout", "pass:x", "-out", "p12")
	gpgsm := func(args ...string) {
		t.Helper()
		cmd := exec.Command("gpgsm", append([]string{"--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0", "--disable-crl-checks"}, args...)...)
		cmd.Dir, cmd.Stdin = p.dir, strings.NewReader("x\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gpgsm %v: %v\n%s", args, err, out)
		}
	}
	gpgsm("--import", "p12")
	if err := os.WriteFile(filepath.Join(p.dir, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("gpgsm", "--homedir", home, "--list-keys", "--with-colons").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), "\nfpr:::::::::")
	fpr, _, _ := strings.Cut(rest, ":")
	if err := os.WriteFile(filepath.Join(home, "trustlist.txt"), []byte(fpr+" S relax\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run(); err != nil {
		t.Fatal(err)
	}
	for _, armor := range []bool{false, true} {
		args := []string{"-u", fpr, "--yes", "--detach-sign", "--output", "sig", "content"}
		if armor {
			args = append([]string{"--armor"}, args...)
		}
		gpgsm(args...)
		sig, err := os.ReadFile(filepath.Join(p.dir, "sig"))
		if err != nil {
			t.Fatal(err)
		}
		if armor {
			if sig, err = cms.Unarmor(sig); err != nil {
				t.Fatal(err)
			}
		}
		if sig[1] != 0x80 {
			t.Error("this gpgsm writes definite lengths: the test tests nothing")
		}
		if _, err := cms.Verify(sig, content, []*x509.Certificate{p.cert}); err != nil {
			t.Error(err)
		}
		flips(t, sig, p.cert)
	}
}

// flips: no signature with another byte is one over other content, or by somebody else; that
// it still is one over this content can be (nobody signs the certificates in it).
func flips(t *testing.T, sig []byte, cert *x509.Certificate) {
	t.Helper()
	other := []byte("something else\n")
	for i := range sig {
		for _, bit := range []byte{1, 0x20, 0x80} {
			flipped := bytes.Clone(sig)
			flipped[i] ^= bit
			if _, err := cms.Verify(flipped, other, []*x509.Certificate{cert}); err == nil {
				t.Fatalf("byte %d: another content is taken", i)
			}
		}
	}
}

// TestSign: openssl verifies what we sign, and so do we.
func TestSign(t *testing.T) {
	t.Parallel()
	for _, algorithm := range [][]string{p256, p384, rsa3072, {"ED25519"}} {
		p := newPerson(t, algorithm...)
		at := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
		sig, err := cms.Sign(content, p.cert, p.key, at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cms.Verify(sig, content, []*x509.Certificate{p.cert})
		if err != nil || !got.SigningTime.Equal(at) {
			t.Fatalf("%+v %v", got, err)
		}
		for name, data := range map[string][]byte{"sig": sig, "content": content} {
			if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if algorithm[0] != "ED25519" { // which OpenSSL 3.0 has not in CMS
			run(t, p.dir, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "sig", "-content", "content", "-certfile", "cert.pem", "-CAfile", "cert.pem", "-purpose", "any", "-out", os.DevNull)
		}
		flips(t, sig, p.cert)
		if _, err := cms.Sign(content, p.cert, newPerson(t, p256...).key, at); err == nil {
			t.Error("another key than the certificate's signs")
		}
	}
}

func TestUnarmor(t *testing.T) {
	t.Parallel()
	good := string(pem.EncodeToMemory(&pem.Block{Type: "SIGNED MESSAGE", Bytes: []byte("0123")}))
	if der, err := cms.Unarmor([]byte(good)); err != nil || string(der) != "0123" {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "two": good + good, "text before": "x\n" + good, "text behind": good + "x\n",
		"a certificate": strings.ReplaceAll(good, "SIGNED MESSAGE", "CERTIFICATE"),
		"a header":      strings.Replace(good, "\n", "\nA: b\n\n", 1),
	} {
		if _, err := cms.Unarmor([]byte(bad)); cms.ProblemOf(err) != cms.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	p := newPerson(f, p256...)
	sig := p.sign(f)
	f.Add(sig)
	f.Add(p.sign(f, "-nocerts"))
	f.Add([]byte{0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 4000))
	f.Fuzz(func(t *testing.T, data []byte) {
		switch _, err := cms.Verify(data, []byte("never signed by anybody"), []*x509.Certificate{p.cert}); {
		case err == nil:
			t.Error("verified")
		case cms.ProblemOf(err) == 0:
			t.Errorf("%v has no problem", err)
		}
	})
}
