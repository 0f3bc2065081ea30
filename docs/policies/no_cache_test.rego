package docker

test_cache if {
	decision.allow with input as {"local": {"name": "context"}, "build": {"network": true, "cache": false}}
	not decision.allow with input as {"local": {"name": "context"}, "build": {"network": true, "cache": true}}
}

test_not_said if not decision.allow with input as {"local": {"name": "context"}}
