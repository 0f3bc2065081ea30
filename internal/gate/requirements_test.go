package gate_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

const issuer = "https://issuer.example"

var (
	alice = policy.Fact{Signer: evidence.Signer{Identity: "alice@example.org", Issuer: issuer}, PredicateType: evidence.PredicateSign, Annotations: map[string]string{"real": "true", "commit": "c1"}}
	byKey = policy.Fact{Signer: evidence.Signer{Key: "sha256:00"}, PredicateType: evidence.PredicateSign}
	sbom  = policy.Fact{Signer: evidence.Signer{Identity: "alice@example.org", Issuer: issuer}, PredicateType: evidence.PredicateCycloneDX, Predicate: []byte(`{}`), Statement: []byte(`{"predicate":{}}`)}
)

// only accepts the one statement that it holds; with warn it says so.
type only string

func (o only) Check(_ context.Context, statement []byte) (policy.Decision, error) {
	if string(o) == string(statement) {
		return policy.Decision{Allowed: true}, nil
	}
	return policy.Deny(policy.Reason{Code: gate.CodeAttestationPolicy, Message: "predicate.x: wrong"}), nil
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	who := []policy.Identity{{Subject: "alice@example.org", Issuer: issuer}}
	for name, tc := range map[string]struct {
		q            gate.Requirements
		signatures   []policy.Fact
		attestations []policy.Fact
		code, text   string // "" allows
	}{
		"identity":               {gate.Requirements{Identities: who}, []policy.Fact{byKey, alice}, nil, "", ""},
		"key":                    {gate.Requirements{Keys: true}, []policy.Fact{byKey}, nil, "", ""},
		"key or identity":        {gate.Requirements{Keys: true, Identities: who}, []policy.Fact{alice}, nil, "", ""},
		"annotations":            {gate.Requirements{Identities: who, Annotations: map[string]string{"real": "true"}}, []policy.Fact{alice}, nil, "", ""},
		"attested":               {gate.Requirements{Identities: who, AttestationType: evidence.PredicateCycloneDX}, nil, []policy.Fact{sbom}, "", ""},
		"attested and judged":    {gate.Requirements{Identities: who, AttestationType: evidence.PredicateCycloneDX, AttestationPolicies: []gate.StatementPolicy{only(`{"predicate":{}}`)}}, nil, []policy.Fact{sbom}, "", ""},
		"nothing demanded":       {gate.Requirements{}, []policy.Fact{alice}, nil, "IDENTITY_NOT_PINNED", "found: alice@example.org (issuer https://issuer.example)"},
		"only annotations":       {gate.Requirements{Annotations: map[string]string{"real": "true"}}, []policy.Fact{alice}, nil, "IDENTITY_NOT_PINNED", ""},
		"only a policy":          {gate.Requirements{AttestationType: evidence.PredicateCycloneDX, AttestationPolicies: []gate.StatementPolicy{only(`{"predicate":{}}`)}}, nil, []policy.Fact{sbom}, "IDENTITY_NOT_PINNED", ""},
		"unsigned":               {gate.Requirements{Identities: who}, nil, nil, "NOT_SIGNED", "there is no signature of r.example/a:1"},
		"an SBOM is no sign":     {gate.Requirements{Identities: who}, nil, []policy.Fact{sbom}, "NOT_SIGNED", "does not count"},
		"a signature is no SBOM": {gate.Requirements{Identities: who, AttestationType: evidence.PredicateCycloneDX}, []policy.Fact{alice}, nil, "NO_ATTESTATION", "does not count"},
		"another type":           {gate.Requirements{Identities: who, AttestationType: evidence.PredicateSPDX}, nil, []policy.Fact{sbom}, "NO_ATTESTATION", ""},
		"stranger":               {gate.Requirements{Identities: []policy.Identity{{Subject: "bob@example.org", Issuer: issuer}}}, []policy.Fact{alice}, nil, "WRONG_IDENTITY", "signature by alice@example.org (issuer https://issuer.example); wanted bob@example.org"},
		"other issuer":           {gate.Requirements{Identities: []policy.Identity{{Subject: "alice@example.org", Issuer: "https://other.example"}}}, []policy.Fact{alice}, nil, "WRONG_IDENTITY", ""},
		"key is no identity":     {gate.Requirements{Identities: []policy.Identity{{SubjectRegexp: "^.*$", IssuerRegexp: "^.*$"}}}, []policy.Fact{byKey}, nil, "WRONG_IDENTITY", "key sha256:00"},
		"identity is no key":     {gate.Requirements{Keys: true}, []policy.Fact{alice}, nil, "WRONG_IDENTITY", "the given key"},
		"annotation":             {gate.Requirements{Identities: who, Annotations: map[string]string{"real": "false"}}, []policy.Fact{alice}, nil, "ANNOTATION_MISMATCH", "real=false; found commit=c1, real=true"},
		"annotation missing":     {gate.Requirements{Identities: who, Annotations: map[string]string{"nothing": ""}}, []policy.Fact{alice}, nil, "ANNOTATION_MISMATCH", ""},
		"annotations of two":     {gate.Requirements{Identities: who, Annotations: map[string]string{"real": "true", "x": "y"}}, []policy.Fact{alice, {Signer: alice.Signer, Annotations: map[string]string{"x": "y"}}}, nil, "ANNOTATION_MISMATCH", ""},
		"content":                {gate.Requirements{Identities: who, AttestationType: evidence.PredicateCycloneDX, AttestationPolicies: []gate.StatementPolicy{only(`{"predicate":{}}`), only("x")}}, nil, []policy.Fact{sbom}, "ATTESTATION_POLICY", "predicate.x: wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := policy.Input{Kind: "image", Image: &policy.Image{Ref: "r.example/a:1", Digest: evidence.SHA256(nil)}, Signatures: tc.signatures, Attestations: tc.attestations}
			d, err := tc.q.Evaluate(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != (tc.code == "") || d.Allowed != (len(d.Reasons) == 0) {
				t.Fatalf("%+v", d)
			}
			if tc.code != "" && (d.Reasons[0].Code != tc.code || !strings.Contains(d.Reasons[0].Message, tc.text)) {
				t.Errorf("got %s", d.Reasons[0])
			}
		})
	}
	bad := gate.Requirements{Identities: []policy.Identity{{Subject: "a", IssuerRegexp: "b"}}}
	if bad.Check() == nil {
		t.Error("an unanchored expression was accepted")
	}
	if d, err := bad.Evaluate(t.Context(), policy.Input{}); err == nil || d.Allowed {
		t.Error("an unanchored expression decided", d)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	none := []policy.Reason{{Code: gate.CodeNotSigned}}
	broken := []policy.Reason{{Code: "LOG_PROOF_BAD", Message: "x"}}
	if got := gate.Explain(none, broken); len(got) != 1 || got[0].Code != "LOG_PROOF_BAD" {
		t.Error(got)
	}
	if got := gate.Explain(none, nil); len(got) != 1 || got[0].Code != gate.CodeNotSigned {
		t.Error(got)
	}
	stranger := []policy.Reason{{Code: gate.CodeWrongIdentity}}
	if got := gate.Explain(stranger, broken); len(got) != 1 || got[0].Code != gate.CodeWrongIdentity {
		t.Error(got)
	}
}
