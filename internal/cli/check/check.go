// Package check has the commands that look at what is there and judge it: verify
// and show. They are one package so that a small binary can have them alone.
package check

import (
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
)

// Commands makes the commands of one binary.
type Commands struct {
	*cli.App
	// Statements compiles the policy files of --policy (.cue, .rego); nil in a
	// binary that has no policy engine.
	Statements func(paths []string) ([]gate.StatementPolicy, error)
}

func (a *Commands) statements(paths []string) ([]gate.StatementPolicy, error) {
	if len(paths) > 0 && a.Statements == nil {
		return nil, fault.Hint(fault.Usagef("--policy: this binary judges no policy files"), "hallmark verify does")
	}
	if len(paths) == 0 {
		return nil, nil
	}
	return a.Statements(paths)
}
