package docker

image(host, tag, args) := {"image": {"ref": "x", "host": host, "tag": tag}, "env": {"args": args}}

production := {"ENVIRONMENT": "production"}

test_production if {
	decision.allow with input as image("registry.example.com", "1.0.0", production)
	not decision.allow with input as image("docker.io", "1.0.0", production)
	not decision.allow with input as image("registry.example.com", "1.0.0-rc.1", production)
	not decision.allow with input as image("registry.example.com", "latest", production)
	not decision.allow with input as {"image": {"ref": "x", "host": "registry.example.com"}, "env": {"args": production}}
}

test_tag_beside_a_digest if {
	not decision.allow with input as {"image": {"ref": "x", "host": "registry.example.com", "tag": "1.0.0", "isCanonical": true}, "env": {"args": production}}
}

test_development if decision.allow with input as image("docker.io", "latest", {"ENVIRONMENT": "development"})

test_without_a_word if {
	not decision.allow with input as {"image": {"ref": "x", "host": "docker.io", "tag": "1"}}
	not decision.allow with input as image("docker.io", "1", {"environment": "development"})
}

test_other_sources if decision.allow with input as {"local": {"name": "context"}, "env": {"args": production}}
