package main

import (
	"fmt"
	"io"
	"os"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

// policyProcess is what hallmark calls itself with for policies that nobody vouches for. It is
// no command for people: nothing of the command line is made for it.
const policyProcess = "policy-process"

// signingPolicyProcess is the same for signing policies.
const signingPolicyProcess = "signing-policy-process"

// evaluatePolicies is that process. It ends with its input.
func evaluatePolicies(serve func(io.Reader, io.Writer) error) int {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return cli.ExitFailure
	}
	return cli.ExitOK
}
