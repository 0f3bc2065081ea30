// Package softhsm makes real PKCS #11 tokens for tests, with Debian's SoftHSM, and the
// plugin that signs with them.
package softhsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// PIN is the user's of every token that is made here.
const PIN = "493817"

// Tokens is a folder of tokens.
type Tokens struct {
	Module  string // path of SoftHSM's module
	Conf    string // of the variable SOFTHSM2_CONF, for who is to see the tokens
	Bin     string // a folder with the plugin, as sigstore-kms-pkcs11 and sigstore-kms-hsm
	PINFile string
	check   func(error) // ends the test
}

// New makes an empty folder of tokens that this process sees, and puts the plugin on
// PATH. It sets variables, so that the test cannot be parallel.
func New(t testing.TB) *Tokens {
	t.Helper()
	s := Make(t.TempDir(), func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Setenv("SOFTHSM2_CONF", s.Conf)
	t.Setenv("PATH", s.Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return s
}

// Make makes an empty folder of tokens in dir; check ends the test at an error.
func Make(dir string, check func(error)) *Tokens {
	m, err := module()
	check(err)
	s := &Tokens{Module: m, Bin: filepath.Join(dir, "bin"), Conf: filepath.Join(dir, "softhsm2.conf"), PINFile: filepath.Join(dir, "pin"), check: check}
	tokens := filepath.Join(dir, "tokens")
	check(os.MkdirAll(tokens, 0o700))
	check(os.MkdirAll(s.Bin, 0o700))
	check(buildPlugin(s.Bin))
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	check(os.WriteFile(s.Conf, []byte(text), 0o600))
	check(os.WriteFile(s.PINFile, []byte(PIN+"\n"), 0o600))
	return s
}

func module() (string, error) {
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("SoftHSM is not there: run make tools")
}

// buildPlugin builds the plugin into a folder, with both names. It is built in its own
// module: another one that tests with it does not have what it needs.
func buildPlugin(dir string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hallmark-dev/hallmark").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/sigstore-kms-pkcs11")
	cmd.Dir, cmd.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.Symlink("sigstore-kms-pkcs11", filepath.Join(dir, "sigstore-kms-hsm"))
}

// Init makes a token with a label.
func (s *Tokens) Init(label string) {
	s.run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "9876543")
}

// Remove takes the token with a label away.
func (s *Tokens) Remove(label string) {
	s.run("softhsm2-util", "--delete-token", "--token", label)
}

// Import puts a new key into a token; algorithm is what OpenSSL understands: P-256,
// P-384, or RSA with a number of bits, such as "rsa:3072".
func (s *Tokens) Import(token, object, id, algorithm string) {
	file := filepath.Join(filepath.Dir(s.Conf), object+".pem")
	defer os.Remove(file) //nolint:errcheck // the test's folder goes, too
	if bits, ok := strings.CutPrefix(algorithm, "rsa:"); ok {
		s.run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:"+bits, "-out", file)
	} else {
		s.run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+algorithm, "-out", file)
	}
	s.run("softhsm2-util", "--import", file, "--token", token, "--label", object, "--id", id, "--pin", PIN)
}

// URI is that of an object, with the module and no PIN.
func (s *Tokens) URI(token, object string) string {
	return "pkcs11:token=" + token + ";object=" + object + "?module-path=" + s.Module
}

// WithPIN is that URI with a file that holds the PIN.
func (s *Tokens) WithPIN(token, object string) string {
	return s.URI(token, object) + "&pin-source=file:" + s.PINFile
}

func (s *Tokens) run(name string, args ...string) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+s.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.check(fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out))
	}
}
