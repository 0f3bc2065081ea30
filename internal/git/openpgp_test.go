package git_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// gpg is a GnuPG home of the test with its own agent.
type gpg struct {
	t    testing.TB
	home string
}

func newGPG(t testing.TB) *gpg {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	g := &gpg{t, home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	return g
}

func (g *gpg) run(stdin string, args ...string) string {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", g.home, "--batch", "--no-tty", "--quiet",
		"--pinentry-mode", "loopback", "--passphrase", "", "--allow-weak-digest-algos"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %v (from gnupg, run make tools): %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

func (g *gpg) key(uid, algo, expire string, more ...string) {
	g.t.Helper()
	g.run("", append(more, "--quick-generate-key", uid, algo, "sign", expire)...)
}

func (g *gpg) export() string { return g.run("", "--armor", "--export") }

const pgpHead = "object aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\ntype commit\ntag v1\ntagger R <r@x> 1700000000 +0000\n\nx\n"

func (g *gpg) sign(more ...string) string {
	g.t.Helper()
	return g.run(pgpHead, append(more, "--armor", "--detach-sign")...)
}

func pgpVerify(t testing.TB, keyring, signature string, at time.Time) (*policy.TagSigner, *policy.Reason) {
	t.Helper()
	k, err := git.ParseKeyring([]byte(keyring))
	if err != nil {
		t.Fatal(err)
	}
	tag, why := git.ParseTag([]byte(pgpHead + signature))
	if why != nil {
		return nil, why
	}
	return git.Trust{Keyring: k}.VerifyTag(tag, "refs/tags/v1", at)
}

func TestOpenPGP(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	g.key("Release <release@example.com>", "ed25519", "never")
	ring, sig := "# principals: release,ops\n"+g.export(), g.sign()
	today := time.Now()
	signer, why := pgpVerify(t, ring, sig, today)
	if why != nil {
		t.Fatal(why)
	}
	if signer.Kind != "openpgp" || len(signer.Fingerprint) != 40 || fmt.Sprint(signer.Principals) != "[ops release]" && fmt.Sprint(signer.Principals) != "[release ops]" {
		t.Errorf("%+v", signer)
	}
	if signer, why = pgpVerify(t, g.export(), sig, today); why != nil || len(signer.Principals) != 0 {
		t.Errorf("user ids must name nobody: %+v %v", signer, why)
	}
	other := newGPG(t)
	other.key("Release <release@example.com>", "ed25519", "never")

	for _, c := range []struct {
		name, ring, sig string
		at              time.Time
		code            string
	}{
		{"stranger", ring, other.sign(), today, "TAG_SIGNER"},
		{"signed tomorrow", ring, sig, today.Add(-24 * time.Hour), "TAG_KEY_EXPIRED"},
		{"sha-1", ring, g.sign("--digest-algo", "SHA1"), today, "TAG_SIGNER"},
		{"text mode", ring, g.sign("--textmode"), today, "TAG_MALFORMED"},
		{"expired signature", ring, g.sign("--default-sig-expire", "1d"), today.Add(48 * time.Hour), "TAG_SIGNER"},
		{"other text", ring, g.run("other", "--armor", "--detach-sign"), today, "TAG_SIGNER"},
		{"two packets, the first good", ring, rearmor(t, sig, other.sign()), today, "TAG_MALFORMED"},
		{"two packets, the last good", ring, rearmor(t, other.sign(), sig), today, "TAG_MALFORMED"},
		{"a packet of unknown type behind", ring, rearmorBytes(t, append(dearmor(t, sig), 0xc0|0x3c, 1, 0)), today, "TAG_MALFORMED"},
		{"a byte behind", ring, rearmorBytes(t, append(dearmor(t, sig), 0)), today, "TAG_MALFORMED"},
		{"a key as signature", ring, strings.ReplaceAll(g.export(), "PUBLIC KEY BLOCK", "SIGNATURE"), today, "TAG_MALFORMED"},
	} {
		_, why := pgpVerify(t, c.ring, c.sig, c.at)
		if why == nil || why.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, why, c.code)
		}
	}
}

