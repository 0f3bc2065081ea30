# Environments alone: two of the reviewers approved the run in the GitHub environment
# release. Nothing is signed: an approval is worth an access token of the reviewer, and who
# administers the repository may be able to do without. It is a start for a team without
# keys, and says so each time.
package hallmark.signing

import data.hallmark.lib

reviewers := {"alice", "bob", "carol"}

approved contains approval.principal if {
	some approval in input.approvals
	approval.source == "github-environment"
	approval.environment == "release"
	approval.decision == "approve"
	approval.principal in reviewers
}

default allow := false

allow if {
	lib.release_tag
	count(approved) >= 2
	lib.not_rejected_by(reviewers)
}

warn_msg contains "approvals by GitHub environments are worth an access token each: hallmark approve signs them"

deny_msg contains sprintf("2 of %v must approve the run in the environment release; there are %v", [reviewers, approved]) if {
	count(approved) < 2
}
