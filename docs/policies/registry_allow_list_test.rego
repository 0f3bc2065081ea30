package docker

test_named if {
	decision.allow with input as {"image": {"host": "docker.io"}}
	decision.allow with input as {"git": {"host": "github.com"}}
	decision.allow with input as {"http": {"host": "github.com", "schema": "https"}}
	decision.allow with input as {"local": {"name": "context"}}
}

test_not_named if {
	not decision.allow with input as {"image": {"host": "docker.io.example.com"}}
	not decision.allow with input as {"image": {"host": "evil-docker.io"}}
	not decision.allow with input as {"git": {"host": "github.com.example.com"}}
	not decision.allow with input as {"http": {"host": "github.com", "schema": "http", "url": "http://github.com/"}}
}

test_messages if {
	result := decision with input as {"image": {"host": "quay.io"}}
	result.deny_msg == {"images from quay.io are not allowed"}
}
