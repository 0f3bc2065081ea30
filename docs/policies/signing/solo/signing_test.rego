# What the solo policy lets through, and one near miss for each line of it. The person and
# the time are the tests' own, so that they hold whatever data.json says.
package hallmark.signing_test

import data.hallmark.testing

# A day after alice approved.
later := testing.replaced("/now", "2026-11-21T09:30:00Z")

changed(op, path, value) := json.patch(later, [{"op": op, "path": path, "value": value}])

allowed(doc) if {
	testing.allowed with input as doc
		with data.maintainers as ["alice"]
		with data.wait as "24h"
		with data.branch as "main"
}

refused(doc, names) if {
	testing.refused with input as doc
		with data.maintainers as ["alice"]
		with data.wait as "24h"
		with data.branch as "main"
	denials := testing.denials with input as doc
		with data.maintainers as ["alice"]
		with data.wait as "24h"
		with data.branch as "main"
	denials == {sprintf("%s: not satisfied", [name]) | some name in names}
}

obliged(doc, types) if {
	found := testing.obligations with input as doc with data.branch as "main"
	found == types
}

# A branch has no tag.
on_branch(name) := json.patch(later, [
	{"op": "remove", "path": "/git/tag"},
	{"op": "replace", "path": "/git/isAnnotatedTag", "value": false},
	{"op": "replace", "path": "/git/ref", "value": concat("", ["refs/heads/", name])},
])

test_release if allowed(later)

test_release_is_pushed if obliged(later, set())

test_stranger_rejects if allowed(changed("add", "/approvals/-", object.union(later.approvals[0], {"principal": "mallory", "decision": "reject"})))

test_a_second_early if refused(changed("replace", "/now", "2026-11-21T09:29:59Z"), {"approval-slept-on"})

test_without_a_time if refused(changed("replace", "/approvals/0/issuedAt", null), {"approval-slept-on"})

test_nobody_approved if refused(changed("replace", "/approvals", []), {"approval-slept-on"})

test_somebody_else if refused(changed("replace", "/approvals/0/principal", "mallory"), {"approval-slept-on"})

test_key_in_a_file if refused(changed("replace", "/approvals/0/protection", "software"), {"approval-slept-on"})

test_not_signed if refused(changed("replace", "/approvals/0/source", "github-environment"), {"approval-slept-on"})

test_rejected if refused(changed("replace", "/approvals/0/decision", "reject"), {"approval-slept-on", "not-rejected"})

test_approved_and_rejected if refused(
	changed("add", "/approvals/-", object.union(later.approvals[0], {"decision": "reject"})),
	{"not-rejected"},
)

test_no_version if refused(
	json.patch(later, [{"op": "replace", "path": "/git/tag/tag", "value": "latest"}, {"op": "replace", "path": "/git/ref", "value": "refs/tags/latest"}]),
	{"release-tag"},
)

test_unsigned if refused(changed("replace", "/git/tag/signer/verified", false), {"signed-tag"})

test_tag_of_a_fork if refused(changed("replace", "/git/tag/repositoryMatches", false), {"repository"})

test_not_on_the_branch if refused(changed("replace", "/ancestry/containedIn", ["develop"]), {"on-branch"})

test_trial if allowed(on_branch("main"))

test_trial_is_not_pushed if obliged(on_branch("main"), {"no-push"})

test_another_branch if refused(on_branch("develop"), {"release-tag", "signed-tag", "repository"})

# Without its messages the policy still says no.
test_no_without_messages if {
	allow := data.hallmark.signing.allow with input as testing.release
		with data.maintainers as ["alice"]
		with data.wait as "24h"
		with data.branch as "main"
	allow == false
}
