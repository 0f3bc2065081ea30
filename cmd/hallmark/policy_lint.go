package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

func newPolicySchemaCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of a source policy's input",
		Long: `Print the JSON schema of the input that a source policy is given: every field
that it may name. A field that is not in it is an error when the policy is read.`,
		Example: `  hallmark policy schema`,
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			a.Print("%s", bytes.TrimSpace(sourcepolicy.Schema()))
			return nil
		},
	}
}

// lintAnswer is what policy lint prints with --json; docs/json.md has the table.
type lintAnswer struct {
	Allowed  bool            `json:"allowed"`
	Files    []string        `json:"files"`
	Findings []policy.Reason `json:"findings"`
}

func newPolicyLintCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "lint [FILE|DIR]...",
		Short: "Find what in a policy says something else than it seems to",
		Long: `Read policies (*.rego; of a folder all below it), compile those that decide
something, and name the traps in them: each with its line and what to write
instead. Tests are left out. The files beside a signing.rego, with it, are a
signing policy (docs/signing-policy-rules.md).

Exit code 3: something was found. What only makes a decision impossible to keep
(LINT_IMPURE) is said and is no finding.`,
		Example: `  hallmark policy lint Dockerfile.rego
  hallmark policy lint
  hallmark policy lint --json`,
		RunE: func(c *cobra.Command, argv []string) error { return a.policyLint(c.Context(), argv, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func orHere(argv []string) []string {
	if len(argv) == 0 {
		return []string{"."}
	}
	return argv
}

func (a *app) policyLint(_ context.Context, argv []string, asJSON bool) error {
	names, err := regoFiles(orHere(argv), func(name string) bool { return !isPolicyTest(name) })
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fault.NotFoundf("no *.rego file in %s", strings.Join(orHere(argv), ", "))
	}
	answer := &lintAnswer{Allowed: true, Files: names, Findings: []policy.Reason{}}
	for folder, files := range byFolder(names) {
		found, err := a.lintFolder(folder, files)
		if err != nil {
			return err
		}
		answer.Findings = append(answer.Findings, found...)
	}
	sorted.Func(answer.Findings, func(a, b policy.Reason) int {
		fa, la, _ := strings.Cut(a.Subject, ":")
		fb, lb, _ := strings.Cut(b.Subject, ":")
		if c := strings.Compare(fa, fb); c != 0 {
			return c
		}
		if len(la) != len(lb) {
			return len(la) - len(lb)
		}
		return strings.Compare(la, lb)
	})
	for _, f := range answer.Findings {
		answer.Allowed = answer.Allowed && f.Code == rego.CodeImpure
	}
	if asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	} else {
		for _, f := range answer.Findings {
			a.Print("%s: [%s] %s", f.Subject, f.Code, cli.OneLine(f.Message))
			if f.Hint != "" {
				a.Print("    %s", cli.OneLine(f.Hint))
			}
		}
	}
	if !answer.Allowed {
		return cli.DeniedError{}
	}
	if !asJSON {
		files := "files"
		if len(names) == 1 {
			files = "file"
		}
		a.Print("ok: %d %s", len(names), files)
	}
	return nil
}

func byFolder(names []string) map[string][]string {
	out := map[string][]string{}
	for _, n := range names {
		out[filepath.Dir(n)] = append(out[filepath.Dir(n)], n)
	}
	return out
}

// lintFolder looks at the files of one folder. A signing policy is all of them that
// have its package; a source policy is each file with a rule decision.
func (a *app) lintFolder(folder string, names []string) ([]policy.Reason, error) {
	if slices.ContainsFunc(names, isSigningPolicy) {
		return a.lintSigningPolicy(folder, names)
	}
	var out []policy.Reason
	signing := map[string][]byte{}
	for _, name := range names {
		text, err := readPolicyFile(name, a.Stdin)
		if err != nil {
			return nil, err
		}
		kind, decides := rego.Kind(name, text)
		o := rego.LintOptions{Optional: sourcepolicy.Optional}
		if strings.HasPrefix(kind, rego.SigningQuery) {
			o = rego.LintOptions{}
		}
		found, err := rego.Lint(map[string][]byte{name: text}, o)
		if err != nil {
			if out = append(out, mistakes(err)...); mistakes(err) == nil {
				return nil, err
			}
			continue
		}
		out = append(out, found...)
		switch {
		case strings.HasPrefix(kind, rego.SigningQuery):
			signing[name] = text
		case decides:
			o, err := policyOptions(name, nil)
			if err != nil {
				return nil, err
			}
			if _, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: name, Data: text}}, o); err != nil {
				if out = append(out, mistakes(err)...); mistakes(err) == nil {
					return nil, err
				}
			}
		}
	}
	if len(signing) > 0 {
		if data, err := os.ReadFile(filepath.Join(folder, "data.json")); err == nil {
			signing[filepath.Join(folder, "data.json")] = data
		}
		if _, err := rego.Compile(signing, rego.Options{}); err != nil {
			if out = append(out, mistakes(err)...); mistakes(err) == nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func newPolicyFmtCommand(a *app) *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt [FILE|DIR]...",
		Short: "Write policies in the one layout of all Rego",
		Long: `Rewrite *.rego files (of a folder all below it, tests too) in the layout that opa
fmt gives them, and print the names of those that changed. With - stdin is
formatted to stdout.

With --check nothing is written; exit code 3: something would change.`,
		Example: `  hallmark policy fmt Dockerfile.rego
  hallmark policy fmt --check
  hallmark policy fmt - < Dockerfile.rego`,
		RunE: func(_ *cobra.Command, argv []string) error { return a.policyFmt(argv, check) },
	}
	c.Flags().BoolVar(&check, "check", false, "write nothing; exit code 3 when something would change")
	return c
}

func (a *app) policyFmt(argv []string, check bool) error {
	if slices.Equal(argv, []string{"-"}) {
		text, err := readPolicyFile("-", a.Stdin)
		if err != nil {
			return err
		}
		out, err := rego.Format("-", text)
		if err != nil {
			return a.denyMistakes(err)
		}
		if check && !bytes.Equal(out, text) {
			return cli.DeniedError{}
		}
		if !check {
			_, err = a.Stdout.Write(out)
		}
		return err
	}
	names, err := regoFiles(orHere(argv), func(string) bool { return true })
	if err != nil {
		return err
	}
	changed := false
	for _, name := range names {
		text, err := readPolicyFile(name, a.Stdin)
		if err != nil {
			return err
		}
		out, err := rego.Format(name, text)
		if err != nil {
			return a.denyMistakes(err)
		}
		if bytes.Equal(out, text) {
			continue
		}
		changed = true
		a.Print("%s", name)
		if check {
			continue
		}
		file, err := filepath.EvalSymlinks(name) // a link stays one
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(file, out, info.Mode().Perm()); err != nil {
			return err
		}
	}
	if check && changed {
		return cli.DeniedError{}
	}
	return nil
}
