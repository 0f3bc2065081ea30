package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// testTimeout is for one test. People wait for them, and may look on a busy machine.
const testTimeout = time.Minute

// TestResult is what became of one test rule.
type TestResult struct {
	Package, Name, File string
	Line                int
	Passed              bool
	Reason              *policy.Reason // why it could not be evaluated; nil when it was
	Printed             []string
	Duration            time.Duration
}

// Coverage is which lines of a file the tests came to.
type Coverage = rego.Coverage

// Test runs the policy's tests: the rules test_… of its *_test.rego files, with
// "with input as …", in package hallmark.signing or hallmark.signing_test. They have
// data.hallmark.testing: release, the document of [input.Example]; replaced(path, value),
// added(path, value) and removed(path), which are release with one member changed, by a
// JSON pointer; and what the policy says: allowed (allow is true and deny_msg empty),
// refused (there is an input, and it is not allowed), and the sets denials, warnings and
// obligations (their types). match nil runs all. Reasons as of [Load]; an
// error means that ctx ended.
func Test(ctx context.Context, files map[string][]byte, match func(name string) bool) ([]TestResult, []Coverage, []policy.Reason, error) {
	own, tests, wrongs := split(files)
	if wrongs != nil {
		return nil, nil, wrongs, nil
	}
	c := config(Options{Timeout: testTimeout, Print: func(string) {}})
	c.Tests = tests
	c.Modules = map[string]string{"hallmark:testing.rego": testLibrary(own)}
	program, err := rego.CompileSetTests(own, c)
	if err != nil {
		return nil, nil, mistakes(err), nil
	}
	now, err := input.Example().Now.Time()
	if err != nil {
		return nil, nil, nil, err
	}
	var out []TestResult
	for _, t := range program.Tests {
		if match != nil && !match(t.Name) {
			continue
		}
		start := time.Now()
		o, err := program.Run(ctx, t, now, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		out = append(out, TestResult{
			Package: t.Package, Name: t.Name, File: t.File, Line: t.Line,
			Passed: o.Passed, Reason: o.Reason, Printed: o.Lines, Duration: time.Since(start),
		})
	}
	return out, program.Coverage(), nil, nil
}

// testLibrary is the module data.hallmark.testing for a policy.
func testLibrary(own map[string][]byte) string {
	release, _ := json.MarshalIndent(input.Example(), "", "\t") // of texts and numbers
	at := rego.SigningQuery
	for name, text := range own {
		if _, decides := rego.Kind(name, text); decides {
			at += ".decision"
			break
		}
	}
	return fmt.Sprintf(`package hallmark.testing

release := %s

replaced(path, value) := json.patch(release, [{"op": "replace", "path": path, "value": value}])

added(path, value) := json.patch(release, [{"op": "add", "path": path, "value": value}])

removed(path) := json.patch(release, [{"op": "remove", "path": path}])

allowed if {
	%[2]s.allow == true
	denials == set()
}

refused if {
	input.kind
	not allowed
}

denials := {m | some m in %[2]s.deny_msg}

warnings := {m | some m in %[2]s.warn_msg}

obligations := {o.type | some o in %[2]s.obligations}
`, release, at)
}
