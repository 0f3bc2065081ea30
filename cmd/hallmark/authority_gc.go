package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// gcAnswer is what authority gc --json prints. The counts and bytes are those of all
// repositories.
type gcAnswer struct {
	DryRun       bool           `json:"dryRun"`
	Manifests    int            `json:"manifests"`
	Blobs        int            `json:"blobs"`
	Bytes        int64          `json:"bytes"`        // that become free on the disk
	Repositories []gcRepository `json:"repositories"` // those with garbage, or that could not be judged
}

type gcRepository struct {
	Repository string   `json:"repository"`
	Manifests  []string `json:"manifests"` // digests
	Blobs      []string `json:"blobs"`     // digests
	Bytes      int64    `json:"bytes"`
	Problem    string   `json:"problem,omitempty"` // why nothing more was removed here
}

type gcOptions struct {
	dir    string
	how    registry.Schedule
	dryRun bool
	json   bool
}

func newAuthorityGCCommand(a *app) *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove from the registry what nothing needs any more",
		Long: `Remove from the registry what nothing needs any more: blobs that no manifest names,
and what refers to an image that was removed, such as its signatures. Whatever a tag
holds is kept, with all that refers to it; so is what was pushed within --grace.

hallmark up must not be running on the folder, other than with --dry-run, which
changes nothing. A running one collects by itself when the file of --registry-config
says so under gc.`,
		Example: `  hallmark authority gc --dry-run
  hallmark authority gc --untagged --dry-run --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runAuthorityGC(c.Context(), o) },
	}
	addDataFlag(a, c, &o.dir)
	f := c.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be removed")
	f.DurationVar(&o.how.Grace, "grace", registry.DefaultGrace, "keep what came within this `TIME`, at least 1h")
	f.BoolVar(&o.how.Untagged, "untagged", false, "also remove manifests that no tag holds")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

func (a *app) runAuthorityGC(ctx context.Context, o gcOptions) error {
	if o.how.Grace < time.Hour {
		return fault.Usagef("--grace %s: a push may take longer; want at least 1h", o.how.Grace)
	}
	dir, err := a.dataDir(o.dir)
	if err != nil {
		return err
	}
	got, err := authority.CollectGarbage(ctx, dir, o.how, o.dryRun)
	if err != nil {
		return err
	}
	answer := gcAnswer{DryRun: o.dryRun, Manifests: got.Manifests, Blobs: got.Blobs, Bytes: got.Bytes, Repositories: []gcRepository{}}
	problems := 0
	for _, r := range got.Repositories {
		one := gcRepository{Repository: r.Name, Manifests: []string{}, Blobs: []string{}, Bytes: r.Bytes, Problem: r.Problem}
		for _, d := range r.Manifests {
			one.Manifests = append(one.Manifests, string(d))
		}
		for _, d := range r.Blobs {
			one.Blobs = append(one.Blobs, string(d))
		}
		if r.Problem != "" {
			problems++
		}
		answer.Repositories = append(answer.Repositories, one)
	}
	if o.json {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	} else {
		a.printGarbage(answer)
	}
	if problems > 0 {
		return fmt.Errorf("%d repositories could not be judged and were left alone", problems)
	}
	return nil
}

func (a *app) printGarbage(answer gcAnswer) {
	for _, r := range answer.Repositories {
		if len(r.Manifests)+len(r.Blobs) > 0 {
			a.Print("%s: %d manifests and %d blobs, %d bytes", r.Repository, len(r.Manifests), len(r.Blobs), r.Bytes)
		}
		if r.Problem != "" {
			a.Print("%s: left alone: %s", r.Repository, r.Problem)
		}
	}
	verb := "removed"
	if answer.DryRun {
		verb = "would remove"
	}
	a.Print("%s %d manifests and %d blobs, %d bytes", verb, answer.Manifests, answer.Blobs, answer.Bytes)
}
