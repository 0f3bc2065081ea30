# Nothing of the caller's machine goes into the build: context and Dockerfile come from
# a git repository or as a file from the web.
package docker

default allow := false

allow if not input.local

deny_msg contains sprintf("the folder %s of the caller's machine: build from a repository's URL", [input.local.name]) if input.local

decision := {"allow": allow, "deny_msg": deny_msg}
