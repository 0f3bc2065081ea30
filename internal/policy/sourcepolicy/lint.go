package sourcepolicy

import (
	"reflect"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Lint finds what in a policy does not do what it looks like: reasons with a code
// LINT_… and "file:line" as the subject. A policy that does not compile is an error, as
// of [Compile].
func Lint(files []File, o Options) ([]policy.Reason, error) {
	p, err := Compile(files, o)
	if err != nil {
		return nil, err
	}
	return p.Lint(), nil
}

// Lint is [Lint] of a policy that is compiled.
func (p *Policy) Lint() []policy.Reason {
	found, err := rego.Lint(p.Files(), rego.LintOptions{Optional: Optional})
	if err != nil { // it was compiled of this very text
		return []policy.Reason{{Code: rego.CodeCompile, Message: err.Error()}}
	}
	return found
}

// neverEmpty are members that are never empty once they are known; what stays unknown denies.
var neverEmpty = map[string][]string{
	"image": {"ref", "host", "repo", "fullRepo", "platform", "os", "arch", "checksum", "hasProvenance"},
	"http":  {"url", "schema", "host", "checksum"},
	"git":   {"schema", "host", "remote", "fullURL", "ref", "checksum", "commitChecksum", "isAnnotatedTag", "isSHA256"},
	"local": {"name"},
}

// Optional reports whether a member of the input, by its path, may be absent from a
// source of its kind: it is left out when it is empty.
func Optional(path []string) bool {
	t := reflect.TypeFor[Input]()
	for i, name := range path {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return true
		}
		omit := true
		for _, f := range fieldsOf(t) {
			if f.name == name {
				omit, t = f.omitEmpty, t.Field(f.index).Type
				break
			}
		}
		kind := i == 0 && len(path) > 1 && neverEmpty[name] != nil
		sure := i == 1 && slices.Contains(neverEmpty[path[0]], name)
		if omit && !kind && !sure {
			return true
		}
	}
	return false
}
