// Package cli is what the command lines share: what a command may touch of the
// world, how it talks to people and to programs, and how an error becomes an exit
// code. The commands themselves are below it (check) and in cmd.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// Rules of the user interface:
//   - stdout is the answer, stderr is talk. With --json stdout is one object.
//   - An error is one line "error: doing what: cause", perhaps a second "hint: …".
//   - A denial is no error: each reason is one line "DENIED [CODE] sentence", then its hint.
//   - Progress is shown only when stderr is a terminal.
//   - Secrets (passwords, tokens, login secrets) are never printed except by the
//     command whose answer they are.

// App is what commands may touch of the world.
type App struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    func(string) string

	Program   string // the binary's name, in hints; set by Root
	Version   string // of the binary
	PlainHTTP bool   // spoken to registries and services beyond this machine
}

// New is an App of this process.
func New(version string) *App {
	return &App{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv, Version: version}
}

// UserAgent is what services and registries are told.
func (a *App) UserAgent() string { return "hallmark/" + a.Version }

// RegistryClient is the registry client of a command.
func (a *App) RegistryClient() *registry.Client {
	return registry.NewClient(registry.Options{PlainHTTP: a.PlainHTTP, UserAgent: a.UserAgent()})
}

// Say prints one line of talk to stderr.
func (a *App) Say(format string, args ...any) {
	fmt.Fprintf(a.Stderr, format+"\n", args...)
}

// Warn prints a warning to stderr.
func (a *App) Warn(format string, args ...any) { a.Say("warning: "+format, args...) }

// Print prints one line of the answer to stdout.
func (a *App) Print(format string, args ...any) {
	fmt.Fprintf(a.Stdout, format+"\n", args...)
}

// PrintJSON prints the answer of --json: one object, indented, on stdout.
func (a *App) PrintJSON(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Interactive reports whether a person can be asked: stdin and stderr are terminals.
func (a *App) Interactive() bool { return IsTerminal(a.Stdin) && IsTerminal(a.Stderr) }

// Progress reports whether progress may be drawn on stderr.
func (a *App) Progress() bool { return IsTerminal(a.Stderr) }

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ReadPassword asks for a password on the terminal without echo.
func (a *App) ReadPassword(prompt string) ([]byte, error) {
	if !a.Interactive() {
		return nil, errors.New("no terminal to ask for a password on")
	}
	fmt.Fprint(a.Stderr, prompt)
	defer fmt.Fprintln(a.Stderr)
	return term.ReadPassword(int(a.Stdin.(*os.File).Fd()))
}

// UsageError turns cobra's complaint into a fault that names the command's help.
func UsageError(c *cobra.Command, err error) error {
	return fault.Hint(fault.As(fault.Usage, err), "see %s --help", c.CommandPath())
}

// Args wraps a cobra argument check so that its failure is a usage error, which shows the
// call that was wanted.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		err := check(c, a)
		if err == nil {
			return nil
		}
		switch text := err.Error(); {
		case c.HasSubCommands() && len(a) > 0:
			err = errors.New(text + spelling.Hint(a[0], commandsOf(c)))
		case strings.HasPrefix(text, "accepts ") || strings.HasPrefix(text, "requires "):
			given := fmt.Sprintf("%d arguments are given", len(a))
			switch len(a) {
			case 0:
				given = "no argument is given"
			case 1:
				given = "1 argument is given"
			}
			err = fmt.Errorf("%s; want %s", given, strings.TrimSuffix(c.UseLine(), " [flags]"))
		}
		return UsageError(c, err)
	}
}

func commandsOf(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// OneLine makes text that may hold foreign parts fit for one line of a terminal. Nothing is
// said of what begins as a PEM block: where the shell put a key into an argument
// (hallmark key public "$KEY"), any message about the argument would show it.
func OneLine(s string) string {
	if before, _, found := strings.Cut(s, "-----BEGIN"); found {
		s = before + "…"
	}
	return Plain(strings.Join(strings.Fields(s), " "))
}

// Plain makes foreign text safe for a terminal: one line, nothing that moves
// the cursor or reorders text.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// ReadableSize is a number of bytes for people, in decimal units.
func ReadableSize(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// Stamp is a time for people: RFC 3339 in UTC, to the second.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ShellQuote makes s one word of a POSIX shell.
func ShellQuote(s string) string {
	safe := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-", r)
	}) < 0
	if safe && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
