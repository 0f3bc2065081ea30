# Nightly: the main branch may be built and pushed without anybody's approval, but under the
# tag nightly alone: never as latest or as a version, which is what people take for a
# release. Releases are another policy's, such as that of team.
package hallmark.signing

import data.hallmark.lib

default allow := false

allow if {
	input.git.ref == "refs/heads/main"
	lib.on_branch("main")
	only_nightly
}

only_nightly if {
	every image in input.build.images {
		endswith(image, ":nightly")
	}
}

deny_msg contains "a nightly build is pushed under the tag nightly alone" if not only_nightly

obligations contains {"type": "record-vsa"}

obligations contains {"type": "annotate", "annotations": {"org.opencontainers.image.version": "nightly"}}
