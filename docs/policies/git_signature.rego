# Repositories are taken at a tag that a maintainer signed. maintainers.pub beside this
# file has their SSH keys, in the format of authorized_keys, or armored OpenPGP keys.
package docker

default allow := false

allow if not input.git

allow if {
	input.git.tagName
	input.git.tag.tag == input.git.tagName
	verify_git_signature(input.git.tag, "maintainers.pub")
}

deny_msg contains sprintf("%s: no tag that a maintainer signed", [input.git.fullURL]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
