package docker

signed := {
	"issuer": "https://token.actions.githubusercontent.com",
	"subjectAlternativeName": "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main",
	"sourceRepositoryURI": "https://github.com/acme/app",
}

built(p) := {"image": {"ref": "x", "fullRepo": "registry.example.com/acme/app", "provenance": object.union(
	{
		"verified": true,
		"signer": signed,
		"builderID": "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main",
		"configSource": {"uri": "https://github.com/acme/app.git#refs/tags/v1"},
		"materials": [
			{"image": {"host": "docker.io"}},
			{"git": {"remote": "https://github.com/acme/lib.git"}},
			{"http": {"schema": "https"}},
		],
	},
	p,
)}}

test_built_by_us if decision.allow with input as built({})

test_not_verified if not decision.allow with input as built({"verified": false})

test_signed_by_anybody if {
	not decision.allow with input as built({"signer": {"issuer": "https://accounts.google.com", "subjectAlternativeName": "eve@example.com"}})
	not decision.allow with input as built({"signer": object.union(signed, {"issuer": "https://idp.example.com"})})
	not decision.allow with input as built({"signer": object.union(signed, {"subjectAlternativeName": "https://github.com/eve/x/.github/workflows/build.yml@refs/heads/main"})})
	not decision.allow with input as built({"signer": object.union(signed, {"sourceRepositoryURI": "https://github.com/acme-evil/app"})})
	not decision.allow with input as built({"signer": null})
}

test_another_builder if not decision.allow with input as built({"builderID": "https://example.com/builder"})

test_another_source if not decision.allow with input as built({"configSource": {"uri": "https://github.com/acme-evil/app.git"}})

test_a_material_of_others if not decision.allow with input as built({"materials": [{"image": {"host": "docker.io"}}, {"image": {"host": "evil.example.com"}}]})

test_no_materials if not decision.allow with input as built({"materials": []})

test_no_provenance if {
	result := decision with input as {"image": {"ref": "x", "fullRepo": "registry.example.com/acme/app"}}
	not result.allow
	count(result.deny_msg) == 1
}

test_of_others if {
	decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/alpine"}}
	decision.allow with input as {"local": {"name": "context"}}
}
