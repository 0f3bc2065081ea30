# Solo: one person releases. A release is a signed tag, and an approval by the person with
# a FIDO key, which has to be touched, made a day before: time to notice that somebody
# else did. The time of an approval is its signer's word, so this helps against haste and
# a borrowed session, and not against who has the key. The branch may be built to try it,
# and nothing of that is pushed.
#
# data.json has the person, how long to wait, and the branch; authority.json has the keys.
package hallmark.signing

import data.hallmark.lib

needed := {"release-tag", "signed-tag", "repository", "on-branch", "approval-slept-on", "not-rejected"}

passed contains "release-tag" if lib.release_tag

passed contains "signed-tag" if lib.signed_tag_by({"role:release"})

passed contains "repository" if input.git.tag.repositoryMatches

passed contains "on-branch" if lib.on_branch(data.branch)

passed contains "not-rejected" if lib.not_rejected_by(data.maintainers)

passed contains "approval-slept-on" if {
	some approval in input.approvals
	approval.decision == "approve"
	approval.source == "signed"
	approval.protection == "fido"
	approval.principal in data.maintainers
	is_string(approval.issuedAt)
	time.parse_rfc3339_ns(input.now) - time.parse_rfc3339_ns(approval.issuedAt) >= time.parse_duration_ns(data.wait)
}

trial if input.git.ref == concat("", ["refs/heads/", data.branch])

default allow := false

allow if needed - passed == set()

allow if trial

obligations contains {"type": "no-push"} if trial

deny_msg contains sprintf("%s: not satisfied", [name]) if {
	not trial
	some name in (needed - passed)
}
