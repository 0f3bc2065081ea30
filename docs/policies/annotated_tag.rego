# Repositories are taken at an annotated tag of a release: it has an author and a date,
# and is an object of its own that can be signed.
package docker

default allow := false

allow if not input.git

allow if {
	input.git.isAnnotatedTag
	regex.match(`^v[0-9]+[.][0-9]+[.][0-9]+$`, input.git.tagName)
	input.git.tag.tag == input.git.tagName
}

deny_msg contains sprintf("%s: want an annotated tag like v1.2.3", [input.git.fullURL]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
