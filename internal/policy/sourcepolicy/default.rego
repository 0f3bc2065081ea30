# The policy for images that Docker ships and that a build uses without being asked.
# A tag of theirs that is known to be signed must carry a signature by
# docker/github-builder for the repository that releases it. An image named by digest
# alone, a release from before signing, an unknown tag and every other image pass.
package docker

default decision := {"allow": true, "deny_msg": []}

decision := {"allow": false, "deny_msg": [message]} if {
	tag := input.image.tag
	some release in wanted
	not signed(release)
	message := sprintf(
		"image %s is not allowed by default policy: a verified docker-github-builder signature is required for %s tag",
		[input.image.ref, tag],
	)
}

# wanted is what the tag must be a release of: the repository, and a pattern of the
# git refs that may have made it.
wanted contains {"repo": "moby/buildkit", "refs": dockerfile_refs(input.image.tag)} if {
	input.image.fullRepo in {"docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"}
	regex.match(`^(latest|labs|master)$`, input.image.tag)
}

wanted contains {"repo": "moby/buildkit", "refs": dockerfile_refs(input.image.tag)} if {
	input.image.fullRepo in {"docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"}
	at_least(trim_suffix(input.image.tag, "-labs"), 1, 21)
}

wanted contains {"repo": "docker/buildkit-syft-scanner", "refs": `^`} if {
	input.image.fullRepo == "docker.io/docker/buildkit-syft-scanner"
	input.image.tag == "latest"
}

wanted contains {"repo": "docker/buildkit-syft-scanner", "refs": release_refs("refs/tags/", trim_suffix(input.image.tag, "-labs"), labs(input.image.tag))} if {
	input.image.fullRepo == "docker.io/docker/buildkit-syft-scanner"
	at_least(trim_suffix(input.image.tag, "-labs"), 1, 10)
}

wanted contains {"repo": "moby/buildkit", "refs": `^`} if {
	input.image.fullRepo == "docker.io/moby/buildkit"
	regex.match(`^(latest(-ubuntu)?|rootless|(master|nightly)(-rootless|-ubuntu)?|buildx-stable-\d+(-rootless|-gpu)?)$`, input.image.tag)
}

wanted contains {"repo": "moby/buildkit", "refs": sprintf(`^refs/tags/%s$`, [literal(version)])} if {
	input.image.fullRepo == "docker.io/moby/buildkit"
	[_, version, major, minor] := regex.find_all_string_submatch_n(`^(v(\d+)\.(\d+)\.\d+(?:-rc\d+)?)(?:-rootless|-ubuntu)?$`, input.image.tag, 1)[0]
	signed_since([to_number(major), to_number(minor)], 0, 27)
}

signed(release) if {
	some signature in input.image.signatures
	docker_github_builder_signature(signature, release.repo)
	regex.match(release.refs, object.get(signature, ["signer", "sourceRepositoryRef"], ""))
}

dockerfile_refs(tag) := `^` if tag in {"latest", "labs", "master"}

dockerfile_refs(tag) := release_refs("refs/tags/dockerfile/", trim_suffix(tag, "-labs"), labs(tag)) if {
	not tag in {"latest", "labs", "master"}
}

labs(tag) := "-labs" if endswith(tag, "-labs")

labs(tag) := "" if not endswith(tag, "-labs")

# release_refs is a pattern of the refs that a version tag can come from: itself, and
# for 1 and 1.2 any release in that line.
release_refs(prefix, version, ending) := sprintf(`^%s%s%s%s$`, [prefix, literal(version), more, ending]) if {
	more := {1: `(\.\d+(\.\d+)?)?`, 2: `(\.\d+)?`, 3: ``}[count(split(version, "."))]
}

literal(version) := replace(version, ".", `\.`)

# at_least(version, major, minor): 1 is 1 with the newest minor number.
at_least(version, major, minor) if {
	[_, x, y] := regex.find_all_string_submatch_n(`^(\d+)\.(\d+)(?:\.\d+)?$`, version, 1)[0]
	signed_since([to_number(x), to_number(y)], major, minor)
}

at_least(version, major, _) if {
	regex.match(`^\d+$`, version)
	to_number(version) >= major
}

signed_since(version, major, _) if version[0] > major

signed_since(version, major, minor) if {
	version[0] == major
	version[1] >= minor
}
