package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

func newPolicyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Lock what a build fetches; try, test and publish policies",
		Long: `Source policies decide what may go into a build: each image, URL and git
repository that a Dockerfile names is asked about. They are written for docker
buildx and for Hallmark alike (docs/policy.md).`,
		Example: `  hallmark policy lock
  hallmark policy eval
  hallmark policy test`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPolicyEvalCommand(a), newPolicyExplainCommand(a), newPolicyLockCommand(a), newPolicyTestCommand(a), newPolicyLintCommand(a), newPolicyFmtCommand(a), newPolicySchemaCommand(a),
		newPolicyPublishCommand(a), newPolicyPullCommand(a), newPolicyRecordCommand(a), newPolicyRuleCommand(a))
	return c
}

// dockerfileOptions are what says which sources a build has, as docker build takes it.
type dockerfileOptions struct {
	args      []string
	contexts  []string
	target    string
	platforms []string
}

func (o *dockerfileOptions) add(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.args, "build-arg", nil, "build argument `NAME=VALUE`; may repeat")
	f.StringArrayVar(&o.contexts, "build-context", nil, "named context `NAME=SOURCE`; may repeat")
	f.StringVar(&o.target, "target", "", "only what the build `STAGE` needs (default all stages)")
	f.StringSliceVar(&o.platforms, "platform", nil, "`OS/ARCH` to build for, several separated by commas")
}

// options are those of a listing.
func (o *dockerfileOptions) options() (sources.Options, error) {
	for _, p := range o.platforms {
		if err := build.CheckPlatform(p); err != nil {
			return sources.Options{}, err
		}
	}
	out := sources.Options{Target: o.target, AllStages: o.target == "", Platforms: o.platforms}
	var err error
	if out.Args, err = pairs("--build-arg", o.args); err != nil {
		return out, err
	}
	out.Contexts, err = pairs("--build-context", o.contexts)
	return out, err
}

// readDockerfiles reads the files that -f names, by default that of the build context.
func readDockerfiles(folder string, files []string, stdin io.Reader) ([]sources.Dockerfile, error) {
	if len(files) == 0 {
		files = []string{filepath.Join(folder, "Dockerfile")}
	}
	var out []sources.Dockerfile
	for _, name := range files {
		d, err := readDockerfile(name, stdin)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func readDockerfile(name string, stdin io.Reader) (sources.Dockerfile, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return sources.Dockerfile{}, fault.Hint(fault.As(fault.Usage, err), "-f FILE names the Dockerfile")
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, sources.MaxDockerfile+1))
	if err != nil {
		return sources.Dockerfile{}, fmt.Errorf("read %s: %w", name, err)
	}
	return sources.Dockerfile{Name: name, Text: text}, nil
}

// listSources is what the Dockerfiles of a call fetch, in their order.
func (a *app) listSources(ctx context.Context, folder string, files []string, o *dockerfileOptions) ([]sources.Source, error) {
	if strings.Contains(folder, "://") || strings.HasPrefix(folder, "git@") {
		return nil, fault.Hint(fault.Usagef("%s: the build context must be a folder", folder), "clone it, and name the folder")
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, fault.Usagef("%s: the build context must be a folder", folder)
	}
	opts, err := o.options()
	if err != nil {
		return nil, err
	}
	dockerfiles, err := readDockerfiles(folder, files, a.Stdin)
	if err != nil {
		return nil, err
	}
	images := sources.NewRegistry(a.RegistryClient())
	var all []sources.Source
	for _, d := range dockerfiles {
		found, err := sources.List(ctx, d, opts, images)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// spellings are the sorted ways in which a source is written.
func spellings(uses []sources.Use) []string {
	var out []string
	for _, u := range uses {
		out = append(out, u.Written)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func contextFolder(argv []string) string { return cmp.Or(slices.Concat(argv, []string{"."})[0], ".") }
