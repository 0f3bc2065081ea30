# Steps of the build reach no network: what they need is a source, and is judged.
package docker

default allow := false

allow if input.build.network == false

deny_msg contains "the build's steps reach the network: build with the network off" if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
