package clusterimage_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/policy/cuelang"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// compilers are the real ones.
func compilers() clusterimage.Compilers {
	return clusterimage.Compilers{
		CUE: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return cuelang.Compile(file+".cue", text)
		},
		Rego: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return rego.CompileAttestation(map[string][]byte{file + ".rego": text}, rego.AttestationOptions{})
		},
	}
}

func parse(text string) (*clusterimage.Set, error) {
	return clusterimage.Parse([]clusterimage.File{{Name: "p.yaml", Data: []byte(text)}}, compilers())
}

func mustParse(t *testing.T, text string) *clusterimage.Set {
	t.Helper()
	s, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cip is a policy named name for globs r.example/** with authorities in YAML flow style.
func cip(name, authorities string, more ...string) string {
	return fmt.Sprintf(`apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: %s}
spec:
  images: [{glob: "r.example/**"}]
  authorities: %s
%s---
`, name, authorities, strings.Join(more, ""))
}

const (
	issuer = "https://issuer.example"
	alice  = `{keyless: {identities: [{issuer: "https://issuer.example", subject: alice@example.org}]}}`
)

var img = policy.Image{Ref: "r.example/a/b:1", Host: "r.example", Repo: "a/b", Tag: "1", Digest: evidence.SHA256(nil)}

// proven answers with facts that are already there.
type proven map[string]clusterimage.Facts

func (p proven) Facts(_ context.Context, t clusterimage.Trust) (clusterimage.Facts, error) {
	return p[t.String()], nil
}

// unreachableProver fails as a registry that does not answer.
type unreachableProver struct{}

var errUnreachable = errors.New("r.example: no answer")

func (unreachableProver) Facts(context.Context, clusterimage.Trust) (clusterimage.Facts, error) {
	return clusterimage.Facts{}, errUnreachable
}

func signedBy(names ...string) clusterimage.Facts {
	var f clusterimage.Facts
	for _, n := range names {
		f.Signatures = append(f.Signatures, policy.Fact{Format: evidence.FormatBundle03, Signer: evidence.Signer{Identity: n, Issuer: issuer}})
	}
	return f
}

const sbom = `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://cyclonedx.org/bom","predicate":{"specVersion":"1.4","metadata":{"tools":[{"name":"syft"}]}}}`

func attestedBy(name string) clusterimage.Facts {
	f := signedBy("alice@example.org")
	f.Attestations = []policy.Fact{{PredicateType: evidence.PredicateCycloneDX, Statement: []byte(sbom), Signer: evidence.Signer{Identity: name, Issuer: issuer}}}
	return f
}

const publicGood = "Sigstore's public good instance"

func TestEvaluate(t *testing.T) {
	t.Parallel()
	sbomPolicy := func(kind, text string) string {
		return `{name: sbom, keyless: {identities: [{issuer: "https://issuer.example", subject: alice@example.org}]}, attestations: [{name: must-have, predicateType: "https://cyclonedx.org/bom", policy: {type: ` + kind + `, data: "` + text + `"}}]}`
	}
	for name, tc := range map[string]struct {
		policies string
		facts    clusterimage.Facts
		want     []string // beginnings of reasons, none allows
	}{
		"static pass":          {cip("p", "[{static: {action: pass}}]"), clusterimage.Facts{}, nil},
		"static fail":          {cip("p", "[{static: {action: fail, message: frozen for the holidays}}]"), clusterimage.Facts{}, []string{"STATIC_FAIL policy p, authority authority-0: disallowed by static policy: frozen for the holidays"}},
		"pass and fail":        {cip("p", "[{static: {action: pass}}]") + cip("q", "[{static: {action: fail}}]"), clusterimage.Facts{}, []string{"STATIC_FAIL policy q"}},
		"pass or fail":         {cip("p", "[{static: {action: fail}}, {static: {action: pass}}]"), clusterimage.Facts{}, nil},
		"warn":                 {cip("p", "[{static: {action: fail}}]", "  mode: warn\n"), clusterimage.Facts{}, nil},
		"signed":               {cip("p", "["+alice+"]"), signedBy("bob@example.org", "alice@example.org"), nil},
		"unsigned":             {cip("p", "["+alice+"]"), clusterimage.Facts{}, []string{"NO_SIGNATURES policy p, authority authority-0: no signatures found; wanted one by alice@example.org (issuer https://issuer.example)"}},
		"stranger":             {cip("p", "["+alice+"]"), signedBy("bob@example.org"), []string{"WRONG_IDENTITY policy p, authority authority-0: signed by bob@example.org (issuer https://issuer.example); wanted alice@example.org"}},
		"tampered":             {cip("p", "["+alice+"]"), clusterimage.Facts{Rejected: []policy.Reason{{Code: "LOG_PROOF_BAD", Message: "x"}}}, []string{"LOG_PROOF_BAD policy p, authority authority-0: no valid signature: x"}},
		"either":               {cip("p", `[`+strings.ReplaceAll(alice, "alice", "carol")+`, `+alice+`]`), signedBy("alice@example.org"), nil},
		"both fail":            {cip("p", `[`+strings.ReplaceAll(alice, "alice", "carol")+`, `+alice+`]`), signedBy("bob@example.org"), []string{"WRONG_IDENTITY policy p, authority authority-0", "WRONG_IDENTITY policy p, authority authority-1"}},
		"attested":             {cip("p", "["+sbomPolicy("cue", "predicate: specVersion: \\\"1.4\\\"")+"]"), attestedBy("alice@example.org"), nil},
		"attested rego":        {cip("p", "["+sbomPolicy("rego", "package sigstore\\nisCompliant { input.predicate.specVersion == \\\"1.4\\\" }")+"]"), attestedBy("alice@example.org"), nil},
		"attested other":       {cip("p", "["+sbomPolicy("cue", "predicate: metadata: tools: [{name: \\\"trivy\\\"}]")+"]"), attestedBy("alice@example.org"), []string{`ATTESTATION_POLICY policy p, authority sbom: attestation must-have: predicate.metadata.tools.0.name: conflicting values "syft" and "trivy"`}},
		"attested rego other":  {cip("p", "["+sbomPolicy("rego", "package sigstore\\nisCompliant[r] { r := {\\\"result\\\": false, \\\"error\\\": \\\"must be trivy\\\"} }")+"]"), attestedBy("alice@example.org"), []string{"ATTESTATION_POLICY policy p, authority sbom: attestation must-have: must be trivy"}},
		"attested by stranger": {cip("p", "["+sbomPolicy("cue", "predicate: {}")+"]"), attestedBy("mallory@example.org"), []string{"WRONG_IDENTITY policy p, authority sbom: attestation must-have: https://cyclonedx.org/bom is attested by mallory@example.org"}},
		"attested otherwise":   {cip("p", "["+strings.Replace(sbomPolicy("cue", "predicate: {}"), "https://cyclonedx.org/bom", "https://spdx.dev/Document", 1)+"]"), attestedBy("alice@example.org"), []string{"NO_ATTESTATION policy p, authority sbom: attestation must-have: no attestation of type https://spdx.dev/Document"}},
		"attested twice over":  {cip("p", "["+strings.Replace(sbomPolicy("cue", "predicate: {}"), "attestations: [", "attestations: [{name: more, predicateType: vuln}, ", 1)+"]"), attestedBy("alice@example.org"), []string{"NO_ATTESTATION policy p, authority sbom: attestation more"}},
		"not attested":         {cip("p", "["+sbomPolicy("cue", "predicate: {}")+"]"), signedBy("alice@example.org"), []string{"NO_ATTESTATION policy p, authority sbom: attestation must-have: no attestation of type https://cyclonedx.org/bom"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := mustParse(t, tc.policies).Evaluate(t.Context(), img, proven{publicGood: tc.facts})
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != (len(tc.want) == 0) || len(d.Reasons) != len(tc.want) {
				t.Fatalf("%+v", d)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(d.Reasons[i].String(), want) {
					t.Errorf("got %s, want %s", d.Reasons[i], want)
				}
			}
		})
	}
}

// silent denies without a reason, which a policy should not do and may.
type silent struct{}

func (silent) Check(context.Context, []byte) (policy.Decision, error) { return policy.Decision{}, nil }

// A denial without a reason is a denial.
func TestSilentDenial(t *testing.T) {
	t.Parallel()
	c := clusterimage.Compilers{CUE: func(string, []byte) (clusterimage.StatementPolicy, error) { return silent{}, nil }}
	text := cip("p", `[{keyless: {identities: [{issuer: "https://issuer.example", subject: alice@example.org}]}, attestations: [{name: a, predicateType: "https://cyclonedx.org/bom", policy: {type: cue, data: x}}]}]`)
	s, err := clusterimage.Parse([]clusterimage.File{{Name: "p.yaml", Data: []byte(text)}}, c)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Evaluate(t.Context(), img, proven{publicGood: attestedBy("alice@example.org")}); err != nil || d.Allowed || len(d.Reasons) == 0 {
		t.Errorf("%+v %v", d, err)
	}
}

func TestEvaluateEdges(t *testing.T) {
	t.Parallel()
	s := mustParse(t, cip("p", "["+alice+"]"))
	if d, err := s.Evaluate(t.Context(), img, unreachableProver{}); !errors.Is(err, errUnreachable) || d.Allowed {
		t.Error("unreachable:", d, err)
	}
	both := mustParse(t, cip("p", "["+alice+"]")+cip("q", "[{static: {action: fail}}]"))
	if d, err := both.Evaluate(t.Context(), img, unreachableProver{}); err != nil || d.Allowed || d.Reasons[0].Code != "STATIC_FAIL" {
		t.Error("a denial that is certain:", d, err)
	}
	if d, err := s.Evaluate(t.Context(), img, proven{publicGood: {Missing: errUnreachable}}); !errors.Is(err, errUnreachable) || d.Allowed {
		t.Error("evidence that could not be fetched:", d, err)
	}
	there := signedBy("alice@example.org")
	there.Missing = errUnreachable
	if d, err := s.Evaluate(t.Context(), img, proven{publicGood: there}); err != nil || !d.Allowed {
		t.Error("enough evidence beside some that could not be fetched:", d, err)
	}
	other := img
	other.Host = "other.example"
	d, err := s.Evaluate(t.Context(), other, proven{})
	if err != nil || d.Allowed || d.Reasons[0].Code != "NO_MATCHING_POLICY" || !strings.Contains(d.Reasons[0].Message, "other.example/a/b@sha256:") {
		t.Error(d, err)
	}
	warned, err := mustParse(t, cip("p", "["+alice+"]", "  mode: warn\n")).Evaluate(t.Context(), img, proven{})
	if err != nil || !warned.Allowed || len(warned.Warnings) != 1 || warned.Warnings[0].Code != "NO_SIGNATURES" {
		t.Error(warned, err)
	}
	byTag := mustParse(t, strings.Replace(cip("p", "[{static: {action: pass}}]"), "r.example/**", "r.example/a/b:1**", 1))
	if d, err := byTag.Evaluate(t.Context(), img, proven{}); err != nil || d.Allowed || !strings.Contains(d.Reasons[0].Hint, "names a tag") {
		t.Error("a tag beside a digest is only a claim:", d, err)
	}
}

func TestKeyAuthority(t *testing.T) {
	t.Parallel()
	private, err := key.Generate(key.Algorithms()[0])
	if err != nil {
		t.Fatal(err)
	}
	pem, err := key.PublicPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := mustParse(t, cip("p", `[{name: k, key: {hashAlgorithm: sha256, data: "`+strings.ReplaceAll(string(pem), "\n", "\\n")+`"}}]`))
	fingerprint := key.Fingerprint(private.Public())
	facts := clusterimage.Facts{Signatures: []policy.Fact{{Signer: evidence.Signer{Key: fingerprint}}}}
	if d, err := s.Evaluate(t.Context(), img, proven{"key " + fingerprint: facts}); err != nil || !d.Allowed {
		t.Error(d, err)
	}
	facts.Signatures[0].Signer.Key = key.Fingerprint(nil)
	if d, err := s.Evaluate(t.Context(), img, proven{"key " + fingerprint: facts}); err != nil || d.Allowed {
		t.Error("another key:", d, err)
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	digest := "@" + string(evidence.SHA256(nil))
	for _, tc := range []struct {
		glob, name string
		match      bool
	}{
		{"*", "index.docker.io/library/busybox" + digest, true},
		{"*", "index.docker.io/user/app" + digest, false},
		{"*", "r.example/app" + digest, false},
		{"*/*", "index.docker.io/user/app" + digest, true},
		{"*/*", "ghcr.io/user/app" + digest, false},
		{"*/*", "ghcr.io/app" + digest, false},
		{"**", "ghcr.io/a/b/c" + digest, true},
		{"*/**", "ghcr.io/a/b/c" + digest, true},
		{"ghcr.io/org/*", "ghcr.io/org/app" + digest, true},
		{"ghcr.io/org/*", "ghcr.io/org/team/app" + digest, false},
		{"ghcr.io/org/**", "ghcr.io/org/team/app" + digest, true},
		{"ghcr.io/org/**", "ghcr.io/organisation/app" + digest, false},
		{"ghcr.io/org*/**", "ghcr.io/organisation/app" + digest, true},
		{"ghcr.io/org/app", "ghcr.io/org/app" + digest, false}, // anchored: the digest is part of the name
		{"ghcr.io/org/app*", "ghcr.io/org/app" + digest, true},
		{"ghcr.io/org/app@*", "ghcr.io/org/app" + digest, true},
		{"ghcr.io/org/app" + digest, "ghcr.io/org/app" + digest, true},
		{"ghcr.io/org/app:v1*", "ghcr.io/org/app" + digest, false},
		{"ghcr.io/**", "ghcr-io/a" + digest, false},  // a dot is a dot
		{"ghcr.io/**", "xghcr.io/a" + digest, false}, // anchored at the front
		{"***", "ghcr.io/a" + digest, true},
		{"r:5000/**", "r:5000/a" + digest, true},
		{"docker.io/library/*", "index.docker.io/library/busybox" + digest, false},
	} {
		g, err := clusterimage.ParseGlob(tc.glob)
		if err != nil {
			t.Fatal(tc.glob, err)
		}
		if g.Match(tc.name) != tc.match {
			t.Errorf("%s on %s: %v", tc.glob, tc.name, !tc.match)
		}
	}
	for _, bad := range []string{"", "[", "a b", "a|b", "a$", "^a", "(a)", "a?", "a\\", "ä", "a\n", "#", strings.Repeat("a", 2000)} {
		if _, err := clusterimage.ParseGlob(bad); err == nil {
			t.Errorf("%.10q was accepted", bad)
		}
	}
	if n := clusterimage.FullName("docker.io", "library/busybox", "sha256:00"); n != "index.docker.io/library/busybox@sha256:00" {
		t.Error(n)
	}
}

