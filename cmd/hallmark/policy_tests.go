package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
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
)

// CodePolicyTest is the reason that tests of a policy did not pass.
const CodePolicyTest = "POLICY_TEST"

type policyTestOptions struct {
	file     string
	run      string
	junit    string
	coverage bool
	asJSON   bool
}

// policyTestAnswer is what policy test prints with --json; docs/json.md has the table.
type policyTestAnswer struct {
	Allowed bool               `json:"allowed"`
	Passed  int                `json:"passed"`
	Failed  int                `json:"failed"`
	Tests   []policyTestResult `json:"tests"`
	Lines   []policyCoverage   `json:"coverage,omitempty"`
}

type policyTestResult struct {
	Policy       string          `json:"policy"`
	File         string          `json:"file"`
	Line         int             `json:"line"`
	Package      string          `json:"package"`
	Name         string          `json:"name"`
	Passed       bool            `json:"passed"`
	Reason       *policy.Reason  `json:"reason,omitempty"`
	Allow        *bool           `json:"allow,omitempty"`
	DenyMessages []string        `json:"denyMessages,omitempty"`
	Input        json.RawMessage `json:"input,omitempty"`
	Missing      []string        `json:"missing,omitempty"`
	Notes        []string        `json:"notes,omitempty"`
	Printed      []string        `json:"printed,omitempty"`
	Milliseconds float64         `json:"milliseconds"`
}

type policyCoverage struct {
	File       string `json:"file"`
	Covered    int    `json:"covered"`
	NotCovered []int  `json:"notCovered"`
}

func newPolicyTestCommand(a *app) *cobra.Command {
	var o policyTestOptions
	c := &cobra.Command{
		Use:   "test [PATH]",
		Short: "Run the tests of a source policy",
		Long: `Run the tests of source policies: rules test_… in files *_test.rego, as docker
buildx runs them. PATH is such a file, or a folder, of which all below it are
run. Nothing is fetched: what a test does not give with its input is not there.
Those of signing.rego are tests of a signing policy
(docs/signing-policy-rules.md).

The policy of X_test.rego is X.rego beside it, else Dockerfile.rego beside it,
else Dockerfile.rego in this folder; or the one that --filename names.

Exit code 0: all passed; 3: some did not; 4: there are no tests.`,
		Example: `  hallmark policy test
  hallmark policy test Dockerfile_test.rego --run pinned
  hallmark policy test . --coverage --junit results.xml
  hallmark policy test --filename Dockerfile --json`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.policyTest(c.Context(), orHere(argv)[0], &o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.file, "filename", "", "the policy to test: `NAME`.rego, as for buildx, or a file")
	f.StringVar(&o.run, "run", "", "only tests whose names contain `TEXT`")
	f.StringVar(&o.junit, "junit", "", "write the results to `FILE` in JUnit's format, too")
	f.BoolVar(&o.coverage, "coverage", false, "show which lines of the policy no test came to")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) policyTest(ctx context.Context, path string, o *policyTestOptions) error {
	suites, err := findSuites(path, o.file)
	if err != nil {
		return err
	}
	answer := &policyTestAnswer{Tests: []policyTestResult{}}
	for _, s := range suites {
		if err := a.runSuite(ctx, s, o, answer); err != nil {
			return a.denyMistakes(err)
		}
	}
	if len(answer.Tests) == 0 {
		return fault.Hint(fault.NotFoundf("no tests in %s", path), "a test is a rule test_… in a file *_test.rego")
	}
	answer.Allowed = answer.Failed == 0
	if o.junit != "" {
		data, err := junit(answer)
		if err == nil {
			err = durable.WriteFile(o.junit, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", o.junit, err)
		}
	}
	if o.asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	} else {
		a.printTests(answer)
	}
	if !answer.Allowed {
		return a.Deny(policy.Deny(policy.Reason{Code: CodePolicyTest, Message: fmt.Sprintf("%d of %d tests did not pass", answer.Failed, answer.Failed+answer.Passed)}))
	}
	return nil
}

// suite is a policy with its test files.
type suite struct {
	policy string
	tests  []string
}

// findSuites gives each test file its policy.
func findSuites(path, file string) ([]suite, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() && !isPolicyTest(path) {
		return nil, fault.Usagef("%s: the name of a test file ends in _test.rego", path)
	}
	tests, err := regoFiles([]string{path}, isPolicyTest)
	if err != nil {
		return nil, err
	}
	var out []suite
	for _, t := range tests {
		if own, err := policyOf(t, ""); file != "" && !isSigningPolicy(file) && err == nil && isSigningPolicy(own) {
			continue // a signing policy's test knows nothing of a source policy
		}
		p, err := policyOf(t, file)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out, func(s suite) bool { return s.policy == p })
		if i < 0 {
			i, out = len(out), append(out, suite{policy: p})
		}
		out[i].tests = append(out[i].tests, t)
	}
	return out, nil
}

func policyOf(test, file string) (string, error) {
	candidates := []string{file, file + ".rego"}
	if file == "" {
		candidates = []string{
			strings.TrimSuffix(test, "_test.rego") + ".rego", filepath.Join(filepath.Dir(test), "Dockerfile.rego"), "Dockerfile.rego",
		}
	} else if strings.HasSuffix(file, ".rego") {
		candidates = candidates[:1]
	} else {
		candidates = candidates[1:]
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); err == nil && !info.IsDir() {
			return c, nil
		}
	}
	return "", fault.Hint(fault.Usagef("%s: there is no policy that it tests; looked for %s", test, strings.Join(candidates, ", ")), "--filename NAME names it")
}

