package hallmark.signing_test

import data.hallmark.testing

# The release, approved by two of the policy's own maintainers.
release := approved_by("abc", "tonistiigi")

approved_by(first, second) := json.patch(testing.release, [
	{"op": "replace", "path": "/approvals/0/principal", "value": first},
	{"op": "replace", "path": "/approvals/1/principal", "value": second},
])

changed(op, path, value) := json.patch(release, [{"op": op, "path": path, "value": value}])

allowed(doc) if testing.allowed with input as doc

# Refused with one message, which has this text.
refused(doc, text) if {
	testing.refused with input as doc
	denials := testing.denials with input as doc
	count(denials) == 1
	some denial in denials
	contains(denial, text)
}

test_release if allowed(release)

test_other_two if allowed(approved_by("crazy-max", "abc"))

test_another_key if refused(changed("replace", "/git/tag/signer/fingerprint", "SHA256:zUtt8"), "release key")

test_claimed_key if refused(changed("remove", "/git/tag/signer", null), "release key")

test_lightweight if refused(changed("replace", "/git/isAnnotatedTag", false), "release key")

test_one_twice if refused(approved_by("abc", "abc"), `those of {"abc"}`)

test_strangers if refused(approved_by("mallory", "abc"), "2 approvals of")

test_medium_finding if allowed(changed("replace", "/scans/0/maxSeverity", "medium"))

test_high_finding if refused(changed("replace", "/scans/0/maxSeverity", "high"), "codeql")

test_scan_of_the_repository_itself if refused(changed("replace", "/scans/0/trusted", false), "codeql")

# Without its messages the policy still says no.
test_no_without_messages if {
	every doc in [
		changed("remove", "/git/tag/signer", null),
		approved_by("abc", "abc"),
		changed("replace", "/scans/0/maxSeverity", "high"),
	] {
		allow := data.hallmark.signing.allow with input as doc
		allow == false
	}
}
