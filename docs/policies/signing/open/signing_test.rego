# What the open policy lets through, and one near miss for each line of it.
package hallmark.signing_test

import data.hallmark.testing

allowed(doc) if testing.allowed with input as doc with data.branch as "main"

refused(doc, names) if {
	testing.refused with input as doc with data.branch as "main"
	denials := testing.denials with input as doc with data.branch as "main"
	denials == {sprintf("%s: not satisfied", [name]) | some name in names}
}

obliged(doc, types) if {
	found := testing.obligations with input as doc with data.branch as "main"
	found == types
}

warned(doc, n) if {
	found := testing.warnings with input as doc with data.branch as "main"
	count(found) == n
}

# A branch has no tag.
on_branch(name) := json.patch(testing.removed("/git/tag"), [
	{"op": "replace", "path": "/git/isAnnotatedTag", "value": false},
	{"op": "replace", "path": "/git/ref", "value": concat("", ["refs/heads/", name])},
	{"op": "replace", "path": "/approvals", "value": []},
])

test_release if allowed(testing.release)

test_release_is_pushed if obliged(testing.release, set())

test_approved_release_warns_of_nothing if warned(testing.release, 0)

test_nobody_approved if allowed(testing.replaced("/approvals", []))

test_nobody_approved_is_said if warned(testing.replaced("/approvals", []), 1)

test_unsigned if refused(testing.removed("/git/tag/signer"), {"signed-tag"})

test_another_role if refused(testing.replaced("/git/tag/signer/roles", ["update"]), {"signed-tag"})

test_tag_of_another_name if refused(testing.replaced("/git/tag/nameMatchesRef", false), {"signed-tag"})

test_tag_of_a_fork if refused(testing.replaced("/git/tag/repositoryMatches", false), {"repository"})

test_trial if allowed(on_branch("main"))

test_trial_is_not_pushed if obliged(on_branch("main"), {"no-push"})

test_trial_warns_of_nothing if warned(on_branch("main"), 0)

test_another_branch if refused(on_branch("develop"), {"signed-tag", "repository"})

# Without its messages the policy still says no.
test_no_without_messages if {
	allow := data.hallmark.signing.allow with input as testing.removed("/git/tag/signer")
		with data.branch as "main"
	allow == false
}
