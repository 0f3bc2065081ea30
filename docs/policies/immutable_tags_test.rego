package docker

test_as_locked if decision.allow with input as {"image": {"ref": "x", "locked": "sha256:aa", "checksum": "sha256:aa", "moved": false}}

test_moved if {
	result := decision with input as {"image": {"ref": "x", "locked": "sha256:aa", "checksum": "sha256:bb", "moved": true}}
	not result.allow
	result.deny_msg == {"x moved: it was sha256:aa when it was locked, and is sha256:bb"}
}

test_not_locked if {
	result := decision with input as {"image": {"ref": "x", "checksum": "sha256:bb"}}
	not result.allow
	result.deny_msg == {"x is not in hallmark.lock"}
}

test_other_sources if decision.allow with input as {"git": {"host": "github.com"}}
