package git_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

// certificate is an X.509 certificate with its key, of openssl.
type certificate struct {
	cert, key string // files
	x509      *x509.Certificate
}

func newCertificate(t testing.TB, more ...string) certificate {
	t.Helper()
	dir := t.TempDir()
	c := certificate{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	openssl(t, "", append([]string{"req", "-x509", "-nodes", "-subj", "/CN=release", "-sha256", "-keyout", c.key, "-out", c.cert}, more...)...)
	data, err := os.ReadFile(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if c.x509, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return c
}

func openssl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// sign makes the armor that git keeps of an x509 signature.
func (c certificate) sign(t testing.TB, message string, more ...string) string {
	t.Helper()
	out := openssl(t, message, append([]string{"cms", "-sign", "-binary", "-md", "sha256", "-signer", c.cert, "-inkey", c.key, "-outform", "PEM"}, more...)...)
	return strings.NewReplacer("BEGIN CMS", "BEGIN SIGNED MESSAGE", "END CMS", "END SIGNED MESSAGE", "BEGIN PKCS7", "BEGIN SIGNED MESSAGE", "END PKCS7", "END SIGNED MESSAGE").Replace(out)
}

// TestTagKeysOfX509: the pinned public key counts, and nothing that the signature brings
// (rows 24 and 25).
func TestTagKeysOfX509(t *testing.T) {
	t.Parallel()
	ec := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "3650", "-set_serial", "7"}
	good, evil := newCertificate(t, ec...), newCertificate(t, ec...) // the same issuer and serial number
	k := git.TagKey{Principal: "dave", Kind: "x509", X509: good.x509}
	if err := k.Check(); err != nil {
		t.Fatal(err)
	}
	today := time.Now()
	for _, more := range [][]string{nil, {"-nocerts"}, {"-keyid"}} {
		signer, why := verifyRaw(pgpHead+good.sign(t, pgpHead, more...), today, git.TagKey{Principal: "e", Kind: "x509", X509: evil.x509}, k)
		if why != nil || signer.Principal != "dave" || signer.Key != 1 || len(signer.Fingerprint) != 64 || signer.Hash != "sha256" {
			t.Errorf("%v: %+v %v", more, signer, why)
		}
	}
	weak := newCertificate(t, "-newkey", "rsa:2048", "-days", "10")
	old := newCertificate(t, append(ec[:4:4], "-days", "1", "-set_serial", "8")...)
	for _, c := range []struct {
		name, raw string
		key       git.TagKey
		at        time.Time
		code      string
	}{
		{"an attacker's certificate in it, with issuer and serial of the good one", pgpHead + evil.sign(t, pgpHead), k, today, "TAG_SIGNER"},
		{"over another text", pgpHead + good.sign(t, pgpHead+"x"), k, today, "TAG_SIGNER"},
		{"the certificate ran out, the signing time in it is before", pgpHead + old.sign(t, pgpHead), git.TagKey{Principal: "o", Kind: "x509", X509: old.x509}, today.Add(72 * time.Hour), "TAG_KEY_EXPIRED"},
		{"before the certificate", pgpHead + good.sign(t, pgpHead), k, today.Add(-24 * time.Hour), "TAG_KEY_EXPIRED"},
		{"the policy's end", pgpHead + good.sign(t, pgpHead), git.TagKey{Principal: "d", Kind: "x509", X509: good.x509, NotAfter: today}, today, "TAG_KEY_EXPIRED"},
		{"a short key", pgpHead + weak.sign(t, pgpHead), git.TagKey{Principal: "w", Kind: "x509", X509: weak.x509}, today, "KEY_TOO_WEAK"},
		{"SHA-1", pgpHead + good.sign(t, pgpHead, "-md", "sha1"), k, today, "KEY_TOO_WEAK"},
		{"two signers", pgpHead + good.sign(t, pgpHead, "-signer", evil.cert, "-inkey", evil.key), k, today, "TAG_MALFORMED"},
		{"the text in it", pgpHead + good.sign(t, pgpHead, "-nodetach"), k, today, "TAG_MALFORMED"},
		{"nothing", pgpHead + "-----BEGIN SIGNED MESSAGE-----\nMIIB\n-----END SIGNED MESSAGE-----\n", k, today, "TAG_MALFORMED"},
		{"nobody listed", pgpHead + good.sign(t, pgpHead), sshTagKey(t, gitrepo.NewKey(t, "ed25519", 0)), today, "TAG_SIGNER"},
	} {
		_, why := verifyRaw(c.raw, c.at, c.key)
		if why == nil || why.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, why, c.code)
		}
	}
}
