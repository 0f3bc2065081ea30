package clusterimage_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
)

// TestRule: spec.policy judges what the authorities matched, and nobody else's signature.
func TestRule(t *testing.T) {
	t.Parallel()
	of := func(name, repository string) clusterimage.Facts {
		f := signedBy(name)
		f.Signatures[0].Signer.Extensions = map[string]string{"githubWorkflowRepository": repository, "githubWorkflowTrigger": "push",
			"githubWorkflowSHA": "0a", "githubWorkflowName": "release", "githubWorkflowRef": "refs/heads/main"}
		return f
	}
	both := of("alice@example.org", "evil/app")
	both.Signatures = append(both.Signatures, of("bob@example.org", "acme/app").Signatures...)
	named := strings.Replace(alice, "{keyless", "{name: builder, keyless", 1)
	rego := func(rule string) string {
		return "  policy: {type: rego, data: " + quoted("package sigstore\nimport future.keywords.if\ndefault isCompliant := false\nisCompliant if { "+rule+" }\n") + "}\n"
	}
	ours := rego(`input.authorityMatches.builder.signatures[_].githubWorkflowRepo == "acme/app"`)
	sbomOf := strings.Replace(named, "}]}}", `}]}, attestations: [{name: sbom, predicateType: "https://cyclonedx.org/bom"}]}`, 1)
	for name, c := range map[string]struct {
		authorities, rule string
		facts             clusterimage.Facts
		want              string // code of the denial
	}{
		"ours":             {"[" + named + "]", ours, of("alice@example.org", "acme/app"), ""},
		"another's":        {"[" + named + "]", ours, of("alice@example.org", "evil/app"), "ATTESTATION_POLICY"},
		"nearly":           {"[" + named + "]", ours, of("alice@example.org", "acme/app2"), "ATTESTATION_POLICY"},
		"no job":           {"[" + named + "]", ours, signedBy("alice@example.org"), "ATTESTATION_POLICY"},
		"by who is not":    {"[" + named + "]", ours, both, "ATTESTATION_POLICY"},
		"signed by nobody": {"[" + named + "]", ours, clusterimage.Facts{}, "NO_SIGNATURES"},
		"all extensions": {"[" + named + "]", rego(`s := input.authorityMatches.builder.signatures[0]; s.subject == "alice@example.org"; s.issuer == "` + issuer +
			`"; s.githubWorkflowTrigger == "push"; s.githubWorkflowSha == "0a"; s.githubWorkflowName == "release"; s.githubWorkflowRef == "refs/heads/main"`), of("alice@example.org", "acme/app"), ""},
		"each authority": {"[" + named + ", {name: any, static: {action: pass}}]", rego(`input.authorityMatches.builder.signatures; input.authorityMatches["any"].static`), of("alice@example.org", "x/y"), ""},
		"only who fits":  {"[" + named + ", {name: any, static: {action: pass}}]", rego(`input.authorityMatches.builder`), signedBy("bob@example.org"), "WRONG_IDENTITY"},
		"attested":       {"[" + sbomOf + "]", rego(`input.authorityMatches.builder.attestations.sbom[_].predicateType == "https://cyclonedx.org/bom"`), attestedBy("alice@example.org"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := mustParse(t, cip("p", c.authorities, c.rule)).Evaluate(t.Context(), img, proven{publicGood: c.facts})
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != (c.want == "") || c.want != "" && d.Reasons[0].Code != c.want {
				t.Fatalf("%+v", d)
			}
		})
	}
	// What one authority cannot say is not made up for by a rule that refuses the others.
	text := cip("p", "[{name: any, static: {action: pass}}, "+named+"]", ours)
	if _, err := mustParse(t, text).Evaluate(t.Context(), img, unreachableProver{}); err == nil {
		t.Error("undecided is decided")
	}
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
