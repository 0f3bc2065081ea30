package docker

at(name, annotated) := {"git": {"fullURL": "u", "tagName": name, "isAnnotatedTag": annotated, "tag": {"tag": name}}}

test_release if decision.allow with input as at("v1.2.3", true)

test_lightweight if not decision.allow with input as {"git": {"fullURL": "u", "tagName": "v1.2.3", "isAnnotatedTag": false}}

test_no_release if {
	not decision.allow with input as at("nightly", true)
	not decision.allow with input as at("v1.2.3-rc1", true)
	not decision.allow with input as {"git": {"fullURL": "u", "branch": "main", "isAnnotatedTag": false}}
}

test_tag_of_another_name if {
	not decision.allow with input as {"git": {"fullURL": "u", "tagName": "v1.2.3", "isAnnotatedTag": true, "tag": {"tag": "v1.2.2"}}}
}

test_message if {
	result := decision with input as at("nightly", true)
	result.deny_msg == {"u: want an annotated tag like v1.2.3"}
}

test_other_sources if decision.allow with input as {"local": {"name": "context"}}
