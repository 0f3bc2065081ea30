package docker

test_folder if {
	result := decision with input as {"local": {"name": "context"}}
	not result.allow
	count(result.deny_msg) == 1
}

test_others if {
	decision.allow with input as {"git": {"host": "github.com"}}
	decision.allow with input as {"image": {"host": "docker.io"}}
}
