package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

const (
	vectors = "../../internal/verify/testdata/conformance"

	// Who signed the suite's bundles, where a case does not say otherwise.
	beacon       = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	beaconIssuer = "https://token.actions.githubusercontent.com"

	leastVectors = 60 // fewer would be a copy that went wrong
)

// binary builds the program that the suite would call.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hallmark-conformance")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// call runs the binary with no environment that could help it, and returns its
// exit code and what it said. That it crashes, or that a crash looks like a
// refusal, fails the test.
func callBinary(t *testing.T, bin string, argv ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, argv...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code, said := cmd.ProcessState.ExitCode(), string(out)
	switch {
	case code < 0 || code > cli.ExitUnreachable || strings.Contains(said, "goroutine ") || strings.Contains(said, "panic:"):
		t.Fatalf("%v: it crashed with %d\n%s", argv, code, said)
	case code == cli.ExitOK && said != "":
		t.Errorf("%v: accepted, and yet it says %s", argv, said)
	case code == cli.ExitDenied && !strings.HasPrefix(said, "DENIED ["):
		t.Errorf("%v: refused without a reason: %s", argv, said)
	case code != cli.ExitOK && code != cli.ExitDenied && !strings.HasPrefix(said, "error: "):
		t.Errorf("%v: exit code %d without an error: %s", argv, code, said)
	}
	return code, said
}

// vectorArgs is the call that the suite makes of a case, less the artifact.
func vectorArgs(t *testing.T, dir string) (args []string, artifact string) {
	t.Helper()
	path := func(name, fallback string) string {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return fallback
		}
		return p
	}
	text := func(name, fallback string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return fallback
		} else if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	args = []string{"verify-bundle", "--bundle", filepath.Join(dir, "bundle.sigstore.json")}
	if key := path("key.pub", ""); key != "" {
		args = append(args, "--key", key)
	}
	_, err := os.Stat(filepath.Join(dir, "identity"))
	if path("key.pub", "") == "" || err == nil {
		args = append(args, "--certificate-identity", text("identity", beacon), "--certificate-oidc-issuer", text("issuer", beaconIssuer))
	}
	return append(args, "--trusted-root", path("trusted_root.json", filepath.Join(vectors, "public-good-trusted-root.json"))),
		path("artifact", filepath.Join(vectors, "bundle-verify", "a.txt"))
}

