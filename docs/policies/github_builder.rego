# Images of acme/app were built by docker/github-builder from the tag that they bear.
package docker

default allow := false

from_us if input.image.fullRepo == "docker.io/acme/app"

allow if not from_us

allow if docker_github_builder_tag(input.image, "acme/app", input.image.tag)

deny_msg contains sprintf("%s was not built by docker/github-builder from the tag that it bears", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
