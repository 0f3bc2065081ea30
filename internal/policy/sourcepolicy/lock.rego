# What hallmark.lock of the commit has is what it was when it was locked. Of a source that
# the lock does not have this says nothing.
package docker

moved contains ["image", input.image.ref, input.image.checksum, input.image.locked] if {
	input.image.locked
	input.image.moved
}

moved contains ["git", sprintf("%s, %s,", [input.git.remote, input.git.ref]), input.git.commitChecksum, input.git.locked] if {
	input.git.locked
	input.git.moved
}

moved contains ["http", input.http.url, input.http.checksum, input.http.locked] if {
	input.http.locked
	input.http.moved
}

deny_msg contains sprintf("%s %s moved: it is %s, and was %s when it was locked", what) if some what in moved

decision := {
	"allow": count(moved) == 0, "deny_msg": deny_msg, "code": "SOURCE_MOVED",
	"hint": "find out what changed; then hallmark policy lock --update takes it, and the lock is committed",
}
