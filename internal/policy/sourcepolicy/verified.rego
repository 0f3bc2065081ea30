# What --verified demands of every source: hallmark.lock has it, and it is what it was then;
# or whoever the trust bundle names for it has signed it. A digest in the Dockerfile says
# which bytes are meant, and not that anybody looked at them. trust.json is made of the call
# (CompileVerified).
package docker

trust := load_json("trust.json")

default allow := false

allow if input.env.capsRequest

# A folder is the commit that is built, which was judged before.
allow if input.local

allow if ours

allow if {
	not ours
	locked
}

# Signatures are looked up when nothing else is left. One does not help what moved.
allow if {
	not ours
	not listed
	signed
}

# The commit that is built, where BuildKit fetches it, and what the operator's builder file names.
ours if {
	input.git.isCommitRef
	input.git.commitChecksum == trust.commit
}

ours if input.image.ref in trust.images

listed if {
	trust.lock
	input.image.locked
}

listed if {
	trust.lock
	input.git.locked
}

listed if {
	trust.lock
	input.http.locked
}

moved if input.image.moved

moved if input.git.moved

moved if input.http.moved

locked if {
	listed
	not moved
}

signed if {
	some signature in input.image.signatures
	signature.pinned
}

# Statements of what the image was made of, and of what is in it. Others may say that it is bad.
signed if {
	some attestation in input.image.attestations
	attestation.pinned
	attestation.predicateType in {
		"https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2",
		"https://spdx.dev/Document", "https://cyclonedx.org/bom",
	}
}

signed if {
	input.git.tagName
	some key in trust.keys
	verify_git_signature(input.git.tag, key)
}

signed if {
	some key in trust.keys
	verify_git_signature(input.git.commit, key)
}

deny_msg contains sprintf("image %s is not in hallmark.lock, and nobody who is pinned for %s has signed it", [input.image.ref, input.image.fullRepo]) if not allow

deny_msg contains sprintf("git %s, %s, is not in hallmark.lock, and no key of the trust bundle has signed its tag or commit", [input.git.remote, object.get(input.git, "ref", "no ref")]) if not allow

deny_msg contains sprintf("http %s is not in hallmark.lock", [input.http.url]) if not allow

look := "look at it, then hallmark policy lock adds it"

hint := concat("", [look, "; or ask its publisher to sign it, and pin who that is: hallmark trust pin ", input.image.fullRepo]) if input.image

hint := concat("", [look, "; or ask its maintainers for a signed tag, and add their key: hallmark trust add key FILE"]) if input.git

hint := concat("", [look, " with its checksum"]) if input.http

decision := {"allow": true} if allow

decision := {"allow": false, "deny_msg": deny_msg, "code": "SOURCE_UNVERIFIED", "hint": hint} if not allow
