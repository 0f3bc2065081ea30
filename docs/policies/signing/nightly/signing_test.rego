package hallmark.signing_test

import data.hallmark.testing

nightly := json.patch(testing.removed("/git/tag"), [
	{"op": "replace", "path": "/git/isAnnotatedTag", "value": false},
	{"op": "replace", "path": "/git/ref", "value": "refs/heads/main"},
	{"op": "replace", "path": "/build/images", "value": ["docker.io/org/app:nightly", "ghcr.io/org/app:nightly"]},
])

changed(path, value) := json.patch(nightly, [{"op": "replace", "path": path, "value": value}])

refused(doc) if testing.refused with input as doc

test_nightly if testing.allowed with input as nightly

test_nothing_is_pushed if testing.allowed with input as changed("/build/images", [])

test_obligations if {
	types := testing.obligations with input as nightly
	types == {"record-vsa", "annotate"}
}

test_latest if refused(changed("/build/images/1", "docker.io/org/app:latest"))

test_latest_by_default if refused(changed("/build/images/1", "docker.io/org/app"))

test_version if refused(changed("/build/images/1", "docker.io/org/app:1.4.0"))

test_version_is_said if {
	denials := testing.denials with input as changed("/build/images/1", "docker.io/org/app:1.4.0")
	count(denials) == 1
}

test_nothing_is_said_of_another_branch if {
	denials := testing.denials with input as changed("/git/ref", "refs/heads/develop")
	denials == set()
}

# Without its message the policy still says no.
test_no_without_message if {
	allow := data.hallmark.signing.allow with input as changed("/build/images/1", "docker.io/org/app:1.4.0")
	allow == false
}

test_another_branch if refused(changed("/git/ref", "refs/heads/develop"))

test_tag_of_the_name if refused(changed("/git/ref", "refs/tags/main"))

test_branch_that_is_not_protected if refused(changed("/ancestry/containedIn", ["develop"]))
