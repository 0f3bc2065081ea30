# Images, repositories and files come from places that are named here, whole: a name
# that merely begins or ends alike is another one.
package docker

registries := {"docker.io", "ghcr.io", "registry.example.com"}

repositories := {"github.com"}

files := {"github.com", "dl-cdn.alpinelinux.org"}

default allow := false

allow if input.local

allow if input.image.host in registries

allow if input.git.host in repositories

allow if {
	input.http.host in files
	input.http.schema == "https"
}

deny_msg contains sprintf("images from %s are not allowed", [input.image.host]) if not allow

deny_msg contains sprintf("repositories at %s are not allowed", [input.git.host]) if not allow

deny_msg contains sprintf("files from %s are not allowed", [input.http.url]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
