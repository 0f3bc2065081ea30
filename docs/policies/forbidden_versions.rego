# Base images of a version that is still looked after, and none with a known flaw. A tag
# that is no version (latest, edge) is none, and neither is one that stands beside a digest:
# of golang:1.25@sha256:… the digest is used, and nobody looks the tag up.
package docker

# The first version of each repository that is looked after.
supported := {
	"docker.io/library/alpine": "3.20.0",
	"docker.io/library/golang": "1.25.0",
}

flawed := {"docker.io/library/golang": {"1.25.2", "1.25.3"}}

default allow := false

allow if not input.image

allow if not supported[input.image.fullRepo]

allow if {
	not input.image.isCanonical
	semver.compare(version, supported[input.image.fullRepo]) >= 0
	not known_flaw
}

known_flaw if version in flawed[input.image.fullRepo]

# 1.25-alpine is 1.25.0: what comes after a dash says how it is packed.
number := split(input.image.tag, "-")[0]

version := number if semver.is_valid(number)

version := concat("", [number, ".0"]) if regex.match(`^[0-9]+[.][0-9]+$`, number)

deny_msg contains sprintf("%s: version %s is not looked after, or has a known flaw; the first that is: %s", [input.image.ref, object.get(input.image, "tag", "(no tag)"), supported[input.image.fullRepo]]) if {
	not allow
	not input.image.isCanonical
}

deny_msg contains sprintf("%s: named by digest, so its version is not known: name it by its tag", [input.image.ref]) if {
	not allow
	input.image.isCanonical
}

decision := {"allow": allow, "deny_msg": deny_msg}
