# The example of the proposal from which signing policies grew
# (https://github.com/docker/github-builder/issues/203), made real: a tag that is signed with
# the release key, two of three maintainers, and a clean scan.
package hallmark.signing

import data.hallmark.lib

release_key := "SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk"

maintainers := {"crazy-max", "abc", "tonistiigi"}

default allow := false

allow if {
	lib.signed_tag_by({release_key})
	lib.quorum(maintainers, 2)
	lib.scanner_passed("codeql", "medium")
}

deny_msg contains "the tag must be annotated and signed with the release key" if not lib.signed_tag_by({release_key})

deny_msg contains sprintf("2 approvals of %v are needed; there are those of %v", [maintainers, lib.approvers({"signed"})]) if {
	not lib.quorum(maintainers, 2)
}

deny_msg contains "codeql must have passed on this commit, with nothing above medium" if {
	not lib.scanner_passed("codeql", "medium")
}
