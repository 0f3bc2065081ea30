package rules_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

func manual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/signing-policy-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManualHasEachMember: the table of the document has the members of the schema, and no
// others, and says which may be absent or null.
func TestManualHasEachMember(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(manual(t), "| path | | meaning |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	cell := regexp.MustCompile("`([A-Za-z0-9.\\[\\]]+)`( \\((?:absent|null)\\))?")
	said := map[string]string{}
	for _, row := range strings.Split(table, "\n")[1:] {
		for _, m := range cell.FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			if _, twice := said[m[1]]; twice {
				t.Errorf("%s is there twice", m[1])
			}
			said[m[1]] = strings.Trim(m[2], " ()")
		}
	}
	var walk func(path string, schema any)
	walk = func(path string, schema any) {
		s, _ := schema.(map[string]any)
		if list, ok := s["anyOf"].([]any); ok {
			walk(path, list[0])
			return
		}
		if strings.HasSuffix(path, ".signer") && strings.HasPrefix(path, "git.") {
			return // described once
		}
		if items, ok := s["items"]; ok {
			walk(path+"[]", items)
			return
		}
		members, _ := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		for name, member := range members {
			at := strings.TrimPrefix(path+"."+name, ".")
			m, _ := member.(map[string]any)
			want := ""
			if _, nullable := m["anyOf"]; nullable {
				want = "null"
			} else if !slices.Contains(required, any(name)) {
				want = "absent"
			}
			deeper := m["properties"] != nil
			if items, _ := m["items"].(map[string]any); items["properties"] != nil {
				deeper = true
			}
			got, there := said[at]
			switch {
			case there && got != want:
				t.Errorf("%s is %q, and the manual says %q", at, want, got)
			case !there && !deeper:
				t.Errorf("the manual does not have %s", at)
			}
			delete(said, at)
			walk(at, member)
		}
	}
	walk("", input.Schema())
	for path := range said {
		t.Errorf("the manual has %s, and the document has not", path)
	}
}

// TestManualExamples: the policy of the manual compiles, lint finds nothing in it, and its
// tests pass.
func TestManualExamples(t *testing.T) {
	t.Parallel()
	text := manual(t)
	files := map[string][]byte{}
	for _, block := range strings.Split(text, "```rego\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		name := "signing.rego"
		if strings.HasPrefix(code, "package hallmark.signing_test\n") {
			name = "signing_test.rego"
		}
		if files[name] != nil {
			t.Fatalf("two blocks are %s", name)
		}
		files[name] = []byte(code)
	}
	if found := rules.Lint(files); found != nil {
		t.Errorf("%+v", found)
	}
	results, _, wrongs, err := rules.Test(t.Context(), files, nil)
	if err != nil || wrongs != nil || len(results) < 4 {
		t.Fatalf("%v %+v %+v", err, wrongs, results)
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("%+v", r)
		}
	}
}

// TestManualNames: each helper, finding and shipped policy is named.
func TestManualNames(t *testing.T) {
	t.Parallel()
	text := manual(t)
	library, err := os.ReadFile("lib.rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z_]*)(\([a-z_, ]*\))? (?:if|:=|contains) `).FindAllStringSubmatch(string(library), -1) {
		if !strings.Contains(text, "`lib."+m[1]+m[2]+"`") {
			t.Errorf("the manual does not have lib.%s%s", m[1], m[2])
		}
	}
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.Contains(text, "\n| `"+e.Name()+"` |") {
			t.Errorf("the manual does not have the policy %s", e.Name())
		}
	}
	for _, o := range rules.ObligationTypes() {
		if !strings.Contains(text, "\n| `"+o+"` |") {
			t.Errorf("the manual does not have the obligation %s", o)
		}
	}
}

// TestReady: what a repository starts from is what lies in docs/policies/signing.
func TestReady(t *testing.T) {
	t.Parallel()
	for _, name := range rules.Ready() {
		files := rules.ReadyFiles(name)
		if len(files) != 3 {
			t.Errorf("%s: %d files", name, len(files))
		}
		for file, text := range files {
			if lies, err := os.ReadFile(filepath.Join(shipped, name, file)); err != nil || string(lies) != string(text) {
				t.Errorf("%s/%s: %v", name, file, err)
			}
		}
	}
	for _, name := range []string{"", "trivial", "../team", "team/"} {
		if rules.ReadyFiles(name) != nil {
			t.Errorf("%q is ready", name)
		}
	}
}