func (a *app) runSuite(ctx context.Context, s suite, o *policyTestOptions, answer *policyTestAnswer) error {
	if isSigningPolicy(s.policy) {
		return a.runSigningSuite(ctx, s, o, answer)
	}
	opts, err := policyOptions(s.policy, nil)
	if err != nil {
		return err
	}
	files := func(names ...string) (out []sourcepolicy.File, err error) {
		for _, name := range names {
			text, err := readPolicyFile(name, a.Stdin)
			if err != nil {
				return nil, err
			}
			out = append(out, sourcepolicy.File{Name: name, Data: text})
		}
		return out, nil
	}
	rules, err := files(s.policy)
	if err != nil {
		return err
	}
	tests, err := files(s.tests...)
	if err != nil {
		return err
	}
	compiled, err := sourcepolicy.CompileTests(rules, tests, opts)
	if err != nil {
		return err
	}
	results, err := compiled.Run(ctx, func(t rego.Test) bool { return strings.Contains(t.Name, o.run) })
	if err != nil {
		return err
	}
	for _, r := range results {
		t := policyTestResult{Policy: s.policy, File: r.File, Line: r.Line, Package: r.Package, Name: r.Name, Passed: r.Passed, Reason: r.Reason,
			Allow: r.Allow, DenyMessages: r.DenyMessages, Notes: r.Notes, Printed: r.Printed, Milliseconds: float64(r.Duration.Microseconds()) / 1000}
		if r.Passed {
			answer.Passed++
		} else {
			answer.Failed++
			t.Input, t.Missing = r.Input, r.Missing
		}
		answer.Tests = append(answer.Tests, t)
	}
	if o.coverage && len(results) > 0 {
		for _, c := range compiled.Coverage() {
			answer.Lines = append(answer.Lines, policyCoverage{File: c.File, Covered: len(c.Covered), NotCovered: append([]int{}, c.NotCovered...)})
		}
	}
	return nil
}

// printTests prints a line for each test, as buildx does, and below one that failed
// what it was given, what was decided about it and what was missing.
func (a *app) printTests(answer *policyTestAnswer) {
	for _, t := range answer.Tests {
		word := "PASS"
		if !t.Passed {
			word = "FAIL"
		}
		line := fmt.Sprintf("%s: %s", t.Name, word)
		if t.Allow != nil {
			line += fmt.Sprintf(" (allow=%v", *t.Allow)
			if len(t.DenyMessages) > 0 {
				line += ", deny_msg=" + strings.Join(t.DenyMessages, "; ")
			}
			line += ")"
		}
		a.Print("%s", cli.OneLine(line))
		for _, p := range t.Printed {
			a.Print("  print: %s", cli.OneLine(p))
		}
		if t.Passed {
			continue
		}
		a.Print("  at: %s:%d", t.File, t.Line)
		if t.Reason != nil {
			a.Print("  error: %s", cli.OneLine(t.Reason.Message))
		}
		if len(t.Input) > 0 {
			a.Print("  input: %s", cli.OneLine(string(t.Input)))
		}
		if len(t.Missing) > 0 {
			a.Print("  missing in the input: %s", strings.Join(t.Missing, ", "))
		}
		for _, n := range t.Notes {
			a.Print("  note: %s", cli.OneLine(n))
		}
	}
	for _, c := range answer.Lines {
		all := c.Covered + len(c.NotCovered)
		a.Print("coverage: %s %d of %d lines%s", c.File, c.Covered, all, notCovered(c.NotCovered))
	}
	a.Print("%d passed, %d failed", answer.Passed, answer.Failed)
}

func notCovered(lines []int) string {
	if len(lines) == 0 {
		return ""
	}
	var parts []string
	for i := 0; i < len(lines); {
		j := i
		for j+1 < len(lines) && lines[j+1] == lines[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(lines[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", lines[i], lines[j]))
		}
		i = j + 1
	}
	return "; not " + strings.Join(parts, ", ")
}

// junit is the results in the XML that CI systems read: a suite for each policy.
func junit(answer *policyTestAnswer) ([]byte, error) {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		File    string   `xml:"file,attr"`
		Line    int      `xml:"line,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	type testsuite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	var all struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}
	for _, t := range answer.Tests {
		i := slices.IndexFunc(all.Suites, func(s testsuite) bool { return s.Name == t.Policy })
		if i < 0 {
			i, all.Suites = len(all.Suites), append(all.Suites, testsuite{Name: t.Policy})
		}
		c := testcase{Class: t.Package, Name: t.Name, File: t.File, Line: t.Line, Time: fmt.Sprintf("%.6f", t.Milliseconds/1000)}
		if !t.Passed {
			all.Suites[i].Failures++
			c.Failure = &failure{Message: "the test is not true", Text: cli.OneLine(string(t.Input))}
			if t.Reason != nil {
				c.Failure.Message = cli.OneLine(t.Reason.Message)
			}
		}
		all.Suites[i].Tests++
		all.Suites[i].Cases = append(all.Suites[i].Cases, c)
	}
	data, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(data, '\n')...), err
}
