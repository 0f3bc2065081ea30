package hallmark.signing_test

import data.hallmark.testing

refused(doc, name) if {
	testing.refused with input as doc
	denials := testing.denials with input as doc
	denials == {sprintf("the organisation wants %s", [name])}
}

test_release if testing.allowed with input as testing.release

test_our_builder if testing.allowed with input as testing.replaced("/builder/uri", "https://github.com/org/builder/.github/workflows/build.yml@refs/heads/main")

test_another_builder if refused(testing.replaced("/builder/uri", "https://github.com/org/builder2/.github/workflows/build.yml@refs/heads/main"), "builder")

test_own_machine if refused(testing.replaced("/builder/runnerEnvironment", "self-hosted"), "hosted-runner")

test_reset if refused(testing.replaced("/policy/resets", 1), "no-reset")

test_new_policy if refused(testing.replaced("/policy/storedAt", "2026-11-20T11:30:00Z"), "policy-age")

test_rehearsal if refused(testing.replaced("/policy/storedAt", null), "policy-age")

# Without its message the policy still says no.
test_no_without_message if {
	allow := data.hallmark.signing.allow with input as testing.replaced("/policy/resets", 1)
	allow == false
}
