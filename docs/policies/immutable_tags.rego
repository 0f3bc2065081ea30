# A tag means what it meant when hallmark.lock was written: an image that is not in the
# lock, or is another one by now, is refused. hallmark policy lock writes it.
package docker

default allow := false

allow if not input.image

allow if {
	input.image.locked
	not input.image.moved
}

deny_msg contains sprintf("%s is not in hallmark.lock", [input.image.ref]) if {
	input.image
	not input.image.locked
}

deny_msg contains sprintf("%s moved: it was %s when it was locked, and is %s", [input.image.ref, input.image.locked, input.image.checksum]) if {
	input.image.locked
	input.image.moved
}

decision := {"allow": allow, "deny_msg": deny_msg}
