package docker

image(tag, signer) := {"image": {
	"ref": "x", "fullRepo": "docker.io/acme/app", "tag": tag, "hasProvenance": true,
	"signatures": [{
		"kind": "docker-github-builder", "type": "bundle-v0.3", "timestamps": [{"type": "Tlog"}],
		"signer": object.union(
			{
				"certificateIssuer": "CN=sigstore-intermediate,O=sigstore.dev", "issuer": "https://token.actions.githubusercontent.com",
				"runnerEnvironment": "github-hosted", "sourceRepositoryURI": "https://github.com/acme/app", "sourceRepositoryRef": "refs/tags/1.0",
			},
			signer,
		),
	}],
}}

test_its_tag if decision.allow with input as image("1.0", {})

test_another_tag if not decision.allow with input as image("1.1", {})

test_another_repository if not decision.allow with input as image("1.0", {"sourceRepositoryURI": "https://github.com/eve/app"})

test_own_runner if not decision.allow with input as image("1.0", {"runnerEnvironment": "self-hosted"})

test_unsigned if {
	result := decision with input as {"image": {"ref": "x", "fullRepo": "docker.io/acme/app", "tag": "1.0", "hasProvenance": false}}
	not result.allow
	count(result.deny_msg) == 1
}

test_others if decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/alpine"}}
