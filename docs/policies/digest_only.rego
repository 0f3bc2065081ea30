# Whatever has a digest is named by it: images, and commits of git repositories. A file
# from the web must come over TLS; its digest is for ADD --checksum and hallmark.lock.
package docker

default allow := false

allow if input.local

allow if input.image.isCanonical

allow if input.git.isCommitRef

allow if input.http.schema == "https"

deny_msg contains sprintf("%s: name it by digest, as in %s:TAG@sha256:…", [input.image.ref, input.image.repo]) if {
	input.image
	not input.image.isCanonical
}

deny_msg contains sprintf("%s: name the commit", [input.git.remote]) if {
	input.git
	not input.git.isCommitRef
}

deny_msg contains sprintf("%s: use https", [input.http.url]) if {
	input.http
	not input.http.schema == "https"
}

decision := {"allow": allow, "deny_msg": deny_msg}
