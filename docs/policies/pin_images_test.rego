package docker

test_in_the_list if {
	decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/alpine", "tag": "3.20", "checksum": "sha256:00"}}
}

test_not_in_the_list if {
	not decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/alpine", "tag": "3.21", "isCanonical": false}}
	not decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/eve/alpine", "tag": "3.20", "isCanonical": false}}
}

test_by_digest if {
	decision.allow with input as {"image": {"ref": "x", "fullRepo": "docker.io/library/debian", "isCanonical": true}}
}

test_other_sources if decision.allow with input as {"http": {"schema": "https"}}