// TestRefused: what is not understood is never skipped.
func TestRefused(t *testing.T) {
	t.Parallel()
	spec := func(s string) string {
		return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec: {images: [{glob: \"**\"}], " + s + "}\n"
	}
	auth := func(s string) string { return spec("authorities: [" + s + "]") }
	keyless := func(s string) string { return auth("{keyless: {" + s + "}}") }
	identity := func(s string) string { return keyless("identities: [{" + s + "}]") }
	att := func(s string) string {
		return auth(`{keyless: {identities: [{issuer: i, subject: s}]}, attestations: [{` + s + `}]}`)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"no policy":           {"", "no ClusterImagePolicy"},
		"unknown field":       {spec("authoritys: []"), "p.yaml:4: spec.authoritys: unknown field"},
		"case":                {spec("Authorities: []"), "spelled authorities"},
		"no images":           {strings.Replace(auth("{static: {action: pass}}"), `{glob: "**"}`, "", 1), "images is missing"},
		"bad glob":            {strings.Replace(auth("{static: {action: pass}}"), `"**"`, `"a b"`, 1), "spec.images[0]: invalid glob"},
		"no authorities":      {spec("authorities: []"), "authorities is missing"},
		"match":               {spec("authorities: [{static: {action: pass}}], match: []"), "spec.match: this field is not supported yet"},
		"policy":              {spec("authorities: [{static: {action: pass}}], policy: {type: rego}"), "spec.policy: data is missing"},
		"policy of CUE":       {spec("authorities: [{static: {action: pass}}], policy: {type: cue, data: \"authorityMatches: {}\"}"), "type cue is not supported yet"},
		"policy of files":     {spec("authorities: [{static: {action: pass}}], policy: {type: rego, data: \"package sigstore\", fetchConfigFile: true}"), "not supported yet"},
		"mode":                {spec("authorities: [{static: {action: pass}}], mode: audit"), `mode "audit"`},
		"no kind of auth":     {auth("{name: a}"), "exactly one of key, keyless and static, have 0"},
		"two kinds of auth":   {auth("{static: {action: pass}, keyless: {identities: [{issuer: i, subject: s}]}}"), "have 2"},
		"two names":           {auth("{name: a, static: {action: pass}}, {name: a, static: {action: fail}}"), "a second authority"},
		"default name twice":  {auth("{static: {action: pass}}, {name: authority-0, static: {action: fail}}"), "a second authority"},
		"action":              {auth("{static: {action: allow}}"), "want pass or fail"},
		"no action":           {auth("{static: {}}"), "want pass or fail"},
		"pass message":        {auth("{static: {action: pass, message: x}}"), "only for action: fail"},
		"static attestations": {auth("{static: {action: pass}, attestations: [{name: a, predicateType: vuln}]}"), "static decides without evidence"},
		"source":              {auth("{static: {action: pass}, source: [{oci: x}]}"), "source: this field is not supported yet"},
		"ctlog":               {auth("{static: {action: pass}, ctlog: {url: https://x}}"), "ctlog: this field is not supported yet"},
		"timestamp":           {auth("{static: {action: pass}, rfc3161timestamp: {}}"), "rfc3161timestamp: this field is not supported yet"},
		"legacy":              {auth("{signatureFormat: legacy, keyless: {identities: [{issuer: i, subject: s}]}}"), "legacy is not supported yet"},
		"format":              {auth("{signatureFormat: notary, keyless: {identities: [{issuer: i, subject: s}]}}"), "want bundle"},
		"no identities":       {keyless("url: https://fulcio.sigstore.dev"), "identities is missing"},
		"no issuer":           {identity("subject: s"), "no issuer"},
		"no subject":          {identity("issuer: i"), "no subject"},
		"both":                {identity("issuer: i, issuerRegExp: ^i$, subject: s"), "issuer is given both"},
		"unanchored":          {identity("issuer: i, subjectRegExp: .*@example.org"), "not anchored"},
		"half anchored":       {identity(`issuer: i, subjectRegExp: "^a|b$"`), "not anchored"},
		"stars":               {identity(`issuerRegExp: "****", subject: s`), "regular expression"},
		"identity typo":       {identity("issuer: i, subjectRegexp: ^.*$"), "spelled subjectRegExp"},
		"ignore SCT":          {keyless("insecureIgnoreSCT: true, identities: [{issuer: i, subject: s}]"), "insecureIgnoreSCT: this field is not supported yet"},
		"ca-cert":             {keyless("ca-cert: {data: x}, identities: [{issuer: i, subject: s}]"), "ca-cert: this field is not supported yet"},
		"url without root":    {keyless("url: https://fulcio.example, identities: [{issuer: i, subject: s}]"), "needs a trustRootRef"},
		"url":                 {keyless("url: fulcio, identities: [{issuer: i, subject: s}]"), "want the http(s) URL"},
		"no such root":        {keyless("trustRootRef: nosuch, identities: [{issuer: i, subject: s}]"), `trustRootRef "nosuch": no TrustRoot`},
		"key data":            {auth("{key: {data: ---somedata---}}"), "data: "},
		"no key":              {auth("{key: {}}"), "data is missing"},
		"kms":                 {auth("{key: {kms: awskms://x}}"), "kms: this field is not supported yet"},
		"secretRef":           {auth("{key: {secretRef: {name: x}}}"), "secretRef: this field is not supported yet"},
		"hash":                {auth("{key: {data: x, hashAlgorithm: sha512}}"), "sha512"},
		"attestation name":    {att("predicateType: vuln"), "name is missing"},
		"attestation type":    {att("name: a"), "predicateType is missing"},
		"attestation no URI":  {att("name: a, predicateType: sbom"), "want a URI"},
		"attestation sign":    {att("name: a, predicateType: \"https://sigstore.dev/cosign/sign/v1\""), "not an attestation"},
		"attestation twice":   {att("name: a, predicateType: vuln}, {name: a, predicateType: spdx"), "a second attestation"},
		"policy type":         {att("name: a, predicateType: vuln, policy: {type: opa, data: x}"), "want cue or rego"},
		"policy empty":        {att("name: a, predicateType: vuln, policy: {type: cue}"), "data is missing"},
		"policy text":         {att("name: a, predicateType: vuln, policy: {type: cue, data: \"a: b\"}"), "data.cue.cue:1"},
		"policy rego":         {att("name: a, predicateType: vuln, policy: {type: rego, data: \"package sigstore\\nallow if\"}"), "data.rego.rego:"},
		"policy remote":       {att("name: a, predicateType: vuln, policy: {type: cue, remote: {url: x}}"), "remote: this field is not supported yet"},
		"policy configMap":    {att("name: a, predicateType: vuln, policy: {type: cue, configMapRef: {name: x}}"), "configMapRef: this field is not supported yet"},
		"fetchConfigFile":     {att("name: a, predicateType: vuln, policy: {type: cue, data: \"predicate: {}\", fetchConfigFile: true}"), "not supported yet"},
		"namespace":           {strings.Replace(auth("{static: {action: pass}}"), "{name: p}", "{name: p, namespace: x}", 1), "metadata.namespace: unknown field"},
		"no name":             {strings.Replace(auth("{static: {action: pass}}"), "{name: p}", "{}", 1), "metadata.name is missing"},
		"no metadata":         {strings.Replace(auth("{static: {action: pass}}"), "metadata: {name: p}\n", "", 1), "metadata.name is missing"},
		"name":                {strings.Replace(auth("{static: {action: pass}}"), "{name: p}", "{name: P/x}", 1), "lower-case"},
		"no spec":             {"apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\n", "spec is missing"},
		"version":             {strings.Replace(auth("{static: {action: pass}}"), "v1beta1", "v1", 1), "is no policy"},
		"kind":                {"apiVersion: v1\nkind: Pod\n", "is no policy"},
		"no kind":             {"spec: {}\n", "apiVersion and kind are missing"},
		"twice":               {auth("{static: {action: pass}}") + "---\n" + auth("{static: {action: pass}}"), "a second ClusterImagePolicy"},
		"duplicate key":       {auth("{static: {action: fail, action: pass}}"), "given twice"},
		"alias":               {auth("{static: &a {action: pass}}"), "anchors"},
		"JSON text":           {"not: [yaml", "not YAML"},
		"root kind":           {"apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: r}\nspec: {}\n", "exactly one of remote and sigstoreKeys"},
		"root repository":     {"apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: r}\nspec: {repository: {root: x}}\n", "repository: this field is not supported yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := clusterimage.Load(dir, compilers()); err == nil {
		t.Error("an empty folder was accepted")
	}
	write("a.yaml", cip("a", "[{static: {action: pass}}]"))
	write("b.yml", cip("b", "["+strings.Replace(alice, "{identities", "{trustRootRef: r, identities", 1)+"]"))
	write("r.json", `{"apiVersion":"policy.sigstore.dev/v1beta1","kind":"TrustRoot","metadata":{"name":"r"},"spec":{"remote":{"mirror":"http://127.0.0.1:1/tuf","root":"e30="}}}`)
	write(".hidden", "not policy")
	s, err := clusterimage.Load(dir, compilers())
	if err != nil || len(s.Policies) != 2 || s.TrustRoots["r"].Remote.Target != "trusted_root.json" {
		t.Fatal(s, err)
	}
	write("b.yaml.disabled", "")
	if _, err := clusterimage.Load(dir, compilers()); err == nil || !strings.Contains(err.Error(), "is no policy file") {
		t.Error(err)
	}
}

// root is a self-made TrustRoot with sigstoreKeys.
func root(t *testing.T, change func(map[string]string)) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	logKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	logPEM, err := key.PublicPEM(logKey)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	f := map[string]string{
		"chain": b64(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "log": b64(logPEM),
		"hash": "sha-256", "url": "https://log.example:8443", "organization": "o",
	}
	change(f)
	return fmt.Sprintf(`apiVersion: policy.sigstore.dev/v1alpha1
kind: TrustRoot
metadata: {name: r}
spec:
  sigstoreKeys:
    certificateAuthorities: [{subject: {organization: %q, commonName: c}, uri: "https://ca.example", certChain: %q}]
    tLogs: [{baseURL: %q, hashAlgorithm: %q, publicKey: %q}]
    ctLogs: [{baseURL: "https://ct.example", hashAlgorithm: sha-256, publicKey: %q}]
---
`, f["organization"], f["chain"], f["url"], f["hash"], f["log"], f["log"])
}

func TestTrustRoot(t *testing.T) {
	t.Parallel()
	rest := cip("p", "["+strings.Replace(alice, "{identities", "{trustRootRef: r, identities", 1)+"]")
	s := mustParse(t, root(t, func(map[string]string) {})+rest)
	r, err := s.TrustRoots["r"].Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.CAs) != 1 || len(r.TLogs) != 1 || len(r.CTLogs) != 1 || r.TLogs[0].Origin != "log.example" || string(r.TLogs[0].ID) == string(r.CTLogs[0].ID) {
		t.Errorf("%+v", r)
	}
	if _, err := s.Evaluate(t.Context(), img, proven{"TrustRoot r": signedBy("alice@example.org")}); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(map[string]string){
		"no chain":    func(f map[string]string) { f["chain"] = "" },
		"base64":      func(f map[string]string) { f["chain"] = "*" },
		"no PEM":      func(f map[string]string) { f["chain"] = "eA==" },
		"key chain":   func(f map[string]string) { f["chain"] = f["log"] },
		"cert log":    func(f map[string]string) { f["log"] = f["chain"] },
		"hash":        func(f map[string]string) { f["hash"] = "sha-512" },
		"url":         func(f map[string]string) { f["url"] = "log" },
		"userinfo":    func(f map[string]string) { f["url"] = "https://a:b@log" },
		"no subject":  func(f map[string]string) { f["organization"] = "" },
		"two in text": func(f map[string]string) { f["log"] += f["log"] },
	} {
		if _, err := parse(root(t, change) + rest); err == nil || !strings.HasPrefix(err.Error(), "p.yaml:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(cip("p", "["+alice+"]")))
	f.Add([]byte(cip("p", "[{static: {action: pass}}]") + "---\nkind: TrustRoot\n"))
	f.Add([]byte("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: r}\nspec: {remote: {mirror: \"http://a\", root: e30=}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := clusterimage.Parse([]clusterimage.File{{Name: "f", Data: data}}, compilers())
		if err != nil {
			return
		}
		for _, p := range s.Policies {
			if len(p.Authorities) == 0 {
				t.Fatal("a policy without authorities")
			}
		}
		if d, err := s.Evaluate(context.Background(), img, proven{}); err == nil && d.Allowed != (len(d.Reasons) == 0) {
			t.Fatal(d)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("ghcr.io/*/app**", "ghcr.io/a/app@sha256:00")
	f.Add("*", "index.docker.io/library/a@sha256:00")
	f.Fuzz(func(t *testing.T, glob, name string) {
		g, err := clusterimage.ParseGlob(glob)
		if err != nil || !g.Match(name) {
			return
		}
		// What a glob without stars matches is itself.
		if !strings.Contains(glob, "*") && glob != name {
			t.Fatalf("%q matches %q", glob, name)
		}
		if head, _, ok := strings.Cut(glob, "*"); ok && glob != "*" && glob != "*/*" && !strings.HasPrefix(name, head) {
			t.Fatalf("%q matches %q, which begins otherwise", glob, name)
		}
	})
}
