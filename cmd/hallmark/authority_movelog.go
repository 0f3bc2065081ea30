package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// moveLogAnswer is what authority move-log --json prints.
type moveLogAnswer struct {
	Data    string `json:"data"`    // the folder
	URL     string `json:"url"`     // where the log is now
	Entries int64  `json:"entries"` // that were signed in this folder
	Now     int64  `json:"now"`     // that the log has at its new place
}

func newAuthorityMoveLogCommand(a *app) *cobra.Command {
	var dir, extends string
	var asJSON bool
	c := &cobra.Command{
		Use:   "move-log URL",
		Short: "Say that the log is kept by another program from now on",
		Long: `Say that the log of a data folder is kept by another program from now on, at a base
URL: hallmark-log, which took it over with its key and all entries (docs/outgrown.md).
hallmark up must not be running on the folder. The log at URL must extend the last
checkpoint that was signed here and, when it was moved before, what it has signed since
at the place that it had, or nothing is changed.

From then on hallmark up publishes that URL, sends there who still asks it, and never
signs for the log again: there is no way back, because it would be a fork. Back up the
folder anew; a backup of before still holds a log that could be written to.`,
		Example: `  hallmark authority move-log http://127.0.0.1:8420 --data ./stopped`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runMoveLog(c.Context(), dir, args[0], extends, asJSON)
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().StringVar(&extends, "extends", "", "a file with a checkpoint that the log must extend, too; with it the place that it had need not answer; to move to the same place it is needed")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) runMoveLog(ctx context.Context, dir, to, extends string, asJSON bool) error {
	dir, err := a.dataDir(dir)
	if err != nil {
		return err
	}
	var known []byte
	if extends != "" {
		if known, err = readSmall(extends, translog.MaxCheckpoint); err != nil {
			return fault.As(fault.Usage, err)
		}
	}
	m, err := authority.MoveLog(ctx, dir, to, known, translog.HTTPOptions{UserAgent: "hallmark/" + a.Version, PlainHTTP: a.PlainHTTP})
	if err != nil {
		return err
	}
	if asJSON {
		return a.PrintJSON(moveLogAnswer{dir, m.URL, m.Entries, m.Now})
	}
	a.Print("the log of %s is at %s: it has %d entries, and extends the %d that were signed here", cli.Plain(dir), m.URL, m.Now, m.Entries)
	return nil
}
