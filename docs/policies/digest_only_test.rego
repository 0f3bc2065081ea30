package docker

test_images if {
	decision.allow with input as {"image": {"ref": "docker.io/library/alpine:3@sha256:aa", "isCanonical": true}}
	not decision.allow with input as {"image": {"ref": "docker.io/library/alpine:3", "repo": "alpine", "isCanonical": false}}
}

test_git if {
	decision.allow with input as {"git": {"isCommitRef": true}}
	not decision.allow with input as {"git": {"remote": "https://github.com/acme/app.git", "isCommitRef": false}}
}

test_http if {
	decision.allow with input as {"http": {"schema": "https"}}
	not decision.allow with input as {"http": {"url": "http://example.com/", "schema": "http"}}
}

test_messages if {
	result := decision with input as {"image": {"ref": "docker.io/library/alpine:3", "repo": "alpine", "isCanonical": false}}
	result.deny_msg == {"docker.io/library/alpine:3: name it by digest, as in alpine:TAG@sha256:…"}
}

test_folders if decision.allow with input as {"local": {"name": "context"}}

test_something_new if not decision.allow with input as {"env": {"depth": 0}}
