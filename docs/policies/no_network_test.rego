package docker

test_network if {
	decision.allow with input as {"local": {"name": "context"}, "build": {"network": false, "cache": true}}
	not decision.allow with input as {"local": {"name": "context"}, "build": {"network": true, "cache": true}}
}

test_not_said if not decision.allow with input as {"local": {"name": "context"}}
