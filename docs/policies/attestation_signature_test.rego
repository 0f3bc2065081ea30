package docker

attested(repository, attestation) := {"image": {
	"ref": concat(":", [repository, "1"]), "fullRepo": repository, "attestations": [attestation],
}}

signed := {"predicateType": "https://spdx.dev/Document", "verified": true, "signer": {"subjectAlternativeName": "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"}}

test_signed if decision.allow with input as attested("docker.io/acme/app", signed)

test_not_verified if {
	not decision.allow with input as attested("docker.io/acme/app", object.union(signed, {"verified": false}))
}

test_something_else_attested if {
	not decision.allow with input as attested("docker.io/acme/app", object.union(signed, {"predicateType": "https://example.com/scan"}))
}

test_signed_by_another_publisher if {
	not decision.allow with input as attested("docker.io/acme/app", object.union(signed, {"signer": {"subjectAlternativeName": "https://github.com/acme-evil/app"}}))
}

test_repository_of_nobody if {
	result := decision with input as attested("docker.io/eve/app", signed)
	not result.allow
	result.deny_msg == {"docker.io/eve/app:1 has no SBOM that its publisher signed"}
}

test_other_sources if decision.allow with input as {"git": {"host": "github.com"}}
