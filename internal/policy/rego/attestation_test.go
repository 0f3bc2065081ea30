package rego_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

const sbom = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"00"}}],` +
	`"predicateType":"https://cyclonedx.org/bom","predicate":{"specVersion":"1.4","metadata":{"tools":[{"name":"syft"}]}}}`

func TestAttestation(t *testing.T) {
	t.Parallel()
	const ours = "package hallmark.attestation\n"
	for name, tc := range map[string]struct {
		text    string
		code    string // "" allows
		message string
	}{
		"ours":              {ours + `allow if input.predicate.specVersion == "1.4"`, "", ""},
		"ours denies":       {ours + `allow if input.predicate.specVersion == "1.5"`, "ATTESTATION_POLICY", "hallmark.attestation.allow is undefined"},
		"ours deny_msg":     {ours + "allow := true\ndeny_msg contains sprintf(\"tool is %s\", [input.predicate.metadata.tools[0].name])", "ATTESTATION_POLICY", "tool is syft"},
		"ours string":       {ours + `allow := "true"`, "POLICY_EVAL", "only the boolean true"},
		"ours conflict":     {ours + "allow := true if input.predicate\nallow := false if input.subject", "POLICY_EVAL", "eval_conflict_error"},
		"ours missing":      {ours + `allow if input.predicate.nothing == 1`, "ATTESTATION_POLICY", "undefined"},
		"clock":             {ours + `allow if time.now_ns() == time.parse_rfc3339_ns("2026-11-20T12:00:00Z")`, "", ""},
		"cosign old":        {"package signature\ndefault allow = false\nallow { input.predicateType == \"https://cyclonedx.org/bom\" }", "", ""},
		"cosign new":        {"package signature\ndefault allow := false\nallow if input.predicateType == \"https://cyclonedx.org/bom\"", "", ""},
		"cosign keywords":   {"package signature\nimport future.keywords.if\nimport future.keywords.in\ndefault allow := false\nallow if { \"syft\" in {t.name | t := input.predicate.metadata.tools[_]} }", "", ""},
		"cosign denies":     {"package signature\ndefault allow = false\nallow { input.predicateType == \"x\" }", "ATTESTATION_POLICY", "signature.allow is false"},
		"cosign undefined":  {"package signature\nallow { input.predicateType == \"x\" }", "ATTESTATION_POLICY", "signature.allow is undefined"},
		"cosign helper":     {"package signature\nallow { any([input.predicate.specVersion == \"1.4\", false]) }", "", ""},
		"sigstore":          {"package sigstore\nisCompliant { input.predicate.metadata.tools[_].name == \"syft\" }", "", ""},
		"sigstore false":    {"package sigstore\ndefault isCompliant = false\nisCompliant { input.predicate.metadata.tools[_].name == \"trivy\" }", "ATTESTATION_POLICY", "sigstore.isCompliant is false"},
		"sigstore new":      {"package sigstore\nisCompliant if input.predicate.specVersion == \"1.4\"", "", ""},
		"sigstore message":  {"package sigstore\nisCompliant[r] { input.predicate.specVersion != \"1.5\"\nr = {\"result\": false, \"error\": \"want 1.5\"} }", "ATTESTATION_POLICY", "want 1.5"},
		"sigstore result":   {"package sigstore\nisCompliant[r] { r = {\"result\": true, \"warning\": \"old\"} }", "", ""},
		"sigstore one of":   {"package sigstore\nisCompliant[r] { r = {\"result\": true} }\nisCompliant[r] { r = {\"result\": false, \"error\": \"x\"} }", "", ""},
		"sigstore text":     {"package sigstore\nisCompliant = \"true\" { true }", "POLICY_EVAL", "must be a boolean"},
		"sigstore strings":  {"package sigstore\nisCompliant[r] { r = \"ok\" }", "POLICY_EVAL", "objects with result"},
		"sigstore text res": {"package sigstore\nisCompliant[r] { r = {\"result\": \"true\"} }", "POLICY_EVAL", "objects with result"},
		"sigstore empty":    {"package sigstore\nisCompliant[r] { input.nothing\nr = {\"result\": true} }", "ATTESTATION_POLICY", "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := rego.CompileAttestation(files(tc.text), rego.AttestationOptions{Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			d, err := a.Check(t.Context(), []byte(sbom))
			if err != nil {
				t.Fatal(err)
			}
			if tc.code == "" {
				if !d.Allowed {
					t.Error(d.Reasons)
				}
				return
			}
			if d.Allowed || d.Reasons[0].Code != tc.code || !strings.Contains(d.Reasons[0].Message, tc.message) {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestAttestationRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"package":      "package other\nallow := true",
		"both":         "package signature\nallow {",
		"gate package": "package hallmark.signing\nallow := true",
		"deny":         "package hallmark.attestation\nallow := true\ndeny contains \"no\"",
		"http":         "package signature\nallow { http.send({\"url\": \"http://127.0.0.1\", \"method\": \"get\"}).status_code == 200 }",
		"env":          "package sigstore\nisCompliant { opa.runtime().env.X }",
		"data":         "package sigstore\nisCompliant { data.other.x }",
		"empty":        "",
	} {
		if _, err := rego.CompileAttestation(files(text), rego.AttestationOptions{}); !errors.As(err, new(*rego.CompileError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := map[string][]byte{"a.rego": []byte("package signature\nallow := true"), "b.rego": []byte("package sigstore\nisCompliant := true")}
	if _, err := rego.CompileAttestation(two, rego.AttestationOptions{}); err == nil {
		t.Error("two deciding packages were accepted")
	}
	a, err := rego.CompileAttestation(files("package signature\nallow := true"), rego.AttestationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"", "[]", "null", "null x", "{", "{} {}", `"x"`, `{"a":1,"a":2}`} {
		if d, err := a.Check(t.Context(), []byte(statement)); err != nil || d.Allowed {
			t.Errorf("%q: %v %v", statement, d, err)
		}
	}
}

func TestReadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.rego": "package hallmark.signing\nallow := true", "a_test.rego": "package x", "data.json": "{}", "allowed_signers": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := rego.ReadFiles(dir)
	if err != nil || len(got) != 2 {
		t.Fatal(len(got), err)
	}
	if _, err := rego.Compile(got, rego.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := rego.ReadFiles(filepath.Join(dir, "b.rego")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// Rules that would not be read are no policy that nobody enforces.
	for _, name := range []string{"more/deny.rego", "deny.Rego"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "more"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"a.rego", name} {
			if err := os.WriteFile(filepath.Join(dir, n), []byte("package x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := rego.ReadFiles(dir); err == nil || !strings.Contains(err.Error(), "overlooked") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rego.ReadFiles(t.TempDir()); err == nil {
		t.Error("an empty folder is a policy")
	}
}
