package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Exit codes; the table in docs/manual.md says the same.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitDenied      = 3
	ExitNotFound    = 4
	ExitUnreachable = 5
	ExitInterrupted = 130
)

// DeniedError carries a decision that was already printed to the exit code.
type DeniedError struct {
	Nothing bool // there was nothing to judge
}

// Error is never shown: the decision was.
func (DeniedError) Error() string { return "denied" }

// Deny prints a denial, a reason per line, and returns the error that makes exit code 3.
func (a *App) Deny(d policy.Decision) error {
	for _, r := range d.Reasons {
		a.Say("DENIED [%s] %s", r.Code, OneLine(r.Message))
		if r.Hint != "" {
			a.Say("  hint: %s", OneLine(r.Hint))
		}
	}
	return DeniedError{}
}

// Exit prints err as people read it and returns the exit code.
func (a *App) Exit(ctx context.Context, err error) int {
	var denied DeniedError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &denied) && denied.Nothing:
		return ExitNotFound
	case errors.As(err, &denied):
		return ExitDenied
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		a.Say("interrupted")
		return ExitInterrupted
	}
	a.Say("error: %s", OneLine(err.Error()))
	unknown := strings.HasPrefix(err.Error(), "unknown command") // cobra's, of the root command
	hint := fault.HintOf(err)
	if hint == "" && unknown {
		hint = "see " + a.Program + " --help"
	}
	if hint != "" {
		a.Say("hint: %s", OneLine(hint))
	}
	if unknown {
		return ExitUsage
	}
	switch fault.KindOf(err) {
	case fault.Usage:
		return ExitUsage
	case fault.Denied:
		return ExitDenied
	case fault.NotFound:
		return ExitNotFound
	case fault.Unreachable:
		return ExitUnreachable
	}
	return ExitFailure
}
