package sourcegate

import (
	"context"
	"fmt"
	"strings"
	"testing"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// byTag allows what is named by its tag: what stands beside a digest nobody looks up.
const byTag = `default allow := false
allow if {
	input.image.tag == "1"
	not input.image.isCanonical
}
decision := {"allow": allow}`

// A frontend asks about the tag, and then about the digest that it was told: that is
// judged as the tag. A digest that somebody else put beside the tag is not.
func TestTheDigestOfATag(t *testing.T) {
	t.Parallel()
	const tag = "docker-image://example.com/a:1"
	labelled := strings.Replace(byTag, "allow if {", "allow if {\n input.image.labels.l == \"yes\"", 1)
	for _, c := range []struct {
		name, rego string
		ask        []string // one after another; the last is in question
		say        string   // the digest that the daemon finds
		allowed    bool
	}{
		{"the tag", byTag, []string{tag}, first, true},
		{"its digest", byTag, []string{tag, tag + "@" + first}, first, true},
		{"its digest, again", byTag, []string{tag, tag + "@" + first, tag, tag + "@" + first}, first, true},
		{"its digest, and a fact", labelled, []string{tag, tag + "@" + first}, first, true},
		{"a fact alone, which makes it the digest", labelled, []string{tag}, first, true},
		{"another digest", byTag, []string{tag, tag + "@" + second}, first, false},
		{"another digest, and a fact", labelled, []string{tag, tag + "@" + second}, first, false},
		{"the digest alone", byTag, []string{tag + "@" + first}, first, false},
		{"another image", byTag, []string{tag, "docker-image://example.com/b:1@" + first}, first, false},
		{"another tag", byTag, []string{tag, "docker-image://example.com/a:2@" + first}, first, false},
		{"the digest without the tag", byTag, []string{tag, "docker-image://example.com/a@" + first}, first, false},
		{"a tag that is not allowed", byTag, []string{"docker-image://example.com/a:2", "docker-image://example.com/a:2@" + first}, first, false},
		{"a daemon that says no digest", byTag, []string{tag, tag + "@" + first}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{Policies: policyOf(t, c.rego)})
			var err error
			for _, name := range c.ask {
				say := imageSays(c.say, "yes")
				if _, digest, ok := strings.Cut(name, "@"); ok {
					say = imageSays(digest, "yes")
				}
				_, err = solve(t, s, &pb.SourceOp{Identifier: name}, say)
			}
			if (err == nil) != c.allowed || s.Decision().Allowed != c.allowed {
				t.Errorf("%v %+v", err, s.Decision())
			}
		})
	}
}

// The tag and its digest are judged by one entry of the lock, that of the tag.
func TestTheLockOfATag(t *testing.T) {
	t.Parallel()
	s := New(Config{Policies: policyOf(t, `decision := {"allow": input.image.locked == "`+first+`"}`), Locked: func(src sourcepolicy.Source) *sourcepolicy.Locked {
		return &sourcepolicy.Locked{Digest: map[string]evidence.Digest{"example.com/a:1": first}[src.Reference()]}
	}})
	for _, name := range []string{"docker-image://example.com/a:1", "docker-image://example.com/a:1@" + first} {
		if _, err := solve(t, s, &pb.SourceOp{Identifier: name}, imageSays(first, "")); err != nil {
			t.Errorf("%s: %v %+v", name, err, s.Decision())
		}
	}
}

// lyingProvenance names a base image as a material, and gives a digest to whatever it is
// asked about.
type lyingProvenance struct{ digest string }

func (l lyingProvenance) Resolve(_ context.Context, _ sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	var f sourcepolicy.Facts
	for _, a := range asks {
		switch a.Fact {
		case sourcepolicy.ImageChecksum:
			f.Checksum = evidence.Digest(l.digest)
		case sourcepolicy.ImageProvenance:
			f.Provenance = &sourcepolicy.ProvenanceFact{PredicateType: sourcepolicy.PredicateSLSA1, Predicate: fmt.Appendf(nil,
				`{"buildDefinition":{"buildType":"t","externalParameters":{},"resolvedDependencies":[{"uri":"pkg:docker/example.com/base@1?platform=linux%%2Famd64"}]},"runDetails":{"builder":{"id":"b"}}}`)}
		}
	}
	return f, nil
}

// What was looked up of a material is not taken for what the daemon says of a source of
// the build with the same name, and the other way round.
func TestMaterialsAndSourcesAreApart(t *testing.T) {
	t.Parallel()
	const base = "docker-image://example.com/base:1"
	rego := `decision := {"allow": allow}
default allow := false
allow if {
	input.image.repo == "example.com/app"
	some m in input.image.provenance.materials
	m.image.checksum == "` + first + `"
}
allow if {
	input.image.repo == "example.com/base"
	input.image.checksum == "` + second + `"
}`
	for _, order := range [][]string{{"docker-image://example.com/app@" + first, base}, {base, "docker-image://example.com/app@" + first}} {
		s := New(Config{Policies: policyOf(t, rego), Resolver: lyingProvenance{first}})
		for _, name := range order {
			asked := false
			say := func(r *gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				asked = true
				return imageSays(second, "")(r)
			}
			got, err := solve(t, s, &pb.SourceOp{Identifier: name}, say)
			if err != nil || name == base && (!asked || got.Identifier != base+"@"+second) {
				t.Errorf("%v: %s: %v %v %+v", order, name, got, err, s.Decision())
			}
		}
	}
}
