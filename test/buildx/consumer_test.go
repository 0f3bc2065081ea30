package buildx

import (
	"testing"
	"testing/fstest"

	"github.com/docker/buildx/policy"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestConsumerPolicy: the policy that a trusted build writes for those who use its image
// says the same in buildx as here, and says no to every neighbour of what it was written for.
func TestConsumerPolicy(t *testing.T) {
	const identity = "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main"
	text := trusted.Consumer{
		Repositories: []string{"docker.io/org/app"},
		Signer: evidence.Signer{Identity: identity, Issuer: "https://token.actions.githubusercontent.com",
			Extensions: map[string]string{"sourceRepositoryURI": "https://github.com/org/app", "runnerEnvironment": "github-hosted"}},
	}.Policies().Rego

	world := func(id string, change func(*Signature)) World {
		w := World{ID: "docker-image://" + id, Digest: digest1, Config: config, Attested: true, Provenance: map[string]string{"https://slsa.dev/provenance/v1": slsa1}}
		if change != nil {
			w.Signature = builderSignature("org/app", "refs/tags/v1")
			change(w.Signature)
		}
		return w
	}
	const app = "docker.io/org/app:v1"
	for name, tc := range map[string]struct {
		world World
		want  bool
	}{
		"signed by the builder for the repository": {world(app, func(*Signature) {}), true},
		"at its digest":          {world(app+"@"+digest1, func(*Signature) {}), true},
		"an image of others":     {world("docker.io/library/alpine:3.19", nil), true},
		"a repository beside it": {world("docker.io/org/app2:v1", nil), true},

		"not signed":                {world(app, nil), false},
		"at its digest, not signed": {world("docker.io/org/app@"+digest1, nil), false},
		"the builder, for another repository": {world(app, func(s *Signature) {
			s.Certificate.SourceRepositoryURI = "https://github.com/org/app2"
		}), false},
		"the builder, and no repository": {world(app, func(s *Signature) { s.Certificate.SourceRepositoryURI = "" }), false},
		"on a machine of somebody's own": {world(app, func(s *Signature) { s.Certificate.RunnerEnvironment = "self-hosted" }), false},
		"another release of the builder": {world(app, func(s *Signature) {
			s.Certificate.SubjectAlternativeName = "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/next"
		}), false},
		"a name that begins like the builder's": {world(app, func(s *Signature) { s.Certificate.SubjectAlternativeName = identity + "x" }), false},
		"another issuer":                        {world(app, func(s *Signature) { s.Certificate.Issuer = "https://gitlab.com" }), false},
	} {
		theirs := Theirs(t.Context(), tc.world, text, policy.Env{}, fstest.MapFS{})
		ours := Ours(t.Context(), tc.world, text, sourcepolicy.Env{}, fstest.MapFS{})
		if theirs.Allowed != tc.want || ours.Allowed != tc.want || theirs.Error != "" {
			t.Errorf("%s: buildx says %v, and we %v, want allowed %v", name, theirs, ours, tc.want)
		}
	}
}
