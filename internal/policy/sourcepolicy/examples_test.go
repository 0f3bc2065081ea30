package sourcepolicy_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestExamples: the kinds of policies that buildx's documentation describes, each with
// what it is for and the near misses that it must refuse.
func TestExamples(t *testing.T) {
	t.Parallel()
	const start = "package docker\n\ndefault allow := false\n\nallow if input.local\n\ndecision := {\"allow\": allow, \"deny_msg\": deny_msg}\n\n"
	const silent = "deny_msg := []\n"
	signedBy := func(repo, ref string) sourcepolicy.Facts {
		f := image()
		f.Signatures = &[]sourcepolicy.Signature{*builderSignature(repo, ref)}
		return f
	}
	prov := func(predicate string) sourcepolicy.Facts {
		f := image()
		f.Provenance = &sourcepolicy.ProvenanceFact{PredicateType: sourcepolicy.PredicateSLSA1, Predicate: []byte(predicate), Verified: true}
		return f
	}
	labelled := func(labels map[string]string, created string) sourcepolicy.Facts {
		f := image()
		f.Config = &sourcepolicy.ImageConfiguration{Labels: labels, CreatedTime: created, User: "1000"}
		return f
	}
	const hermetic = `{"buildDefinition":{"buildType":"t","externalParameters":{"request":{"args":{"build-arg:NET":"0"}}}},"runDetails":{"builder":{"id":"https://b"},"metadata":{"buildkit_hermetic":true,"buildkit_completeness":{"resolvedDependencies":true}}}}`
	hash, other := string(digest1), string(digest2)
	type asked struct {
		id    string
		facts sourcepolicy.Facts
		env   sourcepolicy.Env
		build *sourcepolicy.Build
		lock  *sourcepolicy.Locked
	}
	for name, tc := range map[string]struct {
		policy        string
		allow, refuse []asked
	}{
		"registries": {
			start + silent + `allow if input.image.host in {"docker.io", "ghcr.io"}`,
			[]asked{{id: "alpine:3"}, {id: "ghcr.io/o/a:1"}, {id: "."}},
			[]asked{{id: "quay.io/o/a:1"}, {id: "docker.io.example.org/o/a:1"}, {id: "localhost/docker.io/a:1"}, {id: "https://docker.io/a"}, {id: "https://docker.io/a.git"}},
		},
		"versions": {
			start + `allow if {
	input.image.repo == "golang"
	not input.image.isCanonical
	not forbidden
}

forbidden if input.image.tag in load_json("forbidden.json")

forbidden if not wanted

wanted if regex.match("^1\\.2[5-9](\\.|-|$)", input.image.tag)

deny_msg contains sprintf("%s is not allowed", [input.image.ref]) if forbidden
`,
			[]asked{{id: "golang:1.26"}, {id: "golang:1.25.3-alpine"}},
			[]asked{{id: "golang:1.26.1"}, {id: "golang:latest"}, {id: "golang:1.24"}, {id: "golang:11.26"}, {id: "golang@" + hash}, {id: "golang:1.26@" + hash}, {id: "org/golang:1.26"}},
		},
		"checksum": {
			start + silent + `allow if input.image.checksum in {"` + hash + `"}` + "\n" + `allow if input.http.checksum == "` + hash + `"`,
			[]asked{{id: "alpine:3", facts: image()}, {id: "alpine@" + hash}, {id: "https://example.org/f", facts: sourcepolicy.Facts{Checksum: digest1}}},
			[]asked{{id: "alpine@" + other}, {id: "https://example.org/f", facts: sourcepolicy.Facts{Checksum: digest2}}, {id: "alpine:3", facts: sourcepolicy.Facts{Checksum: digest2}}},
		},
		"pinned only": {
			start + `allow if input.image.isCanonical` + "\n" + `allow if input.git.isCommitRef` + "\n" + `deny_msg contains "name it by digest" if input.image.isCanonical == false`,
			[]asked{{id: "alpine:3@" + hash}, {id: "https://example.org/a.git#" + strings.Repeat("a", 40)}},
			[]asked{{id: "alpine:3"}, {id: "https://example.org/a.git#v1"}, {id: "https://example.org/a.git#" + strings.Repeat("a", 39)}},
		},
		"immutable tags": {
			start + silent + "allow if {\n\tinput.image.locked\n\tinput.image.moved == false\n}",
			[]asked{{id: "alpine:3", facts: image(), lock: &sourcepolicy.Locked{Digest: digest1}}, {id: "alpine@" + hash, lock: &sourcepolicy.Locked{Digest: digest1}}},
			[]asked{{id: "alpine:3", facts: image()}, {id: "alpine:3", facts: image(), lock: &sourcepolicy.Locked{}}, {id: "alpine:3", lock: &sourcepolicy.Locked{Digest: digest1}}, {id: "alpine:3", facts: image(), lock: &sourcepolicy.Locked{Digest: digest2}}, {id: "alpine@" + other, lock: &sourcepolicy.Locked{Digest: digest1}}},
		},
		"signed release": {
			start + silent + `allow if docker_github_builder_tag(input.image, "org/app", input.image.tag)`,
			[]asked{{id: "org/app:v1", facts: signedBy("org/app", "refs/tags/v1")}},
			[]asked{{id: "org/app:v1", facts: signedBy("org/app", "refs/tags/v2")}, {id: "org/app:v1", facts: signedBy("org/other", "refs/tags/v1")}, {id: "org/app:v1", facts: image()}, {id: "org/app@" + hash, facts: signedBy("org/app", "refs/tags/v1")}},
		},
		"signed, or from before": {
			start + silent + `before := {"v0.9": "` + hash + `"}

allow if docker_github_builder_tag(input.image, "org/app", input.image.tag)

allow if {
	input.image.fullRepo == "docker.io/org/app"
	input.image.checksum == before[input.image.tag]
}`,
			[]asked{{id: "org/app:v1", facts: signedBy("org/app", "refs/tags/v1")}, {id: "org/app:v0.9", facts: image()}},
			[]asked{{id: "org/app:v0.8", facts: image()}, {id: "org/app:v0.9", facts: sourcepolicy.Facts{Checksum: digest2, Attested: yes(), Signatures: &[]sourcepolicy.Signature{}}}, {id: "evil/app:v0.9", facts: image()}},
		},
		"provenance": {
			start + silent + `allow if {
	p := input.image.provenance
	p.verified
	p.hermetic
	p.completeness.materials
	p.buildArgs.NET == "0"
}`,
			[]asked{{id: "alpine:3", facts: prov(hermetic)}},
			[]asked{{id: "alpine:3", facts: image()}, {id: "alpine:3", facts: prov(strings.Replace(hermetic, `"buildkit_hermetic":true`, `"buildkit_hermetic":false`, 1))}, {id: "alpine:3", facts: prov(strings.Replace(hermetic, `:"0"`, `:"1"`, 1))}},
		},
		"labels and age": {
			start + silent + `allow if {
	input.image.labels["org.opencontainers.image.vendor"] == "us"
	input.image.createdTime > "2026-01"
	input.image.user != "root"
}`,
			[]asked{{id: "alpine:3", facts: labelled(map[string]string{"org.opencontainers.image.vendor": "us"}, "2026-02-01T00:00:00Z")}},
			[]asked{{id: "alpine:3", facts: labelled(map[string]string{"org.opencontainers.image.vendor": "us"}, "2025-02-01T00:00:00Z")}, {id: "alpine:3", facts: labelled(nil, "2026-02-01T00:00:00Z")}, {id: "alpine:3", facts: labelled(map[string]string{"org.opencontainers.image.vendor": "us"}, "")}},
		},
		"by argument": {
			start + silent + "allow if {\n\tinput.env.args.CI == \"true\"\n\tinput.env.target == \"release\"\n\tinput.image.repo == \"alpine\"\n}",
			[]asked{{id: "alpine:3", env: sourcepolicy.Env{Args: map[string]*string{"CI": text("true")}, Target: "release"}}},
			[]asked{{id: "alpine:3"}, {id: "alpine:3", env: sourcepolicy.Env{Args: map[string]*string{"CI": nil}, Target: "release"}}, {id: "alpine:3", env: sourcepolicy.Env{Args: map[string]*string{"CI": text("true")}, Target: "test"}}},
		},
		"no local folder": {
			"package docker\ndefault allow := true\nallow := false if input.local.name == \"context\"\ndecision := {\"allow\": allow}",
			[]asked{{id: "alpine:3"}, {id: "local://dockerfile"}}, []asked{{id: "."}, {id: "local://context"}},
		},
		"no network, no cache": {
			start + silent + "allow if {\n\tinput.build.network == false\n\tinput.build.cache == false\n}",
			[]asked{{id: "alpine:3", build: &sourcepolicy.Build{}}},
			[]asked{{id: "alpine:3"}, {id: "alpine:3", build: &sourcepolicy.Build{Network: true}}, {id: "alpine:3", build: &sourcepolicy.Build{Cache: true}}},
		},
		"downloads": {
			start + silent + "allow if {\n\tinput.http.schema == \"https\"\n\tinput.http.host == \"example.org\"\n\tstartswith(input.http.path, \"/releases/\")\n\tnot input.http.query\n\tnot input.http.hasAuth\n}",
			[]asked{{id: "https://example.org/releases/a.tgz"}},
			[]asked{{id: "http://example.org/releases/a"}, {id: "https://example.org.evil.example/releases/a"}, {id: "https://example.org@evil.example/releases/a"}, {id: "https://example.org/other/a"}, {id: "https://example.org/releases/a?x=y"}, {id: "https://example.org:444/releases/a"}},
		},
		"branches": {
			start + silent + "allow if {\n\tinput.git.remote == \"https://github.com/org/app.git\"\n\tinput.git.branch in {\"main\", \"release\"}\n}",
			[]asked{{id: "https://github.com/org/app.git#refs/heads/main"}},
			[]asked{{id: "https://github.com/org/app.git#refs/tags/main"}, {id: "https://github.com/org/app.git.git#refs/heads/main"}, {id: "https://github.com/org/app.git#refs/heads/main2"}, {id: "ssh://git@github.com/org/app.git#refs/heads/main"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := compile(t, tc.policy, "forbidden.json", `["1.26.1"]`)
			ask := func(s asked) sourcepolicy.Decision {
				src := source(t, s.id)
				d, err := set.Evaluate(t.Context(), sourcepolicy.Request{Source: src, Env: s.env, Build: s.build, Locked: s.lock, Known: s.facts, Now: noon})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			for _, s := range tc.allow {
				if d := ask(s); !d.Allowed {
					t.Errorf("%s is refused: %+v", s.id, d.Reasons)
				}
			}
			for _, s := range tc.refuse {
				if d := ask(s); d.Allowed || len(d.Reasons) == 0 {
					t.Errorf("%s is allowed", s.id)
				}
			}
			if found := set.Policies()[0].Lint(); len(found) > 0 {
				t.Errorf("lint: %v", found)
			}
		})
	}
}

func text(s string) *string { return &s }
