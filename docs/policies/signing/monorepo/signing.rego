# Monorepo: each target has owners of its own, of whom two approve its releases. A target
# that nobody owns is released by nobody.
package hallmark.signing

import data.hallmark.lib

owners := {
	"api": {"alice", "bob", "carol"},
	"web": {"dave", "erin"},
}

default allow := false

allow if {
	lib.release_tag
	lib.signed_tag_by({"role:release"})
	lib.quorum(owners[input.build.target], 2)
}

owned if owners[input.build.target]

deny_msg contains sprintf("the target %q has no owners", [input.build.target]) if not owned
