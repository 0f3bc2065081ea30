package issuers_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

// TestIssuerClaimSpeaksForNoOther: an issuer whose tokens name another one does not name
// our own, nor one whose tokens we take for other names than people's.
func TestIssuerClaimSpeaksForNoOther(t *testing.T) {
	t.Parallel()
	s := es256(t)
	c, err := issuers.ParseConfig("ca.yaml", []byte(entry("type: email", "issuer-claim: $.federated_claims.connector_id")+`
  https://accounts.example.com: {issuer-url: "https://accounts.example.com", client-id: sigstore, type: email}
  https://jobs.example.com/x: {issuer-url: "https://jobs.example.com/x", client-id: sigstore, type: buildkite-job}
meta-issuers:
  https://*.Clusters.example.com/id/*: {client-id: sigstore, type: kubernetes}
`), ownIssuer)
	if err != nil {
		t.Fatal(err)
	}
	for n := range c.Issuers {
		c.Issuers[n].Keys, c.Issuers[n].Algorithms = s, []string{s.alg}
	}
	set, err := issuers.New(issuers.Config{Issuers: c.Issuers, Own: ownIssuer})
	if err != nil {
		t.Fatal(err)
	}
	for named, ok := range map[string]bool{
		issuer:                                  true, // itself
		"https://github.com/login/oauth":        true,
		"github":                                true,
		"https://accounts.example.com":          true, // as Fulcio's own configuration has it
		"https://jobs.example.com":              true,
		"https://jobs.example.com/x/y":          true,
		"https://a.clusters.example.com/id/":    true,
		"https://a.b.clusters.example.com/id/1": true,
		ownIssuer:                               false,
		ownIssuer + "/":                         false,
		strings.ToUpper(ownIssuer):              false,
		" " + ownIssuer + " ":                   false,
		"https://jobs.example.com/x":            false,
		"https://Jobs.example.com/x//":          false,
		"https://a.Clusters.example.com/id/1":   false,
		"https://a.clusters.example.com/id/1/":  false,
	} {
		id, err := set.Authenticate(t.Context(), s.token(t, claims(issuer, map[string]any{"email": "boss@example.com", "email_verified": true,
			"federated_claims": map[string]any{"connector_id": named}})))
		if (err == nil) != ok || ok && id.Extensions.Issuer != named || !ok && !strings.Contains(err.Error(), `claim "federated_claims.connector_id"`) {
			t.Errorf("%q: %q, %v", named, id.Extensions.Issuer, err)
		}
	}
}
