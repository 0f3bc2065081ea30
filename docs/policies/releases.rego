# Releases of acme/app: from 2.0.0 on they are signed by docker/github-builder; of those
# before, these digests are the ones that were released.
package docker

before_signing := [
	{"version": "1.1.0", "checksum": "sha256:0a4eaa0eecf5f8c050e5bba433f58c052be7587ee8af3e8b3910ef9ab5fbe9f5"},
	{"version": "1.2.0", "checksum": "sha256:1e9c3a4e2b6b3a0e9a4d0f3a1c2b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e"},
]

default allow := false

from_us if input.image.fullRepo == "docker.io/acme/app"

allow if not from_us

allow if {
	some release in before_signing
	input.image.tag == release.version
	input.image.checksum == release.checksum
}

allow if {
	semver.is_valid(input.image.tag)
	semver.compare(input.image.tag, "2.0.0") >= 0
	docker_github_builder_tag(input.image, "acme/app", input.image.tag)
}

deny_msg contains sprintf("%s is no release of acme/app", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
