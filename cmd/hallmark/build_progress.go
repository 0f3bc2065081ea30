package main

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// envProgress is buildx's variable for what --progress does not say.
const envProgress = "BUILDKIT_PROGRESS"

// progressAuto draws on a terminal, and shows nothing elsewhere.
const progressAuto = "auto"

// progressModes are the words of buildx.
var progressModes = map[string]build.ProgressMode{
	"plain": build.ProgressPlain, "tty": build.ProgressTTY, "rawjson": build.ProgressRawJSON, "quiet": build.ProgressNone, "none": build.ProgressNone,
}

// showProgress settles how the build is shown.
func (o *buildOptions) showProgress(a *app) error {
	if o.show != nil { // a target of a bake file
		return nil
	}
	said, by := o.progress, "--progress"
	if v := a.Env(envProgress); v != "" && said == progressAuto {
		said, by = v, envProgress
	}
	if said == progressAuto {
		said = "none"
		if a.Progress() {
			said = "tty"
		}
	}
	mode, known := progressModes[said]
	switch {
	case !known:
		names := []string{progressAuto, "plain", "tty", "rawjson", "quiet"}
		return fault.Usagef("%s %s: want %s%s", by, cli.OneLine(said), strings.Join(names, ", "), spelling.Hint(said, names))
	case mode == build.ProgressTTY && !a.Progress():
		return fault.Hint(fault.Usagef("%s tty: stderr is no terminal", by), "plain is for logs")
	}
	o.show = build.NewProgress(mode, a.Stderr)
	return nil
}
