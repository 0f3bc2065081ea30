# Every image comes with an SBOM that its publisher signed.
package docker

sbom := {"https://spdx.dev/Document", "https://cyclonedx.org/bom"}

# Who signs for which publisher: the repository begins with the key.
publishers := {
	"docker.io/acme/": "https://github.com/acme/",
	"ghcr.io/acme/": "https://github.com/acme/",
}

default allow := false

allow if not input.image

allow if {
	some attestation in input.image.attestations
	attestation.predicateType in sbom
	attestation.verified
	some repository, signer in publishers
	startswith(input.image.fullRepo, repository)
	startswith(attestation.signer.subjectAlternativeName, signer)
}

deny_msg contains sprintf("%s has no SBOM that its publisher signed", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
