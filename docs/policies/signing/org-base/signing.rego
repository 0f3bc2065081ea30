# Organisation's base: what each repository of an owner must keep, whatever its own policy
# allows beside it. Both must allow. It knows no people, since they differ.
package hallmark.signing

import data.hallmark.lib

needed := {"builder", "hosted-runner", "no-reset", "policy-age"}

passed contains "builder" if {
	lib.builder_in({
		"https://github.com/docker/github-builder/.github/workflows/",
		"https://github.com/org/builder/.github/workflows/",
	})
}

passed contains "hosted-runner" if input.builder.runnerEnvironment == "github-hosted"

passed contains "no-reset" if input.policy.resets == 0

passed contains "policy-age" if lib.min_policy_age("1h")

default allow := false

allow if needed - passed == set()

deny_msg contains sprintf("the organisation wants %s", [name]) if some name in (needed - passed)