// TestSuite: every case of the suite gets the answer that its name says, by path
// and by digest. A crash is never a refusal, and accepts are counted apart:
// a program that refuses everything is right in most cases.
func TestSuite(t *testing.T) {
	t.Parallel()
	bin := binary(t)
	dirs, err := filepath.Glob(filepath.Join(vectors, "bundle-verify", "*", "bundle.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < leastVectors {
		t.Fatalf("only %d cases", len(dirs))
	}
	accepts, accepted, refused, denied := 0, 0, 0, 0
	for _, path := range dirs {
		dir := filepath.Dir(path)
		args, artifact := vectorArgs(t, dir)
		content, err := os.ReadFile(artifact)
		if err != nil {
			t.Fatal(err)
		}
		must := !strings.HasSuffix(dir, "_fail")
		if must {
			accepts++
		}
		for _, subject := range []string{artifact, fmt.Sprintf("sha256:%x", sha256.Sum256(content))} {
			code, said := callBinary(t, bin, append(args, subject)...)
			switch {
			case must && code == cli.ExitOK:
				accepted++
			case must:
				t.Errorf("%s (%s) must be accepted: exit code %d\n%s", filepath.Base(dir), subject, code, said)
			case code == cli.ExitOK:
				t.Errorf("%s (%s) must be refused", filepath.Base(dir), subject)
			default:
				refused++
				if code == cli.ExitDenied {
					denied++
				}
			}
		}
	}
	t.Logf("%d cases: %d calls accepted, %d refused, %d of those by a reason", len(dirs), accepted, refused, denied)
	if accepted != 2*accepts || accepts < 17 || refused != 2*(len(dirs)-accepts) {
		t.Errorf("%d cases, %d of them to be accepted: %d calls accepted, %d refused", len(dirs), accepts, accepted, refused)
	}
	if denied < refused*9/10 { // the others cannot read their key or their trust root
		t.Errorf("only %d of %d refusals are verdicts", denied, refused)
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// TestAnotherIsRefused: what the suite accepts is refused when anything about the
// call is another's.
func TestAnotherIsRefused(t *testing.T) {
	t.Parallel()
	bin := binary(t)
	dir := filepath.Join(vectors, "bundle-verify")
	happy, keyed := filepath.Join(dir, "happy-path-v0.3"), filepath.Join(dir, "managed-key-and-trusted-root")
	by := func(identity, issuer string) []string {
		return []string{"--certificate-identity", identity, "--certificate-oidc-issuer", issuer}
	}
	public := []string{"--trusted-root", filepath.Join(vectors, "public-good-trusted-root.json")}
	other := []string{"--trusted-root", filepath.Join(keyed, "trusted_root.json")}
	key := []string{"--key", filepath.Join(keyed, "key.pub")}
	artifact := filepath.Join(dir, "a.txt")
	call := func(bundle string, parts ...[]string) []string {
		argv := []string{"verify-bundle", "--bundle", filepath.Join(bundle, "bundle.sigstore.json")}
		for _, p := range parts {
			argv = append(argv, p...)
		}
		return argv
	}
	for _, c := range []struct {
		name string
		argv []string
		code int
		says string
	}{
		{"it is accepted", append(call(happy, by(beacon, beaconIssuer), public), artifact), cli.ExitOK, ""},
		{"by the root that is built in", append(call(happy, by(beacon, beaconIssuer)), artifact), cli.ExitOK, ""},
		{"another instance's by the root that is built in", append(call(keyed, key), artifact), cli.ExitDenied, "_UNTRUSTED"},
		{"another identity", append(call(happy, by(beacon+"x", beaconIssuer), public), artifact), cli.ExitDenied, "WRONG_IDENTITY"},
		{"a part of the identity", append(call(happy, by(beacon[:len(beacon)-1], beaconIssuer), public), artifact), cli.ExitDenied, "WRONG_IDENTITY"},
		{"another issuer", append(call(happy, by(beacon, beaconIssuer+"/"), public), artifact), cli.ExitDenied, "WRONG_IDENTITY"},
		{"an expression", append(call(happy, by("^.*$", beaconIssuer), public), artifact), cli.ExitDenied, "WRONG_IDENTITY"},
		{"another file", append(call(happy, by(beacon, beaconIssuer), public), filepath.Join(vectors, "README.md")), cli.ExitDenied, "WRONG_SUBJECT"},
		{"another digest", append(call(happy, by(beacon, beaconIssuer), public), "sha256:"+strings.Repeat("0", 64)), cli.ExitDenied, "WRONG_SUBJECT"},
		{"a key for a certificate's bundle", append(call(happy, key, public), artifact), cli.ExitDenied, "WRONG_IDENTITY"},
		{"an identity for a key's bundle", append(call(keyed, by(beacon, beaconIssuer), other), artifact), cli.ExitDenied, "KEY_UNKNOWN"},
		{"managed-key-and-client-identity_fail, by digest", append(call(keyed, key, by(beacon, beaconIssuer), other), "sha256:"+sum(t, artifact)), cli.ExitUsage, "exclude each other"},
		{"managed-key-and-client-identity_fail", append(call(keyed, key, by(beacon, beaconIssuer), other), artifact), cli.ExitUsage, "exclude each other"},
		{"key and issuer", append(call(keyed, key, []string{"--certificate-oidc-issuer", beaconIssuer}, other), artifact), cli.ExitUsage, "exclude each other"},
		{"nobody", append(call(happy, public), artifact), cli.ExitUsage, "whom"},
		{"no issuer", append(call(happy, []string{"--certificate-identity", beacon}, public), artifact), cli.ExitUsage, "whom"},
		{"staging", append(call(happy, []string{"--staging"}, by(beacon, beaconIssuer)), artifact), cli.ExitUsage, "--trusted-root"},
		{"no such bundle", append(call(filepath.Join(dir, "none"), by(beacon, beaconIssuer), public), artifact), cli.ExitUsage, "no such file"},
		{"no such file", append(call(happy, by(beacon, beaconIssuer), public), "none"), cli.ExitFailure, "no such file"},
	} {
		if code, said := callBinary(t, bin, c.argv...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s", c.name, code, c.code, c.says, said)
		}
	}
}

// TestStrictArguments: what the protocol does not have is not skipped.
func TestStrictArguments(t *testing.T) {
	t.Parallel()
	verify := []string{"verify-bundle", "--bundle", "b", "--key", "k", "--trusted-root", "t"}
	for _, argv := range [][]string{
		nil,
		{"verify"},
		{"--bundle", "b", "verify-bundle", "f"},
		verify,
		append(verify, "f", "g"),
		append(verify, ""),
		append(verify, "-f"),
		append(verify, "--bundle", "c", "f"),
		append(verify, "--staging", "--staging", "f"),
		append(verify, "--in-toto", "f"),
		append(verify, "--identity-token", "t", "f"),
		append(verify, "--certificate-identity-regexp", ".*", "f"),
		append(verify, "--key=k", "f"),
		append(verify, "f", "--certificate-identity"),
		append(verify, "--certificate-identity", "", "f"),
		append(verify, "--certificate-identity", "--staging", "f"),
		append(verify, "--insecure-ignore-tlog", "f"),
		{"verify-bundle", "--key", "k", "f"},
		{"sign-bundle", "--identity-token", "t", "--bundle", "b", "--key", "k", "f"},
		{"sign-bundle", "--bundle", "b", "f"},
		{"sign-bundle", "--identity-token", "t", "f"},
		{"sign-bundle", "--identity-token", "not-a-token", "--bundle", "b", "f"},
	} {
		var said bytes.Buffer
		a := &cli.App{Stdout: &said, Stderr: &said, Env: func(string) string { return "" }}
		if code := run(argv, a); code != cli.ExitUsage || !strings.HasPrefix(said.String(), "error: ") {
			t.Errorf("%q: exit code %d\n%s", argv, code, &said)
		}
	}
	c, err := parseCall([]string{"verify-bundle", "--staging", "f", "--key", "k", "--bundle", "-"})
	if err != nil || *c != (call{command: cmdVerify, staging: true, file: "f", key: "k", bundle: "-"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestSign: what sign-bundle makes with a private Sigstore, cosign accepts and so
// does verify-bundle: a file, and a statement somebody else wrote.
func TestSign(t *testing.T) {
	t.Parallel()
	bin, cosign := binary(t), hmtest.Tool(t, "cosign")
	up := hmtest.Authority(t)
	dir := t.TempDir()
	file, statement := filepath.Join(dir, "file"), filepath.Join(dir, "statement")
	content := []byte("a file\n")
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	for path, data := range map[string]string{
		file: string(content),
		statement: `{"predicateType": "https://example.com/p/v1", "_type":"https://in-toto.io/Statement/v1",
			"subject":[{"name":"file","digest":{"sha256":"` + digest + `"}}],"predicate":{"b":1, "a":"<"}}`,
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	signing := []string{"sign-bundle", "--identity-token", up.Token("alice@example.com"), "--signing-config", up.SigningConfig}
	root := []string{"--trusted-root", up.TrustedRoot}
	who := append([]string{"--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", up.URL}, root...)
	for _, c := range []struct {
		name   string
		sign   []string
		cosign []string
	}{
		{"file", []string{file}, []string{"verify-blob"}},
		{"statement", []string{"--in-toto", statement}, []string{"verify-blob-attestation", "--type", "https://example.com/p/v1"}},
	} {
		bundle := filepath.Join(dir, c.name+".json")
		if code, said := callBinary(t, bin, append(append(append(signing, root...), "--bundle", bundle), c.sign...)...); code != cli.ExitOK {
			t.Fatalf("%s: exit code %d\n%s", c.name, code, said)
		}
		for _, subject := range []string{file, "sha256:" + digest} {
			if code, said := callBinary(t, bin, append(append([]string{"verify-bundle", "--bundle", bundle}, who...), subject)...); code != cli.ExitOK {
				t.Errorf("%s: exit code %d\n%s", c.name, code, said)
			}
		}
		if code, said := callBinary(t, bin, append(append([]string{"verify-bundle", "--bundle", bundle}, who...), up.TrustedRoot)...); code != cli.ExitDenied {
			t.Errorf("%s is accepted for another file: exit code %d\n%s", c.name, code, said)
		}
		peer := exec.Command(cosign, append(append(append(c.cosign, "--bundle", bundle), who...), file)...)
		peer.Env = append(os.Environ(), "HOME="+dir)
		if out, err := peer.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", peer.Args[1:], err, out)
		}
	}

	// What does not verify under the given root is not written; nor is what nobody can look for.
	bundle := filepath.Join(dir, "none.json")
	foreign := filepath.Join(vectors, "public-good-trusted-root.json")
	for name, argv := range map[string][]string{
		"another's root": {"--trusted-root", foreign, "--bundle", bundle, file},
		"no statement":   {"--in-toto", "--bundle", bundle, file},
	} {
		if code, said := callBinary(t, bin, append(signing, argv...)...); code != cli.ExitFailure {
			t.Errorf("%s: exit code %d\n%s", name, code, said)
		}
		if _, err := os.Stat(bundle); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a bundle was written: %v", name, err)
		}
	}
	if code, said := callBinary(t, bin, "sign-bundle", "--staging", "--identity-token", up.Token("alice@example.com"), "--bundle", bundle, file); code != cli.ExitUsage || !strings.Contains(said, "--signing-config") {
		t.Errorf("--staging without files: exit code %d\n%s", code, said)
	}
}
