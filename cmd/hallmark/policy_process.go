package main

import (
	"fmt"
	"os"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// policyProcess is what hallmark calls itself with for policies that nobody vouches for. It is
// no command for people: nothing of the command line is made for it.
const policyProcess = "policy-process"

// evaluatePolicies is that process. It ends with its input.
func evaluatePolicies() int {
	if err := sourcepolicy.ServeSandbox(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return cli.ExitFailure
	}
	return cli.ExitOK
}
