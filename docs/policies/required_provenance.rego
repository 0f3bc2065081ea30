# Images of our own say how they were built: by our builder, from our repositories, and of
# images that come from places we know. Anybody can sign a statement that says so: the
# signature must be our builder's, for one of our repositories.
package docker

ours := "registry.example.com/acme/"

builders := {"https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main"}

issuer := "https://token.actions.githubusercontent.com"

sources := "https://github.com/acme/"

registries := {"docker.io", "registry.example.com"}

default allow := false

from_us if startswith(input.image.fullRepo, ours)

allow if not from_us

allow if {
	input.image.provenance.verified
	trusted(input.image.provenance.signer)
	input.image.provenance.builderID in builders
	startswith(input.image.provenance.configSource.uri, sources)
	count(input.image.provenance.materials) > 0
	every material in input.image.provenance.materials {
		known(material)
	}
}

trusted(signer) if {
	signer.issuer == issuer
	signer.subjectAlternativeName in builders
	startswith(signer.sourceRepositoryURI, sources)
}

known(material) if material.image.host in registries

known(material) if startswith(material.git.remote, sources)

known(material) if material.http.schema == "https"

deny_msg contains sprintf("%s: no verified provenance by our builder, of our sources", [input.image.ref]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
