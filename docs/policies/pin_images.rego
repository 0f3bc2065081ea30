# Tags of a list mean these digests, whatever the registry says now: the build uses the
# digest. Other images must be named by digest.
package docker

pins := {
	"docker.io/library/alpine:3.20": "sha256:0a4eaa0eecf5f8c050e5bba433f58c052be7587ee8af3e8b3910ef9ab5fbe9f5",
	"docker.io/docker/dockerfile:1": "sha256:3c8d5c6f4d8d5c2f1c6f215c3e4d7f8091ab2c3d4e5f60718293a4b5c6d7e8f9",
}

default allow := false

allow if not input.image

allow if pin_image(input.image, pins[concat(":", [input.image.fullRepo, input.image.tag])])

allow if {
	not pins[concat(":", [input.image.fullRepo, object.get(input.image, "tag", "")])]
	input.image.isCanonical
}

deny_msg contains sprintf("%s is neither in the list nor named by digest", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
