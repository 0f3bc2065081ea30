package main

import (
	"context"
	"errors"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Exit codes; the table in docs/manual.md says the same.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDenied      = 3
	exitNotFound    = 4
	exitUnreachable = 5
	exitInterrupted = 130
)

// deniedError carries a decision that was already printed to the exit code.
type deniedError struct {
	nothing bool // there was nothing to judge
}

func (deniedError) Error() string { return "denied" }

// deny prints a denial, a reason per line, and returns the error that makes exit code 3.
func (a *app) deny(d policy.Decision) error {
	for _, r := range d.Reasons {
		a.say("DENIED [%s] %s", r.Code, oneLine(r.Message))
		if r.Hint != "" {
			a.say("  hint: %s", oneLine(r.Hint))
		}
	}
	return deniedError{}
}

// exit prints err as people read it and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var denied deniedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &denied) && denied.nothing:
		return exitNotFound
	case errors.As(err, &denied):
		return exitDenied
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		a.say("interrupted")
		return exitInterrupted
	}
	a.say("error: %s", oneLine(err.Error()))
	unknown := strings.HasPrefix(err.Error(), "unknown command") // cobra's, of the root command
	hint := fault.HintOf(err)
	if hint == "" && unknown {
		hint = "see hallmark --help"
	}
	if hint != "" {
		a.say("hint: %s", oneLine(hint))
	}
	if unknown {
		return exitUsage
	}
	switch fault.KindOf(err) {
	case fault.Usage:
		return exitUsage
	case fault.Denied:
		return exitDenied
	case fault.NotFound:
		return exitNotFound
	case fault.Unreachable:
		return exitUnreachable
	}
	return exitFailure
}
