# Images of our own repositories carry a verified signature by our release workflow.
# Under which trust a signature is verified is said by the call, not here.
package docker

# The end is a slash: acme-evil is somebody else.
ours := "registry.example.com/acme/"

workflow := "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"

issuer := "https://token.actions.githubusercontent.com"

default allow := false

from_us if startswith(input.image.fullRepo, ours)

allow if not from_us

allow if {
	some signature in input.image.signatures
	signature.signer.subjectAlternativeName == workflow
	signature.signer.issuer == issuer
}

deny_msg contains sprintf("%s is not signed by %s", [input.image.ref, workflow]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
