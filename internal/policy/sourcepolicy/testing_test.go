package sourcepolicy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

const tested = `package docker
default allow := false
allow if input.local
allow if {
	input.image.repo == "alpine"
	input.image.labels.team == "a"
}
allow if verify_git_signature(input.git.tag, "key.pub")
decision := {"allow": allow}
`

const tests = `package docker
test_local if decision.allow with input as {"local": {"name": "context"}}
test_alpine if {
	decision.allow with input as {"image": {"repo": "alpine", "labels": {"team": "a"}}}
}
test_label_forgotten if decision.allow with input as {"image": {"repo": "alpine"}}
test_other if not decision.allow with input as {"image": {"repo": "debian"}}
test_git if decision.allow with input as {"git": {"tag": {"tag": "v1"}}} with verify_git_signature as true
test_git_unverified if decision.allow with input as {"git": {"tag": {"tag": "v1"}}}
test_function(x) if x == 1
test_error if to_number("x") == 1
helper if true
test_print if print("hello")
`

func TestTests(t *testing.T) {
	t.Parallel()
	one := func(name, text string) []sourcepolicy.File {
		return []sourcepolicy.File{{Name: name, Data: []byte(text)}}
	}
	suite, err := sourcepolicy.CompileTests(one("Dockerfile.rego", tested), one("a_test.rego", tests), sourcepolicy.Options{FS: fstest.MapFS{}})
	if err != nil {
		t.Fatal(err)
	}
	results, err := suite.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var passed, failed []string
	byName := map[string]sourcepolicy.TestResult{}
	for _, r := range results {
		byName[r.Name] = r
		if r.Passed {
			passed = append(passed, r.Name)
		} else {
			failed = append(failed, r.Name)
		}
	}
	if want := []string{"test_alpine", "test_git", "test_local", "test_other", "test_print"}; !slices.Equal(passed, want) {
		t.Errorf("passed %v, want %v", passed, want)
	}
	if want := []string{"test_error", "test_git_unverified", "test_label_forgotten"}; !slices.Equal(failed, want) {
		t.Errorf("failed %v, want %v", failed, want)
	}
	if r := byName["test_label_forgotten"]; !slices.Equal(r.Missing, []string{"image.config"}) || r.Allow == nil || *r.Allow || r.Line != 6 || r.File != "a_test.rego" {
		t.Errorf("%+v", r)
	}
	if r := byName["test_error"]; r.Reason == nil || r.Reason.Code != "POLICY_EVAL" || !strings.Contains(r.Reason.Message, "a_test.rego:11") {
		t.Errorf("%+v", r.Reason)
	}
	if r := byName["test_git_unverified"]; len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "with NAME as VALUE") {
		t.Errorf("%+v", r.Notes)
	}
	if r := byName["test_print"]; !slices.Equal(r.Printed, []string{"hello"}) {
		t.Errorf("%+v", r.Printed)
	}
	c := suite.Coverage()
	if len(c) != 1 || c[0].File != "Dockerfile.rego" || len(c[0].NotCovered) != 0 || len(c[0].Covered) < 6 {
		t.Errorf("%+v", c)
	}
	fresh, err := sourcepolicy.CompileTests(one("Dockerfile.rego", tested), one("a_test.rego", tests), sourcepolicy.Options{FS: fstest.MapFS{}})
	if err != nil {
		t.Fatal(err)
	}
	if some, err := fresh.Run(t.Context(), func(x rego.Test) bool { return x.Name == "test_local" }); err != nil || len(some) != 1 {
		t.Error(some, err)
	}
	if c := fresh.Coverage(); !slices.Equal(c[0].NotCovered, []int{4, 5, 6, 8}) {
		t.Errorf("%+v", c)
	}
}

func TestTestsThatDoNotCompile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files []sourcepolicy.File
		want  string
	}{
		"twice":     {[]sourcepolicy.File{{Name: "a_test.rego", Data: []byte(tests)}, {Name: "b_test.rego", Data: []byte("package docker\ntest_local if false")}}, "b_test.rego:2"},
		"same name": {[]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(tests)}}, "policy and test at once"},
		"syntax":    {[]sourcepolicy.File{{Name: "a_test.rego", Data: []byte("package docker\ntest_a if {")}}, "a_test.rego:2"},
		"typo":      {[]sourcepolicy.File{{Name: "a_test.rego", Data: []byte("package docker\ntest_a if input.image.labls.a")}}, "a_test.rego:2"},
	} {
		_, err := sourcepolicy.CompileTests([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(tested)}}, tc.files, sourcepolicy.Options{})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
