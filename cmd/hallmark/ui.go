package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Rules of the user interface:
//   - stdout is the answer, stderr is talk. With --json stdout is one object.
//   - An error is one line "error: doing what: cause", perhaps a second "hint: …".
//   - A denial is no error: each reason is one line "DENIED [CODE] sentence", then its hint.
//   - Progress is shown only when stderr is a terminal.
//   - Secrets (passwords, tokens, login secrets) are never printed except by the
//     command whose answer they are.

// app is what commands may touch of the world.
type app struct {
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	env       func(string) string
	plainHTTP bool
}

func newApp() *app {
	return &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv}
}

// say prints one line of talk to stderr.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// warn prints a warning to stderr.
func (a *app) warn(format string, args ...any) { a.say("warning: "+format, args...) }

// print prints one line of the answer to stdout.
func (a *app) print(format string, args ...any) {
	fmt.Fprintf(a.stdout, format+"\n", args...)
}

// printJSON prints the answer of --json: one object, indented, on stdout.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// interactive reports whether a person can be asked: stdin and stderr are terminals.
func (a *app) interactive() bool { return isTerminal(a.stdin) && isTerminal(a.stderr) }

// progress reports whether progress may be drawn on stderr.
func (a *app) progress() bool { return isTerminal(a.stderr) }

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// readPassword asks for a password on the terminal without echo.
func (a *app) readPassword(prompt string) ([]byte, error) {
	if !a.interactive() {
		return nil, errors.New("no terminal to ask for a password on")
	}
	fmt.Fprint(a.stderr, prompt)
	defer fmt.Fprintln(a.stderr)
	return term.ReadPassword(int(a.stdin.(*os.File).Fd()))
}

// usageError turns cobra's complaint into a fault that names the command's help.
func usageError(c *cobra.Command, err error) error {
	return fault.Hint(fault.As(fault.Usage, err), "see %s --help", c.CommandPath())
}

// args wraps a cobra argument check so that its failure is a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return usageError(c, err)
		}
		return nil
	}
}

// oneLine makes text that may hold foreign parts fit for one line of a terminal.
func oneLine(s string) string { return plain(strings.Join(strings.Fields(s), " ")) }
