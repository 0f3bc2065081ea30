package rego

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

//go:embed lib.rego
var library []byte

// libraryFile is the name that errors in the library would show.
const libraryFile = "hallmark:lib.rego"

// ReadFiles reads the files of a policy for Compile. A folder stands for its
// *.rego files without *_test.rego and for its data.json; other files in it are
// not part of the policy, but rule files in folders below it are an error.
func ReadFiles(paths ...string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, p := range paths {
		names := []string{p}
		if info, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("policy %s: %w", p, err)
		} else if info.IsDir() {
			if names, err = policyFiles(p); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				return nil, fmt.Errorf("policy %s: %w", name, err)
			}
			if info.Size() > MaxBundle {
				return nil, compileErrorf(name, "%d bytes; a policy has at most %d", info.Size(), MaxBundle)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("policy %s: %w", name, err)
			}
			files[name] = data
		}
	}
	return files, nil
}

func policyFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", dir, err)
	}
	var names []string
	rules := false
	for _, e := range entries {
		isRule := strings.HasSuffix(e.Name(), ".rego") && !strings.HasSuffix(e.Name(), "_test.rego")
		if !strings.HasPrefix(e.Name(), ".") && !isRule {
			if where := overlooked(filepath.Join(dir, e.Name())); where != "" {
				return nil, compileErrorf(where, "this rule file would be overlooked: the *.rego files of a policy lie directly in its folder")
			}
		}
		if isRule || e.Name() == "data.json" {
			names = append(names, filepath.Join(dir, e.Name()))
		}
		rules = rules || isRule
	}
	if !rules {
		return nil, compileErrorf(dir, "no *.rego file in this folder")
	}
	return names, nil
}

// overlooked is a rule file at or below path that would not be read, "" without
// one. Hidden folders (.git, ..data of a mounted ConfigMap) are not policy.
func overlooked(path string) string {
	found := ""
	_ = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), "."):
			return filepath.SkipDir
		case !e.IsDir() && strings.EqualFold(filepath.Ext(p), ".rego") && !strings.HasSuffix(p, "_test.rego"):
			found = p
			return filepath.SkipAll
		}
		return nil
	})
	return found
}

// bundle is a policy while it is compiled.
type bundle struct {
	names   []string // of the Rego files, sorted
	text    map[string]string
	modules map[string]*ast.Module
	data    map[string]any
	tests   map[string]bool // files that belong to the policy's tests
}

func readBundle(files map[string][]byte) (*bundle, error) {
	b := &bundle{text: map[string]string{}, modules: map[string]*ast.Module{}, data: map[string]any{}}
	size, hasData := 0, false
	for name, content := range files {
		size += len(content)
		switch {
		case strings.HasSuffix(name, ".rego"):
			b.names = append(b.names, name)
			b.text[name] = string(content)
		case path.Base(filepath.ToSlash(name)) == "data.json" && !hasData:
			hasData = true
			if err := b.readData(name, content); err != nil {
				return nil, err
			}
		case path.Base(filepath.ToSlash(name)) == "data.json":
			return nil, compileErrorf(name, "a second data.json")
		default:
			return nil, compileErrorf(name, "a policy consists of *.rego files and data.json")
		}
	}
	if size > MaxBundle {
		return nil, compileErrorf("", "the policy has %d bytes; at most %d", size, MaxBundle)
	}
	if len(b.names) == 0 {
		return nil, compileErrorf("", "no *.rego file")
	}
	sort.Strings(b.names)
	return b, nil
}

// readData reads data.json: one object; nothing in it may stand where rules stand.
func (b *bundle) readData(name string, content []byte) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	err := dec.Decode(&b.data)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return compileErrorf(name, "must hold one JSON object, and not one %s", kind.Value)
	}
	if err != nil {
		return compileErrorf(name, "%v", err)
	}
	if dec.More() || b.data == nil {
		return compileErrorf(name, "must hold one JSON object")
	}
	if _, taken := b.data["hallmark"]; taken {
		return compileErrorf(name, "the name hallmark belongs to rules, not to data")
	}
	return nil
}

func (b *bundle) parseV1() error {
	for _, name := range b.names {
		m, err := parse(name, b.text[name], ast.RegoV1, gateBuiltins())
		if err != nil {
			return compileError(err)
		}
		b.modules[name] = m
	}
	return nil
}

func parse(name, text string, version ast.RegoVersion, builtins []string) (*ast.Module, error) {
	m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: version, Capabilities: capabilities(builtins, version)})
	if err != nil && strings.TrimSpace(text) != "" {
		return nil, err
	}
	if m == nil {
		return nil, compileErrorf(name, "the file is empty")
	}
	return m, nil
}

// checkPackages demands that rules stand in the queried package or, unless it is to be
// the only one, below it. Tests may stand in the one beside it, too.
func (b *bundle) checkPackages(query string, alone bool) error {
	found := false
	for _, name := range b.names {
		m := b.modules[name]
		pkg := m.Package.Path.String()
		inside := pkg == query || !alone && strings.HasPrefix(pkg, query+".") || b.tests[name] && pkg == query+"_test"
		if !inside {
			return compileErrorf(fmt.Sprintf("%s:%d", name, m.Package.Location.Row), "%s; rules must stand in package %s",
				m.Package, strings.TrimPrefix(query, "data."))
		}
		found = found || pkg == query && !b.tests[name]
	}
	if !found {
		return compileErrorf(b.names[0], "no file has package %s", strings.TrimPrefix(query, "data."))
	}
	return nil
}

// checkDataRefs demands, after compilation has resolved imports, that every
// reference to data leads to a rule or to data.json: anything else would be
// undefined for ever, and a rule about it would silently never fire.
func (b *bundle) checkDataRefs(compiler *ast.Compiler) error {
	var rules []ast.Ref
	for _, m := range compiler.Modules {
		for _, r := range m.Rules {
			rules = append(rules, r.Ref().GroundPrefix())
		}
	}
	for _, name := range b.names {
		for _, rule := range compiler.Modules[name].Rules {
			if err := b.checkRule(rule, rules); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bundle) checkRule(rule *ast.Rule, rules []ast.Ref) error {
	var bad *CompileError
	ast.WalkRefs(rule, func(r ast.Ref) bool {
		if bad != nil || !r.HasPrefix(ast.DefaultRootRef) {
			return bad != nil
		}
		loc := rule.Location
		if l := r[0].Location; l != nil && l.File != "" {
			loc = l
		}
		where := fmt.Sprintf("%s:%d", loc.File, loc.Row)
		ground := r.GroundPrefix()
		if len(ground) < 2 {
			bad = compileErrorf(where, "%s: name the data that you mean", r)
			return true
		}
		if first, ok := ground[1].Value.(ast.String); ok {
			if _, ok := b.data[string(first)]; ok {
				return false
			}
		}
		for _, known := range rules {
			if ground.HasPrefix(known) || known.HasPrefix(ground) {
				return false
			}
		}
		bad = compileErrorf(where, "%s is neither a rule of this policy nor in its data.json", r)
		return true
	})
	if bad != nil {
		return bad
	}
	return nil
}
