package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// logVerifyAnswer is what log verify --json prints.
type logVerifyAnswer struct {
	Log        logAnswer `json:"log"`
	Consistent bool      `json:"consistent"`           // the tree extends the one that was seen before
	SeenBefore *int64    `json:"seenBefore,omitempty"` // its size; absent the first time
	Full       bool      `json:"full"`                 // every entry and tile was read and hashed
}

// logMirrorAnswer is what log mirror --json prints.
type logMirrorAnswer struct {
	Log     logAnswer `json:"log"`
	Folder  string    `json:"folder"`
	Fetched int64     `json:"fetchedBundles"` // of 256 entries
	Kept    int64     `json:"keptBundles"`    // that were there, and were verified again
}

func newLogVerifyCommand(a *app, o *logOptions) *cobra.Command {
	var full, asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check that the log only grew since it was last seen",
		Long: `Check the log's checkpoint: that its key signed it, that enough of the trust bundle's
witnesses cosigned it, and that its tree is the one that was seen last with entries added.
A log that shows less or something else is denied (exit code 3), and both checkpoints are
kept as evidence.

With --full every entry and every tile is fetched and hashed up to the signed root.`,
		Example: `  hallmark log verify
  hallmark log verify --full --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: a.logRun(func(c *cobra.Command, _ []string) error { return a.logVerify(c.Context(), o, full, asJSON) }),
	}
	c.Flags().BoolVar(&full, "full", false, "read and hash every entry and tile")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) logVerify(ctx context.Context, o *logOptions, full, asJSON bool) error {
	l, _, v, err := a.advance(ctx, o)
	if err != nil {
		return err
	}
	if full {
		if err := translog.Full(ctx, v.Checkpoint, l.source, a.reading()); err != nil {
			return err
		}
	}
	answer := logVerifyAnswer{Log: answerOfLog(v.Checkpoint, l.source), Consistent: true, Full: full}
	if v.Before != nil {
		answer.SeenBefore = &v.Before.Size
	}
	if asJSON {
		return a.PrintJSON(answer)
	}
	line := l.log.Origin + ": " + entries(v.Size())
	switch {
	case v.Before == nil:
		line += ", seen for the first time"
	default:
		line += ", an extension of what was seen before (" + entries(v.Before.Size) + ")"
	}
	if full {
		line += "; every entry and tile hashes to the signed root"
	}
	if len(v.Checkpoint.Cosigned) > 0 {
		line += "; cosigned by " + strings.Join(v.Checkpoint.Cosigned, ", ")
	}
	a.Print("%s", cli.OneLine(line))
	return nil
}

func newLogMirrorCommand(a *app, o *logOptions) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "mirror DIR",
		Short: "Copy the log to a folder that any web server can serve",
		Long: `Copy the log's entries, tiles and checkpoint to a folder, each verified before it is
written, and the checkpoint last. Whoever is served the folder's files reads the log
there (--log URL), and hallmark reads the folder itself (--log DIR). A call that was
interrupted is taken up where it stopped; the next one copies what is new, and makes
good what rotted.`,
		Example: `  hallmark log mirror ./mirror
  hallmark log mirror ./mirror --json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: a.logRun(func(c *cobra.Command, args []string) error { return a.logMirror(c.Context(), o, args[0], asJSON) }),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) logMirror(ctx context.Context, o *logOptions, dir string, asJSON bool) error {
	l, err := a.openLog(ctx, o)
	if err != nil {
		return err
	}
	f, err := translog.OpenFolder(dir, l.log)
	if err != nil {
		return err
	}
	m, err := translog.Mirror(ctx, f, l.source, a.reading())
	if err != nil {
		return err
	}
	answer := logMirrorAnswer{Log: answerOfLog(m.Checkpoint, l.source), Folder: dir, Fetched: m.Fetched, Kept: m.Kept}
	if asJSON {
		return a.PrintJSON(answer)
	}
	a.Print("%s: %s in %s", l.log.Origin, entries(m.Checkpoint.Size), cli.Plain(dir))
	return nil
}
