package docker

old(tag, checksum) := {"image": {"ref": "x", "fullRepo": "docker.io/acme/app", "tag": tag, "checksum": checksum, "hasProvenance": false}}

first := "sha256:0a4eaa0eecf5f8c050e5bba433f58c052be7587ee8af3e8b3910ef9ab5fbe9f5"

test_before_signing if decision.allow with input as old("1.1.0", first)

test_digest_of_another_version if not decision.allow with input as old("1.2.0", first)

test_version_that_never_was if not decision.allow with input as old("1.1.1", first)

test_unsigned_new_one if {
	result := decision with input as old("2.0.0", first)
	not result.allow
	result.deny_msg == {"x is no release of acme/app"}
}

test_signed if {
	decision.allow with input as {"image": {
		"ref": "x", "fullRepo": "docker.io/acme/app", "tag": "2.0.0", "hasProvenance": true, "checksum": "sha256:00",
		"signatures": [{
			"kind": "docker-github-builder", "type": "bundle-v0.3", "timestamps": [{"type": "Tlog"}],
			"signer": {
				"certificateIssuer": "CN=sigstore-intermediate,O=sigstore.dev", "issuer": "https://token.actions.githubusercontent.com",
				"runnerEnvironment": "github-hosted", "sourceRepositoryURI": "https://github.com/acme/app", "sourceRepositoryRef": "refs/tags/2.0.0",
			},
		}],
	}}
}

test_no_version if not decision.allow with input as old("latest", first)

test_others if decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/alpine"}}
