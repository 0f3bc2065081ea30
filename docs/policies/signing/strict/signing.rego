# Strict: a release is a tag signed in an HSM, on the protected branch and newer than the
# last release, scanned, built by a builder of ours under a policy that has been in force
# for a while and was never reset, and approved with hardware keys by people who neither
# made the commit and the tag nor started the run. Nobody may have rejected it. The branch
# may be built to try it, and nothing of that is pushed.
#
# data.json has the people and the limits; until freeze.until nothing is released.
# authority.json has the keys. Each condition is positive: what is missing can only fail.
package hallmark.signing

import data.hallmark.lib

needed := {
	"release-tag", "hsm-tag", "repository", "on-branch", "newer-than-last-release",
	"hardware-approvals", "approvals-by-others", "not-rejected", "scanned",
	"builder", "no-reset", "policy-age", "not-frozen",
}

passed contains "release-tag" if lib.release_tag

passed contains "hsm-tag" if lib.hsm_signed_tag({"role:release"})

passed contains "repository" if input.git.tag.repositoryMatches

passed contains "on-branch" if lib.on_branch(data.branch)

passed contains "newer-than-last-release" if lib.descends_from_last_release

passed contains "hardware-approvals" if lib.hardware_quorum(data.maintainers, data.approvals)

passed contains "approvals-by-others" if lib.quorum({name | some name in data.maintainers} - lib.authors, data.approvals)

passed contains "not-rejected" if lib.not_rejected_by(data.maintainers)

passed contains "scanned" if lib.scanner_passed(data.scanner, data.severity)

passed contains "builder" if lib.builder_in(data.builders)

passed contains "no-reset" if input.policy.resets == 0

passed contains "policy-age" if lib.min_policy_age(data.age)

passed contains "not-frozen" if input.now >= data.freeze.until

trial if input.git.ref == concat("", ["refs/heads/", data.branch])

default allow := false

allow if needed - passed == set()

allow if trial

obligations contains {"type": "no-push"} if trial

obligations contains {"type": "record-vsa"}

deny_msg contains sprintf("%s: not satisfied", [name]) if {
	not trial
	some name in (needed - passed)
}
