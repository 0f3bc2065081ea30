package docker

tag(name, signed_as) := {"git": {"fullURL": "https://github.com/acme/app.git", "tagName": name, "tag": {"tag": signed_as}}}

test_signed if decision.allow with input as tag("v1.0.0", "v1.0.0") with verify_git_signature as true

test_by_nobody_known if not decision.allow with input as tag("v1.0.0", "v1.0.0") with verify_git_signature as false

test_signed_under_another_name if not decision.allow with input as tag("v1.0.0", "v0.9.0") with verify_git_signature as true

test_branch if {
	result := decision with input as {"git": {"fullURL": "https://github.com/acme/app.git", "branch": "main"}} with verify_git_signature as true
	not result.allow
	result.deny_msg == {"https://github.com/acme/app.git: no tag that a maintainer signed"}
}

test_other_sources if decision.allow with input as {"image": {"host": "docker.io"}}
