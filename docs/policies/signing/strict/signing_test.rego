# What the strict policy lets through, and one near miss for each line of it. People and
# limits are the tests' own, so that they hold whatever data.json says.
package hallmark.signing_test

import data.hallmark.testing

allowed(doc) if {
	testing.allowed with input as doc
		with data.maintainers as ["alice", "bob", "carol", "dave"]
		with data.approvals as 2
		with data.branch as "main"
		with data.scanner as "semgrep"
		with data.severity as "low"
		with data.builders as ["https://github.com/docker/github-builder/.github/workflows/"]
		with data.age as "24h"
		with data.freeze.until as "2026-01-01T00:00:00Z"
}

said(doc) := denials if {
	denials := testing.denials with input as doc
		with data.maintainers as ["alice", "bob", "carol", "dave"]
		with data.approvals as 2
		with data.branch as "main"
		with data.scanner as "semgrep"
		with data.severity as "low"
		with data.builders as ["https://github.com/docker/github-builder/.github/workflows/"]
		with data.age as "24h"
		with data.freeze.until as "2026-01-01T00:00:00Z"
}

refused(doc, names) if {
	said(doc) == {sprintf("%s: not satisfied", [name]) | some name in names}
	count(names) > 0
	allow := data.hallmark.signing.allow with input as doc
		with data.maintainers as ["alice", "bob", "carol", "dave"]
		with data.approvals as 2
		with data.branch as "main"
		with data.scanner as "semgrep"
		with data.severity as "low"
		with data.builders as ["https://github.com/docker/github-builder/.github/workflows/"]
		with data.age as "24h"
		with data.freeze.until as "2026-01-01T00:00:00Z"
	allow == false
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

also(fields) := testing.added("/approvals/-", object.union(testing.release.approvals[0], fields))

test_release if allowed(testing.release)

test_release_is_recorded if obliged(testing.release, {"record-vsa"})

test_more_approvals if allowed(also({"principal": "dave"}))

test_stranger_rejects if allowed(also({"principal": "mallory", "decision": "reject"}))

test_first_release if allowed(testing.removed("/ancestry/lastRelease"))

test_no_version if refused(
	json.patch(testing.release, [{"op": "replace", "path": "/git/tag/tag", "value": "v1"}, {"op": "replace", "path": "/git/ref", "value": "refs/tags/v1"}]),
	{"release-tag"},
)

test_key_in_a_file if refused(testing.replaced("/git/tag/signer/protection", "software"), {"hsm-tag"})

test_tag_by_an_approver if refused(testing.replaced("/git/tag/signer/roles", ["update"]), {"hsm-tag"})

test_tag_of_a_fork if refused(testing.replaced("/git/tag/repositoryMatches", false), {"repository"})

test_not_on_the_branch if refused(testing.replaced("/ancestry/containedIn", []), {"on-branch"})

test_older_than_last_release if refused(testing.replaced("/ancestry/lastReleaseIsAncestor", false), {"newer-than-last-release"})

test_last_release_unknown if refused(testing.removed("/ancestry/lastReleaseIsAncestor"), {"newer-than-last-release"})

test_approval_with_a_file if refused(testing.replaced("/approvals/1/protection", "software"), {"hardware-approvals"})

test_one_of_two if refused(testing.removed("/approvals/0"), {"hardware-approvals", "approvals-by-others"})

test_approved_by_who_started_it if refused(testing.replaced("/run/actorPrincipal", "bob"), {"approvals-by-others"})

test_approved_by_who_signed_the_commit if refused(
	testing.added("/git/commit/signer", object.union(testing.release.git.tag.signer, {"principal": "alice"})),
	{"approvals-by-others"},
)

test_rejected if refused(also({"principal": "carol", "decision": "reject"}), {"not-rejected"})

test_not_scanned if refused(testing.replaced("/scans", []), {"scanned"})

test_scan_of_another_commit if refused(testing.replaced("/scans/1/commit", "0f6e5d4c3b2a19080706050403020100ffeeddcc"), {"scanned"})

test_scan_found_more if refused(testing.replaced("/scans/1/maxSeverity", "medium"), {"scanned"})

test_another_builder if refused(
	testing.replaced("/builder/uri", "https://github.com/docker-evil/github-builder/.github/workflows/build.yml@refs/tags/v2"),
	{"builder"},
)

test_reset if refused(testing.replaced("/policy/resets", 1), {"no-reset"})

test_young_policy if refused(testing.replaced("/policy/effectiveAt", "2026-11-19T12:00:01Z"), {"policy-age"})

test_frozen if refused(testing.replaced("/now", "2025-12-31T23:59:59Z"), {"not-frozen", "policy-age"})

test_trial if allowed(on_branch("main"))

test_trial_is_not_pushed if obliged(on_branch("main"), {"no-push", "record-vsa"})

test_another_branch if refused(on_branch("develop"), {"release-tag", "hsm-tag", "repository"})
