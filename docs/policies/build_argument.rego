# What goes into a production build is stricter than what goes into others. The build
# says which it is: --build-arg ENVIRONMENT=production. Without a word it is one.
package docker

default allow := false

development if input.env.args.ENVIRONMENT == "development"

allow if development

allow if not input.image

allow if {
	not development
	input.image.host == "registry.example.com"
	input.image.tag
	not input.image.isCanonical # nobody looks up a tag that stands beside a digest
	not prerelease
}

prerelease if regex.match(`-(alpha|beta|rc|dev)`, input.image.tag)

prerelease if input.image.tag in {"latest", "edge", "nightly"}

deny_msg contains sprintf("%s: a production build takes released images of registry.example.com, by their tags", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
