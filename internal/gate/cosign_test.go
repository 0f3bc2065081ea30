package gate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/policy/cuelang"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// TestPoliciesBesideCosign asks stock cosign and us about the same attestation
// with the same policy files. Where we differ we are stricter, and the table says so.
func TestPoliciesBesideCosign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := w.Image("app/attested", "attested")
	_, at := w.open(image)
	st, err := sign.AttestStatement("", at.Digest(), evidence.PredicateCycloneDX, []byte(`{"specVersion":"1.4","metadata":{"tools":[{"name":"syft"}]}}`))
	if err == nil {
		_, err = w.signer.Attach(t.Context(), at, st)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, cosign := t.TempDir(), hmtest.Tool(t, "cosign")
	run := func(args ...string) error {
		c := exec.CommandContext(t.Context(), cosign, args...)
		c.Env = append(os.Environ(), "HOME="+dir, "TUF_ROOT="+filepath.Join(dir, "tuf"))
		return c.Run()
	}
	if err := run("initialize", "--mirror", w.URL+"/tuf", "--root", filepath.Join(w.Dir, "root.json")); err != nil {
		t.Fatal("cosign initialize:", err)
	}
	for name, tc := range map[string]struct {
		text         string
		cosign, ours bool
	}{
		"ok.cue":         {"predicateType: \"https://cyclonedx.org/bom\"\npredicate: specVersion: \"1.4\"", true, true},
		"value.cue":      {`predicate: metadata: tools: [{name: "trivy"}]`, false, false},
		"type.cue":       {`predicate: specVersion: 1.4`, false, false},
		"bound.cue":      {`predicate: specVersion: =~"^2"`, false, false},
		"missing.cue":    {`predicate: nothing: "x"`, true, false}, // cosign's policy supplies the field itself
		"stray.cue":      {`predicat: specVersion: "1.5"`, true, false},
		"ok.rego":        {"package signature\ndefault allow = false\nallow { input.predicate.specVersion == \"1.4\" }", true, true},
		"statement.rego": {"package signature\nallow { input._type; count(input.subject) == 1; input.predicateType == \"https://cyclonedx.org/bom\" }", true, true},
		"v1.rego":        {"package signature\nimport rego.v1\nallow if input.predicate.metadata.tools[_].name == \"syft\"", true, true},
		"no.rego":        {"package signature\ndefault allow = false\nallow { input.predicate.specVersion == \"1.5\" }", false, false},
		"undefined.rego": {"package signature\nallow { input.predicate.nothing }", false, false},
		"string.rego":    {"package signature\nallow = \"true\"", false, false},
		"package.rego":   {"package other\nallow = true", false, false},
		"error.rego":     {"package signature\nallow { to_number(\"x\") > 0 }\nallow { true }", true, false}, // an error in one rule denies here
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run("verify-attestation", "--type", "cyclonedx", "--policy", path, "--certificate-identity", rita, "--certificate-oidc-issuer", w.Info.Issuer, image)
		if (err == nil) != tc.cosign {
			t.Errorf("%s: cosign: %v", name, err)
		}
		q := w.byRita()
		q.AttestationType = evidence.PredicateCycloneDX
		var p gate.StatementPolicy
		if filepath.Ext(name) == ".cue" {
			p, err = cuelang.Compile(name, []byte(tc.text))
		} else {
			p, err = rego.CompileAttestation(map[string][]byte{name: []byte(tc.text)}, rego.AttestationOptions{})
		}
		if err != nil {
			if tc.ours {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		q.AttestationPolicies = []gate.StatementPolicy{p}
		if d := w.judge(image, q).Decision; d.Allowed != tc.ours {
			t.Errorf("%s: ours: %+v", name, d)
		}
	}
}
