package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// isSigningPolicy reports whether a file is that of a signing policy, by its name.
func isSigningPolicy(name string) bool {
	base := filepath.Base(name)
	return base == rules.RulesFile || base == filepath.Base(rules.Alias)
}

// signingFiles are the files of a signing policy with the data beside them.
func (a *app) signingFiles(folder string, names []string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range names {
		text, err := readPolicyFile(name, a.Stdin)
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	name := filepath.Join(folder, rules.DataFile)
	text, err := readPolicyFile(name, a.Stdin)
	switch {
	case err == nil:
		files[name] = text
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return files, nil
}

func (a *app) lintSigningPolicy(folder string, names []string) ([]policy.Reason, error) {
	files, err := a.signingFiles(folder, names)
	if err != nil {
		return nil, err
	}
	found := rules.Lint(files)
	if _, wrongs := rules.Load(files, rules.Options{}); wrongs != nil && (len(found) == 0 || found[0].Code != rego.CodeCompile) {
		found = append(found, wrongs...)
	}
	return found, nil
}

// runSigningSuite runs tests of a signing policy: all rules of its folder are the policy.
func (a *app) runSigningSuite(ctx context.Context, s suite, o *policyTestOptions, answer *policyTestAnswer) error {
	folder := filepath.Dir(s.policy)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fault.As(fault.Usage, err)
	}
	names := slices.Clone(s.tests)
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".rego" && !isPolicyTest(e.Name()) && !e.IsDir() {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	files, err := a.signingFiles(folder, names)
	if err != nil {
		return err
	}
	results, coverage, wrongs, err := rules.Test(ctx, files, func(name string) bool { return strings.Contains(name, o.run) })
	if err != nil {
		return err
	}
	if wrongs != nil {
		return &rego.CompileError{Reasons: wrongs}
	}
	for _, r := range results {
		if r.Passed {
			answer.Passed++
		} else {
			answer.Failed++
		}
		answer.Tests = append(answer.Tests, policyTestResult{Policy: s.policy, File: r.File, Line: r.Line, Package: r.Package, Name: r.Name,
			Passed: r.Passed, Reason: r.Reason, Printed: r.Printed, Milliseconds: float64(r.Duration.Microseconds()) / 1000})
	}
	if o.coverage && len(results) > 0 {
		for _, c := range coverage {
			answer.Lines = append(answer.Lines, policyCoverage{File: c.File, Covered: len(c.Covered), NotCovered: append([]int{}, c.NotCovered...)})
		}
	}
	return nil
}
