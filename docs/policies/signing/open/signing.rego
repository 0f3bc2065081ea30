# Open: whoever the authority lets sign tags (role release) makes a release, alone. It
# stops a leaked token and a tag of a fork; it does not stop the one who signs. The branch
# may be built to try it, and nothing of that is pushed.
#
# data.json has the branch; authority.json has the keys.
package hallmark.signing

import data.hallmark.lib

needed := {"signed-tag", "repository"}

passed contains "signed-tag" if lib.signed_tag_by({"role:release"})

passed contains "repository" if input.git.tag.repositoryMatches

trial if input.git.ref == concat("", ["refs/heads/", data.branch])

default allow := false

allow if needed - passed == set()

allow if trial

obligations contains {"type": "no-push"} if trial

warn_msg contains "nobody approved this release with a key of their own" if {
	not trial
	lib.approvers({"signed"}) == set()
}

deny_msg contains sprintf("%s: not satisfied", [name]) if {
	not trial
	some name in (needed - passed)
}
