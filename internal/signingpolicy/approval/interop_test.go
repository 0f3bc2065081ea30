package approval_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

// one demands that the envelope is the one valid approval of principal.
func one(t *testing.T, w *world, envelope []byte, principal string) approval.Approval {
	t.Helper()
	r := judge(w, expected(), envelope)
	if len(r.Valid) != 1 || r.Valid[0].Principal != principal || r.Valid[0].Source != "signed" || r.Valid[0].Decision != "approve" ||
		r.Valid[0].Comment != "diff read" || r.Valid[0].ReviewedBase != other || !r.Valid[0].IssuedAt.Equal(now.Add(-time.Hour)) {
		t.Fatalf("%+v", r)
	}
	return r.Valid[0]
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSSHKeygenAlone: who has ssh-keygen and no Hallmark signs the exported file.
func TestSSHKeygenAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		for _, hash := range []string{"sha512", "sha256"} {
			pae := approval.PAE(payload(t, statement(name)))
			dir := t.TempDir()
			file := write(t, dir, "pae", pae)
			if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "hallmark-approval", "-O", "hashalg="+hash, "-f", w.path[name], file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			sig, err := os.ReadFile(file + ".sig")
			if err != nil {
				t.Fatal(err)
			}
			envelope, err := approval.Attach(pae, sig)
			if err != nil {
				t.Fatal(err)
			}
			a := one(t, w, envelope, name)
			if a.Kind != "ssh" || a.Key != ssh.FingerprintSHA256(w.ssh[name].PublicKey()) || a.UserVerified {
				t.Errorf("%+v", a)
			}
			for _, changed := range [][]byte{append(bytes.Clone(pae), '\n'), pae[1:], bytes.Replace(pae, []byte("in-toto"), []byte("in-tota"), 1), nil} {
				if _, err := approval.Attach(changed, sig); err == nil {
					t.Error("a changed file is taken")
				}
			}
			if _, err := approval.Attach(pae, []byte("no signature")); err == nil {
				t.Error("no signature is taken")
			}
		}
	}
}

// TestSSHKeygenVerifies what we sign.
func TestSSHKeygenVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		envelope := w.sign(t, name, statement(name))
		e, why := approval.Parse(envelope)
		if why != nil {
			t.Fatal(why)
		}
		verify(t, w.ssh[name].PublicKey(), e)
		if e.KeyID != ssh.FingerprintSHA256(w.ssh[name].PublicKey()) || e.KeyID != e.ClaimedKey() || e.Kind() != "ssh" {
			t.Errorf("%s %s", e.KeyID, e.ClaimedKey())
		}
		one(t, w, envelope, name)
	}
	if _, err := approval.SignSSH(payload(t, statement("alice")), w.ssh["weak"]); err == nil {
		t.Error("a short RSA key signs")
	}
}

// verify asks ssh-keygen.
func verify(t *testing.T, key ssh.PublicKey, e *approval.Envelope) {
	t.Helper()
	dir := t.TempDir()
	signers := write(t, dir, "signers", []byte("somebody "+public(key)+"\n"))
	sig := write(t, dir, "sig", sshArmor(e.Signature))
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-n", "hallmark-approval", "-I", "somebody", "-f", signers, "-s", sig)
	cmd.Stdin = bytes.NewReader(approval.PAE(e.Payload))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// sshArmor writes a blob as ssh-keygen does.
func sshArmor(blob []byte) []byte {
	var b bytes.Buffer
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for chunk := range slices.Chunk([]byte(encode(blob)), 70) {
		b.Write(chunk)
		b.WriteByte('\n')
	}
	b.WriteString("-----END SSH SIGNATURE-----\n")
	return b.Bytes()
}

// startAgent starts OpenSSH's ssh-agent.
func startAgent(t *testing.T, env ...string) (string, agent.ExtendedAgent) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket, "-P", "/usr/lib/*,/usr/lib/*/*,/usr/lib/*/*/*,/usr/lib64/*,/usr/local/lib/*/*")
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	for range 6000 {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return socket, agent.NewClient(conn)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("ssh-agent does not listen")
	return "", nil
}

func TestAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	socket, a := startAgent(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		cmd := exec.Command("ssh-add", "-q", w.path[name])
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		envelope, err := approval.SignWithAgent(payload(t, statement(name)), a, w.ssh[name].PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		one(t, w, envelope, name)
	}
	if _, err := approval.SignWithAgent(payload(t, statement("alice")), a, w.ssh["stranger"].PublicKey()); err == nil || !strings.Contains(err.Error(), "does not have the key") {
		t.Error(err)
	}
}

// anotherKey signs with another key than it says.
type anotherKey struct {
	public ssh.PublicKey
	signer ssh.Signer
}

func (a anotherKey) PublicKey() ssh.PublicKey { return a.public }
func (a anotherKey) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return a.signer.Sign(r, data)
}

func TestWhatAKeyMakesIsVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := anotherKey{public: w.ssh["alice"].PublicKey(), signer: w.ssh["stranger"]}
	if _, err := approval.SignSSH(payload(t, statement("alice")), bad); err == nil || !strings.Contains(err.Error(), "thrown away") {
		t.Error(err)
	}
}

// TestSoftHSM: a key of a PKCS #11 token behind OpenSSH's agent.
func TestSoftHSM(t *testing.T) {
	t.Parallel()
	tokens := softhsm.Make(t.TempDir(), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	tokens.Init("rel")
	tokens.Import("rel", "p256", "01", "P-256")
	tokens.Import("rel", "p384", "02", "P-384")
	tokens.Import("rel", "rsa", "03", "rsa:3072")
	socket, a := startAgent(t, "SOFTHSM2_CONF="+tokens.Conf)
	askpass := write(t, t.TempDir(), "askpass", []byte("#!/bin/sh\necho "+softhsm.PIN+"\n"))
	if err := os.Chmod(askpass, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ssh-add", "-s", tokens.Module)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket, "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force", "SOFTHSM2_CONF="+tokens.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keys, err := a.List()
	if err != nil || len(keys) != 3 {
		t.Fatalf("%v %v", keys, err)
	}
	for _, k := range keys {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := approval.SignWithAgent(payload(t, statement("hal")), a, public)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"principals":{"hal":{"keys":[{"kind":"ssh","publicKey":%q,"protection":"hsm","uses":["approve","update"]}]}},"roles":{"update":{"threshold":1,"principals":["hal"]}}}`,
			strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))))
		doc, why := authority.Parse([]byte(text))
		if why != nil {
			t.Fatal(why)
		}
		r := approval.Judge(doc, expected(), []approval.Found{{Data: envelope}})
		if len(r.Valid) != 1 || r.Valid[0].Protection != "hsm" {
			t.Errorf("%s: %+v", k.Format, r)
		}
		e, no := approval.Parse(envelope)
		if no != nil {
			t.Fatal(no)
		}
		verify(t, public, e)
	}
}

func TestSecurityKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		key      *securityKey
		verified bool
	}{{w.fido, false}, {w.fido.with(5), true}, {w.verifying.with(5), true}} {
		envelope, err := approval.SignSSH(payload(t, statement("dave")), c.key)
		if err != nil {
			t.Fatal(err)
		}
		if a := one(t, w, envelope, "dave"); a.Protection != "fido" || a.UserVerified != c.verified {
			t.Errorf("%+v", a)
		}
	}
	if _, err := approval.SignSSH(payload(t, statement("dave")), w.fido.with(0)); err == nil {
		t.Error("an approval that nobody touched is made")
	}
}

func TestOpenPGP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := payload(t, statement("erin"))
	pae := approval.PAE(p)
	good := w.pgp.sign(t, pae)
	for _, sig := range [][]byte{good, w.pgp.sign(t, pae, "--armor"), w.pgp.sign(t, pae, "--digest-algo", "SHA256")} {
		envelope, err := approval.Attach(pae, sig)
		if err != nil {
			t.Fatal(err)
		}
		if a := one(t, w, envelope, "erin"); a.Kind != "openpgp" || len(a.Key) != 40 || a.Protection != "hsm" {
			t.Errorf("%+v", a)
		}
	}
	for name, c := range map[string]struct {
		payload, sig []byte
		code         string
	}{
		"two signatures":  {p, append(bytes.Clone(good), good...), "APPROVAL_MALFORMED"},
		"SHA-1":           {p, w.pgp.sign(t, pae, "--digest-algo", "SHA1"), "KEY_TOO_WEAK"},
		"text mode":       {p, w.pgp.sign(t, pae, "--textmode"), "APPROVAL_MALFORMED"},
		"the payload":     {p, w.pgp.sign(t, p), "APPROVAL_BAD_SIGNATURE"},
		"another message": {payload(t, statement("erin")), good, "APPROVAL_BAD_SIGNATURE"},
		"another person":  {payload(t, statement("alice")), w.pgp.sign(t, approval.PAE(payload(t, statement("alice")))), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
	} {
		if r := judge(w, expected(), seal(t, c.payload, c.sig)); len(r.Valid) != 0 || len(r.Rejected) != 1 || r.Rejected[0].Code != c.code {
			t.Errorf("%s: %+v, want %s", name, r, c.code)
		}
	}
	// Another OpenPGP key, of nobody.
	home, err := os.MkdirTemp("", "hm")
	if err != nil {
		t.Fatal(err)
	}
	stranger := gpg{home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(home)
	})
	if _, err := stranger.make(); err != nil {
		t.Fatal(err)
	}
	if r := judge(w, expected(), seal(t, p, stranger.sign(t, pae))); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_KEY_NOT_OF_PRINCIPAL" {
		t.Errorf("%+v", r)
	}
}

// TestOpenPGPKeysThatEnded: expired and revoked subkeys do not count, whatever the date of the signature.
func TestOpenPGPKeysThatEnded(t *testing.T) {
	t.Parallel()
	home, err := os.MkdirTemp("", "hm")
	if err != nil {
		t.Fatal(err)
	}
	g := gpg{home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(home)
	})
	run := func(args ...string) []byte {
		t.Helper()
		out, err := g.run(nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("--faked-system-time", "20260101T000000", "--quick-generate-key", "Erin <erin@example.org>", "ed25519", "cert", "20300101T000000")
	_, rest, _ := strings.Cut(string(run("--list-keys", "--with-colons")), "\nfpr:::::::::")
	fpr, _, _ := strings.Cut(rest, ":")
	run("--faked-system-time", "20260101T000000", "--quick-add-key", fpr, "ed25519", "sign", "20261101T000000")
	p := payload(t, change(statement("erin"), func(s *approval.Statement) { s.Nonce = "" }))
	backdated := g.sign(t, approval.PAE(p), "--faked-system-time", "20261020T000000")
	text, err := marshal(object{
		"principals": object{"erin": object{"keys": list{object{"kind": "openpgp", "publicKey": string(run("--armor", "--export", fpr)), "protection": "software", "uses": list{"approve", "update"}}}}},
		"roles":      object{"update": object{"threshold": 1, "principals": list{"erin"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, why := authority.Parse(text)
	if why != nil {
		t.Fatal(why)
	}
	for at, code := range map[time.Time]string{now: "APPROVAL_EXPIRED", time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC): ""} {
		want := expected()
		want.Now = at
		r := approval.Judge(doc, want, []approval.Found{{Data: seal(t, p, backdated)}})
		// The statement itself is of November: at the earlier time only the signature counts.
		if len(r.Rejected) != 1 || r.Rejected[0].Code != "APPROVAL_EXPIRED" || r.Rejected[0].Signed != (code == "") {
			t.Errorf("at %s: %+v", at, r.Rejected)
		}
	}
}

func TestX509(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := payload(t, statement("frank"))
	ours, err := approval.SignX509(p, w.cert, w.key)
	if err != nil {
		t.Fatal(err)
	}
	if a := one(t, w, ours, "frank"); a.Kind != "x509" || a.Key != cms.SPKI(w.cert) {
		t.Errorf("%+v", a)
	}
	dir := filepath.Dir(w.path["alice"])
	file := write(t, t.TempDir(), "pae", approval.PAE(p))
	openssl := func(options ...string) []byte {
		t.Helper()
		args := []string{"cms", "-sign", "-binary", "-in", file, "-signer", filepath.Join(dir, "cert.pem"), "-inkey", filepath.Join(dir, "key.pem"), "-outform", "DER"}
		cmd := exec.Command("openssl", append(args, options...)...)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		return out
	}
	for _, sig := range [][]byte{openssl(), openssl("-nocerts"), openssl("-outform", "PEM")} {
		envelope, err := approval.Attach(approval.PAE(p), sig)
		if err != nil {
			t.Fatal(err)
		}
		one(t, w, envelope, "frank")
	}
	for name, c := range map[string]struct {
		payload, sig []byte
		code         string
	}{
		"SHA-1":           {p, openssl("-md", "sha1"), "KEY_TOO_WEAK"},
		"no attributes":   {p, openssl("-noattr"), "APPROVAL_MALFORMED"},
		"not detached":    {p, openssl("-nodetach"), "APPROVAL_MALFORMED"},
		"another message": {payload(t, statement("frank")), openssl(), "APPROVAL_BAD_SIGNATURE"},
	} {
		if r := judge(w, expected(), seal(t, c.payload, c.sig)); len(r.Valid) != 0 || len(r.Rejected) != 1 || r.Rejected[0].Code != c.code {
			t.Errorf("%s: %+v, want %s", name, r, c.code)
		}
	}
	alices := payload(t, statement("alice"))
	sig, err := cms.Sign(approval.PAE(alices), w.cert, w.key, now)
	if err != nil {
		t.Fatal(err)
	}
	if r := judge(w, expected(), seal(t, alices, sig)); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_KEY_NOT_OF_PRINCIPAL" {
		t.Errorf("frank's certificate for alice: %+v", r)
	}
}

// keyless answers as a verifier of bundles; a real one is that of package keyless.
type keyless struct {
	issuer, subject string
	at              time.Time
	err             error
}

func (k keyless) Verify(_, _ []byte) (string, string, time.Time, error) {
	return k.issuer, k.subject, k.at, k.err
}

// TestKeyless: whom a keyless signature counts for.
func TestKeyless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	envelope := seal(t, payload(t, statement("grace")), []byte("{}"))
	for name, c := range map[string]struct {
		verifier approval.Keyless
		code     string
	}{
		"no verifier":    {nil, "KEY_KIND"},
		"good":           {keyless{"https://issuer.example", "grace@example.org", now, nil}, ""},
		"another person": {keyless{"https://issuer.example", "graze@example.org", now, nil}, "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"another issuer": {keyless{"https://evil.example", "grace@example.org", now, nil}, "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"no time":        {keyless{"https://issuer.example", "grace@example.org", time.Time{}, nil}, "APPROVAL_BAD_SIGNATURE"},
		"bad":            {keyless{"https://issuer.example", "grace@example.org", now, errors.New("bad")}, "APPROVAL_BAD_SIGNATURE"},
	} {
		want := expected()
		want.Keyless = c.verifier
		r := judge(w, want, envelope)
		switch {
		case c.code == "" && (len(r.Valid) != 1 || r.Valid[0].Protection != "keyless" || r.Valid[0].Kind != "sigstore"):
			t.Errorf("%s: %+v", name, r)
		case c.code != "" && (len(r.Valid) != 0 || r.Rejected[0].Code != c.code):
			t.Errorf("%s: %+v, want %s", name, r, c.code)
		}
	}
	if r := judge(w, expected(), seal(t, payload(t, statement("alice")), []byte("{}"))); r.Rejected[0].Code != "APPROVAL_KEY_NOT_OF_PRINCIPAL" {
		t.Errorf("%+v", r.Rejected)
	}
}
