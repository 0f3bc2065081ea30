package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// Root makes root, which has a name and a description, the root command of a
// binary: what every binary of ours does alike is set here.
func (a *App) Root(root *cobra.Command) *cobra.Command {
	a.Program = root.Name()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return refuseEmptyFlags(c) }
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return UsageError(c, nearestFlag(c, plainValue(err))) })
	root.PersistentFlags().BoolVar(&a.PlainHTTP, "plain-http", false, "speak plain HTTP to registries and services that are not on this machine")
	return root
}

// kinds of flags' values, as pflag names them, in words.
var kinds = map[string]string{"int": "a number", "duration": "a duration, as 90m or 720h", "bool": "true or false"}

// plainValue says what a flag takes, instead of which function could not read it.
func plainValue(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	want, ok := kinds[invalid.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return fmt.Errorf("--%s %q: want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// nearestFlag adds to what is said of an unknown flag which one was probably meant.
func nearestFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	}
	c.LocalFlags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return fmt.Errorf("%w%s", err, spelling.Hint("--"+unknown.GetSpecifiedName(), names))
}

// Execute runs one command line and returns its exit code.
func (a *App) Execute(root *cobra.Command, argv []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SetArgs(argv)
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	return a.Exit(ctx, root.ExecuteContext(ctx))
}

// refuseEmptyFlags refuses --key "$KEY" and the like where the variable is not
// set: to go on as if the flag had not been given would sign as somebody else, or
// demand less, than the caller wrote.
func refuseEmptyFlags(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && withoutValue(f.Value) {
			err = fault.Hint(fault.Usagef("--%s is given without a value", f.Name), "is the variable that it comes from set? Leave the flag out if it is not meant")
		}
	})
	return err
}

// withoutValue reports whether a flag of texts was given an empty one, among others
// or alone.
func withoutValue(v pflag.Value) bool {
	if list, ok := v.(pflag.SliceValue); ok {
		texts := list.GetSlice()
		return len(texts) == 0 || slices.Contains(texts, "")
	}
	return v.Type() == "string" && v.String() == ""
}

// Help shows a root command's --help in the order in which people need the
// commands, on one screen of 24 lines; the commands' own help is cobra's. Those of also
// are named in the last line alone, with completion and version.
func Help(root *cobra.Command, order []string, also ...string) {
	commands := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, argv []string) {
		if c.HasParent() {
			commands(c, argv)
			return
		}
		fmt.Fprint(c.OutOrStdout(), overview(c, order, also))
	})
}

func overview(c *cobra.Command, order, also []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", c.Short)
	if len(also) > 0 {
		fmt.Fprintf(&b, "%s COMMAND --help has flags and examples.\n", c.Name())
	}
	width := 0
	for _, name := range order {
		width = max(width, len(name)+2)
	}
	list := func(title, group string) {
		fmt.Fprintf(&b, "%s\n", title)
		for _, name := range order {
			if sub, _, err := c.Find([]string{name}); err == nil && sub.GroupID == group {
				fmt.Fprintf(&b, "  %-*s%s\n", width, name, sub.Short)
			}
		}
	}
	for _, group := range c.Groups() {
		list(group.Title, group.ID)
	}
	if len(c.Groups()) == 0 {
		list("Commands:", "")
	}
	if sub, _, err := c.Find([]string{"completion"}); err == nil && sub != c && !slices.Contains(order, "completion") {
		also = append(slices.Clone(also), "completion", "version")
		slices.Sort(also)
		fmt.Fprintf(&b, "Also: %s\n", strings.Join(also, " "))
	} else {
		fmt.Fprintf(&b, "%s COMMAND --help has the flags of a command, and examples.\n", c.Name())
	}
	return b.String()
}

// Rename has the examples of the commands below root call them by root's name,
// where a binary has commands that are written for hallmark.
func Rename(root *cobra.Command) {
	for _, c := range root.Commands() {
		rename(c, "hallmark "+c.Name(), root.Name()+" "+c.Name())
	}
}

func rename(c *cobra.Command, from, to string) {
	c.Example, c.Long = strings.ReplaceAll(c.Example, from, to), strings.ReplaceAll(c.Long, from, to)
	for _, sub := range c.Commands() {
		rename(sub, from, to)
	}
}

// CompletionCommand is the command completion of the binary with this name.
func (a *App) CompletionCommand(binary string) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes " + binary + "'s words in a shell",
		Long: "Print a script that completes " + binary + `'s words in a shell. Put it where
the shell looks for such scripts; for zsh, the folder must be in fpath.`,
		Example: strings.ReplaceAll(`  NAME completion bash > ~/.local/share/bash-completion/completions/NAME
  NAME completion zsh > ~/.zsh/completions/_NAME
  NAME completion fish > ~/.config/fish/completions/NAME.fish`, "NAME", binary),
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			switch argv[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return c.Root().GenZshCompletion(a.Stdout)
			case "fish":
				return c.Root().GenFishCompletion(a.Stdout, true)
			}
			return fault.Usagef("completion %s: there are bash, zsh and fish", argv[0])
		},
	}
}

// VersionAnswer is what version --json prints.
type VersionAnswer struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// VersionCommand is the command version.
func (a *App) VersionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Example: `  hallmark version
  hallmark version --json`,
		Args: Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			v := VersionAnswer{Version: a.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
			if bi, ok := debug.ReadBuildInfo(); ok {
				for _, s := range bi.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			if asJSON {
				return a.PrintJSON(v)
			}
			a.Print("%s %s (%s, %s/%s)", c.Root().Name(), v.Version, v.Go, v.OS, v.Arch)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
