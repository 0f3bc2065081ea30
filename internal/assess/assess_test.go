package assess_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

const (
	github = "https://token.actions.githubusercontent.com"
	source = "https://github.com/acme/app"
	docker = "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main"
)

func workflow(issuer, builder, repo, runner string) evidence.Signer {
	return evidence.Signer{Identity: builder, Issuer: issuer, Extensions: map[string]string{
		"buildSignerURI": builder, "sourceRepositoryURI": repo, "runnerEnvironment": runner}}
}

var (
	person  = evidence.Signer{Identity: "alice@example.com", Issuer: "https://accounts.example.com"}
	login   = evidence.Signer{Identity: "alice@example.com", Issuer: "https://github.com/login/oauth"}
	key     = evidence.Signer{Key: "sha256:00"}
	own     = workflow(github, source+"/.github/workflows/release.yml@refs/tags/v1", source, "github-hosted")
	builder = workflow(github, docker, source, "github-hosted")
)

func fact(s evidence.Signer) policy.Fact { return policy.Fact{Signer: s} }

func provenance(s evidence.Signer) policy.Fact {
	return policy.Fact{Signer: s, PredicateType: evidence.PredicateSLSA1, Predicate: []byte(`{"runDetails":{"builder":{"id":"https://b.example"}}}`)}
}

// TestProtections: the table of who protects against what. r: registry
// credentials, f: forge credentials, t: CI token, m: rogue maintainer, d: build
// dependency, h: host leak.
func TestProtections(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		e    assess.Evidence
		want string
	}{
		"nobody":              {assess.Evidence{}, ""},
		"a key":               {assess.Evidence{Counted: []policy.Fact{fact(key)}}, "r"},
		"a person":            {assess.Evidence{Counted: []policy.Fact{fact(person)}}, "rft"},
		"a forge's account":   {assess.Evidence{Counted: []policy.Fact{fact(login)}}, "rt"},
		"own workflow":        {assess.Evidence{Counted: []policy.Fact{fact(own)}}, "r"},
		"a builder":           {assess.Evidence{Counted: []policy.Fact{fact(builder)}}, "rftmh"},
		"builder, provenance": {assess.Evidence{Counted: []policy.Fact{fact(builder)}, Attestations: []policy.Fact{provenance(builder)}}, "rftmdh"},
		"builder, own runner": {assess.Evidence{Counted: []policy.Fact{fact(workflow(github, docker, source, "self-hosted"))}}, "rftm"},
		"the weakest counts":  {assess.Evidence{Counted: []policy.Fact{fact(builder), fact(key)}}, "r"},
		"in any order":        {assess.Evidence{Counted: []policy.Fact{fact(key), fact(builder)}}, "r"},
		"two people":          {assess.Evidence{Counted: []policy.Fact{fact(person), fact(person)}, Threshold: 2}, "rftm"},
		"repository's prefix": {assess.Evidence{Counted: []policy.Fact{fact(workflow(github, source+"-evil/.github/workflows/x.yml@a", source, "github-hosted"))}}, "rftmh"},
		"no source named":     {assess.Evidence{Counted: []policy.Fact{fact(workflow(github, docker, "", "github-hosted"))}}, "r"},
		"a pipeline":          {assess.Evidence{Counted: []policy.Fact{fact(evidence.Signer{Identity: "https://buildkite.com/acme/app", Issuer: "https://agent.buildkite.com"})}}, "r"},
		"an old workflow": {assess.Evidence{Counted: []policy.Fact{fact(evidence.Signer{Identity: own.Identity, Issuer: github,
			Extensions: map[string]string{"githubWorkflowRepository": "acme/app"}})}}, "r"},
		"a workload":        {assess.Evidence{Counted: []policy.Fact{fact(evidence.Signer{Identity: "spiffe://acme.example/build", Issuer: "https://spiffe.acme.example"})}}, "r"},
		"a service account": {assess.Evidence{Counted: []policy.Fact{fact(evidence.Signer{Identity: "build@acme.iam.gserviceaccount.com", Issuer: "https://accounts.google.com"})}}, "r"},
	} {
		got := ""
		for _, p := range assess.Of(tc.e).Protections {
			if p.Shown {
				got += map[string]string{assess.RegistryCredentials: "r", assess.ForgeCredentials: "f", assess.CIToken: "t",
					assess.RogueMaintainer: "m", assess.BuildDependency: "d", assess.HostLeak: "h"}[p.Threat]
			}
			if p.Why == "" {
				t.Errorf("%s: %s says nothing", name, p.Threat)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestSLSA(t *testing.T) {
	t.Parallel()
	bare := evidence.Statement{PredicateType: evidence.PredicateSLSA02, Predicate: []byte(`{"builder":{"id":"https://old.example"}}`)}
	sbom := provenance(builder)
	sbom.PredicateType = evidence.PredicateSPDX
	for name, tc := range map[string]struct {
		e       assess.Evidence
		level   int
		builder string
		text    string
	}{
		"nothing":               {assess.Evidence{Counted: []policy.Fact{fact(builder)}}, 0, "", "level 1"},
		"an SBOM":               {assess.Evidence{Attestations: []policy.Fact{sbom}}, 0, "", "level 1"},
		"unsigned":              {assess.Evidence{Unsigned: []evidence.Statement{bare}}, 1, "https://old.example", "level 2"},
		"by a person":           {assess.Evidence{Attestations: []policy.Fact{provenance(person)}}, 1, "https://b.example", "identity of its own"},
		"by a key":              {assess.Evidence{Attestations: []policy.Fact{provenance(key)}, Unsigned: []evidence.Statement{bare}}, 1, "https://b.example", "identity of its own"},
		"own workflow":          {assess.Evidence{Attestations: []policy.Fact{provenance(own)}}, 2, "https://b.example", "level 3"},
		"own machine":           {assess.Evidence{Attestations: []policy.Fact{provenance(workflow(github, docker, source, "self-hosted"))}}, 1, "https://b.example", "machines of the platform"},
		"builder":               {assess.Evidence{Attestations: []policy.Fact{provenance(builder)}}, 3, "https://b.example", ""},
		"the best of several":   {assess.Evidence{Attestations: []policy.Fact{provenance(person), provenance(builder), provenance(own)}}, 3, "https://b.example", ""},
		"another issuer's":      {assess.Evidence{Attestations: []policy.Fact{provenance(workflow("https://issuer.example", docker, source, "github-hosted"))}}, 2, "https://b.example", "level 3"},
		"unknown builder":       {assess.Evidence{Attestations: []policy.Fact{provenance(workflow(github, "https://github.com/docker/github-builder-fork/.github/workflows/build.yml@x", source, "github-hosted"))}}, 2, "https://b.example", "level 3"},
		"builder builds itself": {assess.Evidence{Attestations: []policy.Fact{provenance(workflow(github, docker, "https://github.com/docker/github-builder", "github-hosted"))}}, 2, "https://b.example", "level 3"},
		"broken provenance":     {assess.Evidence{Attestations: []policy.Fact{{Signer: builder, PredicateType: evidence.PredicateSLSA1, Predicate: []byte(`[`)}}}, 0, "", "level 1"},
		"builder not named":     {assess.Evidence{Attestations: []policy.Fact{{Signer: builder, PredicateType: evidence.PredicateSLSA1, Predicate: []byte(`{"builder":{"id":"x"}}`)}}}, 0, "", "level 1"},
	} {
		got := assess.Of(tc.e).SLSA
		if got.BuildLevel != tc.level || got.Builder != tc.builder || !strings.Contains(got.Next, tc.text) || got.Why == "" || (got.Next == "") != (got.BuildLevel == 3) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
