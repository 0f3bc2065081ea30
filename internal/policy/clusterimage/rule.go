package clusterimage

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// match is what one authority matched, as spec.policy sees it at
// authorityMatches.NAME (policy-controller, AuthorityMatch). A matched signature has
// no id: the one of policy-controller is the digest of a layer that bundles do not have.
type match struct {
	Signatures   []matchedFact            `json:"signatures,omitempty"`
	Attestations map[string][]matchedFact `json:"attestations,omitempty"` // by the attestation's name
	Static       bool                     `json:"static,omitempty"`
}

// matchedFact is who signed, and of a job of GitHub the extensions 1.3.6.1.4.1.57264.1.2
// to .6 of the certificate. All are missing for a key.
type matchedFact struct {
	Subject       string `json:"subject,omitempty"`
	Issuer        string `json:"issuer,omitempty"`
	PredicateType string `json:"predicateType,omitempty"`
	Trigger       string `json:"githubWorkflowTrigger,omitempty"`
	SHA           string `json:"githubWorkflowSha,omitempty"`
	Name          string `json:"githubWorkflowName,omitempty"`
	Repository    string `json:"githubWorkflowRepo,omitempty"`
	Ref           string `json:"githubWorkflowRef,omitempty"`
}

// matched are those of the facts that the authority accepts.
func (a *Authority) matched(facts []policy.Fact) []matchedFact {
	var out []matchedFact
	for _, f := range facts {
		if !a.accepts(f) {
			continue
		}
		x := f.Signer.Extensions
		m := matchedFact{Subject: f.Signer.Identity, Issuer: f.Signer.Issuer, Trigger: x["githubWorkflowTrigger"], SHA: x["githubWorkflowSHA"],
			Name: x["githubWorkflowName"], Repository: x["githubWorkflowRepository"], Ref: x["githubWorkflowRef"]}
		if len(a.Attestations) > 0 {
			m.PredicateType = f.PredicateType
		}
		out = append(out, m)
	}
	return out
}

// ruled judges what the authorities matched by the policy's own rule.
func (p *Policy) ruled(ctx context.Context, name string, matches map[string]match) (policy.Decision, error) {
	text, err := json.Marshal(map[string]any{"authorityMatches": matches})
	if err != nil {
		return policy.Decision{}, err
	}
	d, err := p.Rule.Check(ctx, text)
	for i := range d.Reasons {
		d.Reasons[i].Message = fmt.Sprintf("policy %s: what its authorities matched is refused by spec.policy: %s", p.Name, d.Reasons[i].Message)
		d.Reasons[i].Subject = name
	}
	for i := range d.Warnings {
		d.Warnings[i].Message = "policy " + p.Name + ": " + d.Warnings[i].Message
	}
	return d, err
}
