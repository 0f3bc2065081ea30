package buildx

import (
	"testing"
	"testing/fstest"

	"github.com/docker/buildx/policy"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// BenchmarkDecision is one decision on input that is ready, by both engines. Theirs
// is what a build pays for each source: it compiles and evaluates partially each time.
func BenchmarkDecision(b *testing.B) {
	const text = "package docker\ndefault allow := false\nallow if input.image.repo == \"alpine\"\nallow if input.local\ndecision := {\"allow\": allow}\n"
	for name, w := range map[string]World{
		"local": {ID: "local://context"}, "image": {ID: "docker-image://docker.io/library/alpine:3", Digest: digest1, Config: config},
		"image-deny": {ID: "docker-image://docker.io/library/debian:12", Digest: digest1, Config: config},
	} {
		b.Run(name+"/buildx", func(b *testing.B) {
			for b.Loop() {
				if v := Theirs(b.Context(), w, text, policy.Env{}, fstest.MapFS{}); v.Error != "" {
					b.Fatal(v)
				}
			}
		})
		b.Run(name+"/hallmark", func(b *testing.B) {
			p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(text)}}, sourcepolicy.Options{})
			if err != nil {
				b.Fatal(err)
			}
			set := sourcepolicy.NewSet(p)
			for b.Loop() {
				if _, err := set.Evaluate(b.Context(), sourcepolicy.Request{Source: sourcepolicy.Source{Identifier: w.ID, Platform: "linux/amd64"}, Resolver: w}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
