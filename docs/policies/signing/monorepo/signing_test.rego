package hallmark.signing_test

import data.hallmark.testing

release := testing.replaced("/build/target", "api")

changed(path, value) := json.patch(release, [{"op": "replace", "path": path, "value": value}])

refused(doc) if testing.refused with input as doc

test_release if testing.allowed with input as release

test_owners_of_another_target if refused(changed("/build/target", "web"))

test_target_without_owners if refused(changed("/build/target", "docs"))

test_no_target if refused(changed("/build/target", ""))

test_no_owners_is_said if {
	denials := testing.denials with input as changed("/build/target", "docs")
	denials == {`the target "docs" has no owners`}
}

test_owners_is_not_said if {
	denials := testing.denials with input as changed("/build/target", "web")
	denials == set()
}

test_one_owner if refused(changed("/approvals/1/principal", "dave"))

test_unsigned if refused(changed("/git/tag/signer/verified", false))

test_no_version if refused(changed("/git/tag/type", "tree"))
