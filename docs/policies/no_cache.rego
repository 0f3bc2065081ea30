# Nothing of other builds is taken over.
package docker

default allow := false

allow if input.build.cache == false

deny_msg contains "the build imports a cache: build without it" if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
