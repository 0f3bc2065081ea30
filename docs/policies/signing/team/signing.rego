# Team: a release is a signed tag of a commit on the protected branch that enough of the
# maintainers approved, each with a key of their own, and that none of them rejected. The
# branch itself may be built to try it, and nothing of that is pushed.
#
# data.json has the people, how many of them, and the branch; authority.json has their
# keys, and who signs tags (role release).
package hallmark.signing

import data.hallmark.lib

needed := {"release-tag", "signed-tag", "repository", "on-branch", "approvals", "not-rejected"}

passed contains "release-tag" if lib.release_tag

passed contains "signed-tag" if lib.signed_tag_by({"role:release"})

passed contains "repository" if input.git.tag.repositoryMatches

passed contains "on-branch" if lib.on_branch(data.branch)

passed contains "approvals" if lib.quorum(data.maintainers, data.approvals)

passed contains "not-rejected" if lib.not_rejected_by(data.maintainers)

trial if input.git.ref == concat("", ["refs/heads/", data.branch])

default allow := false

allow if needed - passed == set()

allow if trial

obligations contains {"type": "no-push"} if trial

deny_msg contains sprintf("%s: not satisfied", [name]) if {
	not trial
	some name in (needed - passed)
}
