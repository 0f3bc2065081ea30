# Helper rules that policies of package docker call without an import, with
# buildx's names and meaning.
package docker

# docker_github_builder_signature(signature, repo): the signature was made by
# docker/github-builder on a runner of GitHub for the repository OWNER/NAME, under
# the public instance's certificate authority, at a time that somebody vouched for.
docker_github_builder_signature(signature, repo) if {
	signature.kind == "docker-github-builder"
	signature.type == "bundle-v0.3"
	count(signature.timestamps) > 0
	signer := signature.signer
	signer.certificateIssuer == "CN=sigstore-intermediate,O=sigstore.dev"
	signer.issuer == "https://token.actions.githubusercontent.com"
	signer.runnerEnvironment == "github-hosted"
	signer.sourceRepositoryURI == concat("", ["https://github.com/", repo])
}

# docker_github_builder(image, repo): the image has provenance and such a signature.
docker_github_builder(image, repo) if {
	image.hasProvenance
	some signature in image.signatures
	docker_github_builder_signature(signature, repo)
}

# docker_github_builder_tag(image, repo, tag): the image has provenance, and one
# such signature is for this tag of the repository.
docker_github_builder_tag(image, repo, tag) if {
	image.hasProvenance
	some signature in image.signatures
	docker_github_builder_signature(signature, repo)
	signature.signer.sourceRepositoryRef == concat("", ["refs/tags/", tag])
}

# docker_github_builder_bundle(http, file, repo): the Sigstore bundle in the file
# has such a signature of the download.
docker_github_builder_bundle(http, file, repo) if {
	signature := artifact_attestation(http, file)
	docker_github_builder_signature(signature, repo)
}

# github_release_attestation(http): the signature that GitHub's attestations have of
# a release asset, looked up in the repository that the URL names.
github_release_attestation(http) := signature if {
	http.schema == "https"
	lower(http.host) == "github.com"
	found := regex.find_all_string_submatch_n(`^/([^/]+)/([^/]+)/releases/download/[^/]+/.`, http.path, 1)
	[_, owner, name] := found[0]
	signature := github_attestation(http, concat("/", [owner, name]))
}
