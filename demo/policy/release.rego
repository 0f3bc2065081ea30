# Which tags may be built and signed: annotated release tags, v1.2.3, signed by
# a key that allowed_signers (beside this file) lists as "release".
package hallmark.signing

default allow := false

needed := {"release-tag", "signed-by-release"}

passed contains "release-tag" if {
	input.git.isAnnotatedTag
	regex.match(`^refs/tags/v[0-9]+\.[0-9]+\.[0-9]+$`, input.git.ref)
}

passed contains "signed-by-release" if "release" in input.git.tag.signer.principals

allow if needed - passed == set()

sentence := {
	"release-tag": "only annotated tags named like v1.2.3 are released",
	"signed-by-release": "the tag must be signed by the key of \"release\"",
}

deny_msg contains sentence[x] if some x in needed - passed
