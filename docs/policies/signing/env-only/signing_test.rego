package hallmark.signing_test

import data.hallmark.testing

# Two reviewers approved in the environment.
release := approved_in("github-environment", "release")

approved_in(source, environment) := json.patch(testing.release, [op |
	some i in [0, 1]
	some field, value in {"source": source, "environment": environment, "issuedAt": null, "expiresAt": null, "protection": "account", "kind": "api"}
	op := {"op": "replace", "path": sprintf("/approvals/%d/%s", [i, field]), "value": value}
])

changed(path, value) := json.patch(release, [{"op": "replace", "path": path, "value": value}])

refused(doc) if testing.refused with input as doc

test_release if testing.allowed with input as release

test_warns if {
	warnings := testing.warnings with input as release
	count(warnings) == 1
}

test_one_twice if refused(changed("/approvals/1/principal", "alice"))

test_stranger if refused(changed("/approvals/1/principal", "mallory"))

test_another_environment if refused(changed("/approvals/1/environment", "staging"))

test_review_with_the_environments_name if refused(changed("/approvals/1/source", "github-review"))

test_rejected_by_one_of_two if refused(changed("/approvals/1/decision", "reject"))

test_rejected_by_a_third if refused(json.patch(release, [{"op": "add", "path": "/approvals/-", "value": object.union(release.approvals[0], {"principal": "carol", "decision": "reject"})}]))

test_no_version if refused(changed("/git/tag/tag", "latest"))

test_says_who if {
	denials := testing.denials with input as changed("/approvals/1/principal", "mallory")
	some denial in denials
	endswith(denial, `there are {"alice"}`)
}

# Without its message the policy still says no.
test_no_without_message if {
	allow := data.hallmark.signing.allow with input as changed("/approvals/1/principal", "mallory")
	allow == false
}

# Who rejected is not among those who approved.
test_rejection_is_no_approval if {
	denials := testing.denials with input as changed("/approvals/1/decision", "reject")
	some denial in denials
	endswith(denial, `there are {"alice"}`)
}
