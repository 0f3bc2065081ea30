# Helpers for policies of package hallmark.signing, as data.hallmark.lib.
# Each is true or undefined: missing input can only fail.
package hallmark.lib

# release_tag: an annotated tag that names a commit, stands under its own name
# and is called v and a semantic version, such as v1.2.3 or v2.0.0-rc.1.
release_tag if {
	input.git.isAnnotatedTag == true
	input.git.tag.type == "commit"
	input.git.tag.nameMatchesRef == true
	input.git.ref == concat("", ["refs/tags/", input.git.tag.tag])
	startswith(input.git.tag.tag, "v")
	semver.is_valid(substring(input.git.tag.tag, 1, -1))
}

# signed_tag_by(names): the tag under its own name is signed, and the signature
# verified with a key whose fingerprint, or one of whose principals, is in names
# (a set or an array).
signed_tag_by(names) if {
	_own_name
	input.git.tag.signer.fingerprint in names
}

signed_tag_by(names) if {
	_own_name
	some principal in input.git.tag.signer.principals
	principal in names
}

_own_name if {
	input.git.isAnnotatedTag == true
	input.git.tag.nameMatchesRef == true
}
