# Helpers for signing policies, version 1, as data.hallmark.lib. Each condition is true
# or undefined: what is missing or of another kind can only fail. What is a set is always
# defined. Wherever a list of names or keys is wanted, a set or an array will do.
package hallmark.lib

# release_tag: an annotated tag of a commit, under its own name, which is v and a
# semantic version, such as v1.2.3 or v2.0.0-rc.1.
release_tag if {
	_own_name
	input.git.tag.type == "commit"
	input.git.ref == concat("", ["refs/tags/", input.git.tag.tag])
	startswith(input.git.tag.tag, "v")
	semver.is_valid(substring(input.git.tag.tag, 1, -1))
}

# signed_tag_by(keys): the tag stands under its own name, and its signature verified
# with a key of the record that is named in keys: by its fingerprint, or by a role of
# its principal, as "role:release".
signed_tag_by(keys) if {
	_own_name
	input.git.tag.signer.verified == true
	_names(keys, input.git.tag.signer)
}

# hsm_signed_tag(keys): the same, and the record says that the key is in an HSM.
hsm_signed_tag(keys) if {
	signed_tag_by(keys)
	input.git.tag.signer.protection == "hsm"
}

# quorum(names, n): at least n of the names approved with a signature of their own. A
# person counts once, however many approvals there are, and not when they also rejected.
quorum(names, n) if quorum_from(names, n, {"signed"})

# quorum_from(names, n, sources): the same with approvals of these sources, such as
# {"signed", "github-review"}. One that is not signed is worth a leaked access token.
quorum_from(names, n, sources) if _at_least(approvers(sources) & _set(names), n)

# hardware_quorum(names, n): at least n of the names signed with a key that the record
# says is in an HSM or a FIDO token.
hardware_quorum(names, n) if _at_least((_hardware - _rejecters) & _set(names), n)

# approvers(sources): who approved, by these sources.
approvers(sources) := {a.principal |
	some a in input.approvals
	a.decision == "approve"
	a.source in sources
} - _rejecters

# missing_approvers(names, sources): who of the names did not.
missing_approvers(names, sources) := _set(names) - approvers(sources)

# rejected_by(names): who of the names said no.
rejected_by(names) := _rejecters & _set(names)

# not_rejected_by(names): none of them did.
not_rejected_by(names) if {
	_listed(names)
	rejected_by(names) == set()
}

# authors: who started the run, signed the tag and signed the commit, as far as known.
authors contains input.run.actorPrincipal if is_string(input.run.actorPrincipal)

authors contains input.git.tag.signer.principal

authors contains input.git.commit.signer.principal

# no_self_approval: somebody approved who is none of the authors. For a quorum of people
# who are not, write quorum(names - lib.authors, n).
no_self_approval if count(approvers({"signed", "github-environment", "github-review", "gittuf"}) - authors) >= 1

# scanner_passed(tool, limit): a trusted and complete scan of this very commit found
# nothing above the limit ("none", "note", "low", "medium", "high", "critical"), nor did
# any other trusted scan of it by the same tool. One that leaves out what an earlier
# commit had (baseline) does not count.
scanner_passed(tool, limit) if {
	some scan in _scans(tool)
	scan.completed == true
	scan.rules >= 1
	scan.baseline == ""
	every other in _scans(tool) {
		_severity[other.maxSeverity] <= _severity[limit]
		_worst(other) <= _severity[limit]
	}
}

# on_branch(branch): the commit is contained in this protected branch.
on_branch(branch) if branch in input.ancestry.containedIn

# descends_from_last_release: the last release is an ancestor of the commit, or there was
# none yet.
descends_from_last_release if input.ancestry.lastReleaseIsAncestor == true

# builder_in(prefixes): the builder's workflow is one of these. A prefix ends with a slash
# or an @; what ends otherwise is the whole URI.
builder_in(prefixes) if {
	is_string(input.builder.uri)
	_listed(prefixes)
	some prefix in prefixes
	_covers(prefix, input.builder.uri)
}

# min_policy_age(d): the policy was stored, and has been in force, for at least this long
# ("24h").
min_policy_age(d) if {
	time.parse_duration_ns(d) >= 0
	every at in [input.policy.storedAt, input.policy.effectiveAt] {
		is_string(at)
		time.parse_rfc3339_ns(input.now) - time.parse_rfc3339_ns(at) >= time.parse_duration_ns(d)
	}
}

_own_name if {
	input.git.isAnnotatedTag == true
	input.git.tag.nameMatchesRef == true
}

_names(keys, signer) if {
	_listed(keys)
	signer.fingerprint in keys
}

_names(keys, signer) if {
	_listed(keys)
	some role in signer.roles
	concat("", ["role:", role]) in keys
}

_hardware := {a.principal |
	some a in input.approvals
	a.decision == "approve"
	a.source == "signed"
	a.protection in {"hsm", "fido"}
}

_rejecters := {a.principal |
	some a in input.approvals
	a.decision == "reject"
}

# A number is demanded because any text is greater than any number, and null less.
_at_least(people, n) if {
	is_number(n)
	n >= 1
	count(people) >= n
}

_scans(tool) := {scan |
	some scan in input.scans
	scan.tool.name == tool
	scan.trusted == true
	scan.scope in {"builder", "attested"}
	scan.commit == input.git.commitChecksum
}

_severity := {"none": 0, "note": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

# What is counted is held against what is said to be the worst.
_worst(scan) := max({0} | {_severity[name] | some name, n in scan.counts; n != 0})

_covers(prefix, uri) if {
	prefix != ""
	uri == prefix
}

_covers(prefix, uri) if {
	_ends(prefix)
	startswith(uri, prefix)
}

_ends(prefix) if endswith(prefix, "/")

_ends(prefix) if endswith(prefix, "@")

_set(names) := names if is_set(names)

_set(names) := {name | some name in names} if is_array(names)

_listed(x) if is_set(x)

_listed(x) if is_array(x)