func TestOpenPGPLifetimes(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	g.key("a", "ed25519", "2020-06-01", "--faked-system-time", "20200101T000000!")
	sig := g.sign("--faked-system-time", "20200201T000000!")
	in2020 := time.Date(2020, 3, 1, 0, 0, 0, 0, time.UTC)
	if _, why := pgpVerify(t, g.export(), sig, in2020); why != nil {
		t.Errorf("in its time: %v", why)
	}
	_, why := pgpVerify(t, g.export(), sig, now)
	wantCode(t, why, "TAG_KEY_EXPIRED", "the date in the tag does not count")

	sub := newGPG(t)
	sub.run("", "--faked-system-time", "20200101T000000!", "--quick-generate-key", "s", "ed25519", "cert", "never")
	fp := strings.Split(strings.Split(sub.run("", "--with-colons", "--list-keys"), "\nfpr:::::::::")[1], ":")[0]
	sub.run("", "--faked-system-time", "20200101T000000!", "--quick-add-key", fp, "ed25519", "sign", "2020-06-01")
	sig = sub.sign("--faked-system-time", "20200201T000000!")
	if _, why := pgpVerify(t, sub.export(), sig, in2020); why != nil {
		t.Errorf("subkey in its time: %v", why)
	}
	_, why = pgpVerify(t, sub.export(), sig, now)
	wantCode(t, why, "TAG_SIGNER", "does not count")

	// The certificate with its signing subkey's binding cut off, and the
	// certificate after revocation.
	whole := dearmor(t, sub.export())
	if _, err := git.ParseKeyring([]byte(armored(t, "PGP PUBLIC KEY BLOCK", whole[:lastPacket(whole)]))); err == nil {
		t.Error("a subkey without its binding was accepted")
	}
	rev, err := os.ReadFile(filepath.Join(sub.home, "openpgp-revocs.d", fp+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	sub.run(strings.Replace(string(rev), ":-----BEGIN", "-----BEGIN", 1), "--import")
	_, why = pgpVerify(t, sub.export(), sig, in2020)
	wantCode(t, why, "TAG_SIGNER", "does not count")
}

func TestOpenPGPWeakKey(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	g.key("weak", "rsa1024", "never")
	_, why := pgpVerify(t, g.export(), g.sign("--digest-algo", "SHA256"), time.Now())
	wantCode(t, why, "KEY_TOO_WEAK", "less than 2048")

	strong := newGPG(t)
	strong.key("strong", "rsa2048", "never")
	if _, why := pgpVerify(t, strong.export(), strong.sign(), time.Now()); why != nil {
		t.Errorf("rsa2048: %v", why)
	}
	secret := strong.run("", "--armor", "--export-secret-keys")
	for name, text := range map[string]string{
		"private key":    strings.ReplaceAll(secret, "PRIVATE KEY", "PUBLIC KEY"),
		"private block":  secret,
		"text between":   strong.export() + "hello\n",
		"twice":          strong.export() + strong.export(),
		"nothing":        "# principals: a\n",
		"no end":         strings.Replace(strong.export(), "-----END PGP PUBLIC KEY BLOCK-----\n", "", 1),
		"bad principals": "# principals: a,,b\n" + strong.export(),
		"wildcard":       "# principals: *\n" + strong.export(),
		"flipped":        flip(strong.export()),
	} {
		if _, err := git.ParseKeyring([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// flip changes one letter in the middle of the armor.
func flip(s string) string {
	i := len(s) / 2
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func dearmor(t testing.TB, s string) []byte {
	t.Helper()
	b, err := armor.Decode(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(b.Body); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func armored(t testing.TB, kind string, data []byte) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String() + "\n"
}

func rearmorBytes(t testing.TB, data []byte) string { return armored(t, "PGP SIGNATURE", data) }

func rearmor(t testing.TB, a, b string) string {
	return rearmorBytes(t, append(dearmor(t, a), dearmor(t, b)...))
}

// lastPacket is the offset of the last packet of old- or new-format packets
// with one-octet lengths, as gpg writes for elliptic keys.
func lastPacket(b []byte) int {
	last := 0
	for i := 0; i < len(b); {
		last = i
		switch {
		case b[i]&0x40 == 0 && b[i]&3 == 0, b[i]&0x40 != 0 && b[i+1] < 192:
			i += 2 + int(b[i+1])
		case b[i]&0x40 == 0 && b[i]&3 == 1:
			i += 3 + int(b[i+1])<<8 + int(b[i+2])
		default:
			i += 3 + (int(b[i+1])-192)<<8 + int(b[i+2]) + 192
		}
	}
	return last
}
