package docker

image(signer) := {"image": {
	"ref": "registry.example.com/acme/app:1", "fullRepo": "registry.example.com/acme/app",
	"signatures": [{"signer": signer}],
}}

test_signed if {
	decision.allow with input as image({"subjectAlternativeName": workflow, "issuer": issuer})
}

test_by_somebody_else if {
	not decision.allow with input as image({"subjectAlternativeName": "https://github.com/eve/app/.github/workflows/release.yml@refs/heads/main", "issuer": issuer})
}

test_vouched_for_by_another_issuer if {
	not decision.allow with input as image({"subjectAlternativeName": workflow, "issuer": "https://issuer.example.com"})
}

test_unsigned if {
	result := decision with input as {"image": {"ref": "registry.example.com/acme/app:1", "fullRepo": "registry.example.com/acme/app", "signatures": []}}
	not result.allow
	count(result.deny_msg) == 1
}

test_of_others if {
	decision.allow with input as {"image": {"fullRepo": "registry.example.com/acme-evil/app"}}
	decision.allow with input as {"local": {"name": "context"}}
}
