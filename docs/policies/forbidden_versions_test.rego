package docker

golang(tag) := {"image": {"ref": concat(":", ["golang", tag]), "fullRepo": "docker.io/library/golang", "tag": tag}}

test_supported if {
	decision.allow with input as golang("1.25.4")
	decision.allow with input as golang("1.25")
	decision.allow with input as golang("1.26.1-alpine")
}

test_too_old if {
	not decision.allow with input as golang("1.24.9")
	not decision.allow with input as golang("1.9")
	not decision.allow with input as golang("1.24-alpine")
}

test_flawed if {
	not decision.allow with input as golang("1.25.2")
	not decision.allow with input as golang("1.25.3-bookworm")
}

test_no_version if {
	not decision.allow with input as golang("latest")
	not decision.allow with input as golang("1")
	not decision.allow with input as {"image": {"ref": "golang@sha256:00", "fullRepo": "docker.io/library/golang"}}
}

test_message_without_a_version if {
	result := decision with input as golang("latest")
	result.deny_msg == {"golang:latest: version latest is not looked after, or has a known flaw; the first that is: 1.25.0"}
}

# A good tag beside the digest of anything.
test_tag_beside_a_digest if {
	result := decision with input as {"image": object.union(golang("1.25.4").image, {"ref": "golang:1.25.4@sha256:00", "isCanonical": true})}
	not result.allow
	result.deny_msg == {"golang:1.25.4@sha256:00: named by digest, so its version is not known: name it by its tag"}
}

test_message_without_a_tag if {
	result := decision with input as {"image": {"ref": "golang@sha256:00", "fullRepo": "docker.io/library/golang", "isCanonical": true}}
	count(result.deny_msg) == 1
}

test_others if {
	decision.allow with input as {"image": {"ref": "debian:12", "fullRepo": "docker.io/library/debian", "tag": "12"}}
	decision.allow with input as {"local": {"name": "context"}}
}
