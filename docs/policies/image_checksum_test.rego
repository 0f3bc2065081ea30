package docker

image(repository, checksum) := {"image": {"ref": "x", "fullRepo": repository, "checksum": checksum}}

known := "sha256:0a4eaa0eecf5f8c050e5bba433f58c052be7587ee8af3e8b3910ef9ab5fbe9f5"

test_approved if decision.allow with input as image("docker.io/library/alpine", known)

test_another_digest if {
	result := decision with input as image("docker.io/library/alpine", "sha256:0000000000000000000000000000000000000000000000000000000000000000")
	not result.allow
	count(result.deny_msg) == 1
}

test_same_digest_elsewhere if not decision.allow with input as image("docker.io/eve/alpine", known)

test_other_sources if decision.allow with input as {"local": {"name": "context"}}
