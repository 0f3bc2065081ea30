package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// TestVerifyConformance: the command, as a client of the conformance suite calls
// one, accepts and refuses its vectors, by path and by digest; a crash is no refusal.
func TestVerifyConformance(t *testing.T) {
	t.Parallel()
	const vectors = "../../internal/verify/testdata/conformance"
	// Its provenance names a builder that is not the workflow which signed it: hallmark-conformance
	// asks only who signed and accepts it, hallmark verify does not believe it.
	const unsupported = "rekor2-dsse-happy-path"
	cases, err := filepath.Glob(filepath.Join(vectors, "bundle-verify", "*", "bundle.sigstore.json"))
	if err != nil || len(cases) < 47 {
		t.Fatal(len(cases), err)
	}
	accepted, refused, unbelieved, good := 0, 0, 0, 0
	for _, bundle := range cases {
		dir := filepath.Dir(bundle)
		if !strings.HasSuffix(dir, "_fail") {
			good++
		}
		file := func(name, fallback string) string {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
			return filepath.Join(vectors, fallback)
		}
		call := []string{"verify", "--bundle", bundle, "--trusted-root", file("trusted_root.json", "public-good-trusted-root.json")}
		if key := file("key.pub", ""); filepath.Base(key) == "key.pub" {
			call = append(call, "--key", key)
		} else {
			call = append(call, "--certificate-identity", "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
				"--certificate-oidc-issuer", "https://token.actions.githubusercontent.com")
		}
		if c, err := collect.File(bundle); err == nil && c.Claim != nil && c.Claim.Envelope != nil {
			var statement evidence.Statement
			if err := json.Unmarshal(c.Claim.Envelope.Payload, &statement); err != nil {
				t.Fatal(dir, err)
			}
			call = append(call, "--attestation", statement.PredicateType)
		}
		artifact := file("artifact", "bundle-verify/a.txt")
		data, err := os.ReadFile(artifact)
		if err != nil {
			t.Fatal(err)
		}
		for _, arg := range []string{artifact, string(evidence.SHA256(data))} {
			var stdout, stderr bytes.Buffer
			a := &app{&cli.App{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" }}}
			switch code := run(append(call, arg), a); {
			case strings.HasSuffix(dir, "_fail") && (code == cli.ExitFailure || code == cli.ExitUsage || code == cli.ExitDenied):
				refused++
				if strings.Contains(stdout.String(), "Verified ") || stderr.Len() == 0 {
					t.Errorf("%s %s: refused with\n%s%s", dir, arg, &stdout, &stderr)
				}
			case !strings.HasSuffix(dir, "_fail") && code == cli.ExitOK:
				accepted++
			case filepath.Base(dir) == unsupported && code == cli.ExitDenied && strings.Contains(stderr.String(), "[BUILDER_UNSUPPORTED]"):
				unbelieved++
			default:
				t.Errorf("%s %s: exit code %d\n%s", dir, arg, code, &stderr)
			}
		}
	}
	if got, want := fmt.Sprint(accepted, unbelieved, refused), fmt.Sprint(2*good-2, 2, 2*(len(cases)-good)); got != want || good < 14 {
		t.Errorf("%s accepted, not believed and refused; want %s", got, want)
	}
}
