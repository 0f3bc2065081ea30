# What the team's policy lets through, and one near miss for each line of it. People and
# numbers are the tests' own, so that they hold whatever data.json says.
package hallmark.signing_test

import data.hallmark.testing

allowed(doc) if {
	testing.allowed with input as doc
		with data.maintainers as ["alice", "bob", "carol"]
		with data.approvals as 2
		with data.branch as "main"
}

refused(doc, names) if {
	testing.refused with input as doc
		with data.maintainers as ["alice", "bob", "carol"]
		with data.approvals as 2
		with data.branch as "main"
	denials := testing.denials with input as doc
		with data.maintainers as ["alice", "bob", "carol"]
		with data.approvals as 2
		with data.branch as "main"
	denials == {sprintf("%s: not satisfied", [name]) | some name in names}
}

obliged(doc, types) if {
	found := testing.obligations with input as doc with data.branch as "main"
	found == types
}

# A branch has no tag.
on_branch(name) := json.patch(testing.removed("/git/tag"), [
	{"op": "replace", "path": "/git/isAnnotatedTag", "value": false},
	{"op": "replace", "path": "/git/ref", "value": concat("", ["refs/heads/", name])},
])

test_release if allowed(testing.release)

test_release_is_pushed if obliged(testing.release, set())

test_two_of_three if allowed(testing.replaced("/approvals/0/principal", "carol"))

test_stranger_rejects if allowed(testing.added("/approvals/-", object.union(testing.release.approvals[0], {"principal": "mallory", "decision": "reject"})))

test_no_version if refused(
	json.patch(testing.release, [{"op": "replace", "path": "/git/tag/tag", "value": "latest"}, {"op": "replace", "path": "/git/ref", "value": "refs/tags/latest"}]),
	{"release-tag"},
)

test_unsigned if refused(testing.removed("/git/tag/signer"), {"signed-tag"})

test_another_role if refused(testing.replaced("/git/tag/signer/roles", ["update"]), {"signed-tag"})

test_tag_of_a_fork if refused(testing.replaced("/git/tag/repositoryMatches", false), {"repository"})

test_not_on_the_branch if refused(testing.replaced("/ancestry/containedIn", ["develop"]), {"on-branch"})

test_one_of_two if refused(testing.removed("/approvals/1"), {"approvals"})

test_one_twice if refused(testing.replaced("/approvals/1/principal", "alice"), {"approvals"})

test_a_stranger if refused(testing.replaced("/approvals/1/principal", "mallory"), {"approvals"})

test_not_signed if refused(testing.replaced("/approvals/1/source", "github-review"), {"approvals"})

test_rejected if refused(
	testing.added("/approvals/-", object.union(testing.release.approvals[0], {"principal": "carol", "decision": "reject"})),
	{"not-rejected"},
)

test_trial if allowed(on_branch("main"))

test_trial_is_not_pushed if obliged(on_branch("main"), {"no-push"})

test_another_branch if refused(on_branch("develop"), {"release-tag", "signed-tag", "repository"})

# Without its messages the policy still says no.
test_no_without_messages if {
	allow := data.hallmark.signing.allow with input as testing.removed("/approvals/1")
		with data.maintainers as ["alice", "bob", "carol"]
		with data.approvals as 2
		with data.branch as "main"
	allow == false
}
