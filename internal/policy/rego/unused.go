package rego

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkUsed demands that every rule decides something: it is one of names in the
// queried package, or another rule uses it. A rule that is called deny where
// deny_msg is meant, or a deny_msg that stands in a package below the one that
// decides, would silently never deny. Test files are left out. Functions and a policy's own tests
// (test_…) do nothing by themselves and may stand unused.
func (b *bundle) checkUsed(compiler *ast.Compiler, query string, names []string) error {
	u := b.uses(compiler)
	for _, file := range b.names {
		if b.tests[file] {
			continue
		}
		for _, rule := range compiler.Modules[file].Rules {
			path := rule.Ref().GroundPrefix()
			name := strings.TrimPrefix(path.String(), query+".")
			if len(rule.Head.Args) > 0 || strings.HasPrefix(name, "test_") || slices.Contains(names, name) || u.used(path) {
				continue
			}
			return compileErrorf(fmt.Sprintf("%s:%d", file, rule.Location.Row),
				"the rule %s decides nothing: no other rule uses it, and what decides is %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// usage is who refers to what: by path, the rules that refer to it or to a part
// of it, and those that refer to exactly it.
type usage struct{ within, exactly map[string]users }

// users are the paths of rules, of which only "none but this one" matters.
type users struct {
	first string
	more  bool
}

func (u users) add(path string) users {
	if u.first == "" {
		u.first = path
	}
	u.more = u.more || u.first != path
	return u
}

// other reports whether there is a user that is not path itself.
func (u users) other(path string) bool { return u.more || u.first != "" && u.first != path }

func (b *bundle) uses(compiler *ast.Compiler) usage {
	u := usage{within: map[string]users{}, exactly: map[string]users{}}
	for _, file := range b.names {
		for _, rule := range compiler.Modules[file].Rules {
			from := rule.Ref().GroundPrefix().String()
			ast.WalkRefs(rule, func(r ast.Ref) bool {
				if ground := r.GroundPrefix(); r.HasPrefix(ast.DefaultRootRef) {
					u.exactly[ground.String()] = u.exactly[ground.String()].add(from)
					for n := range ground {
						part := ground[:n+1].String()
						u.within[part] = u.within[part].add(from)
					}
				}
				return false
			})
		}
	}
	return u
}

// used reports whether another rule than the one at path refers to it, to a part
// of it or to what it is part of.
func (u usage) used(path ast.Ref) bool {
	self := path.String()
	if u.within[self].other(self) {
		return true
	}
	for n := range path {
		if u.exactly[path[:n+1].String()].other(self) {
			return true
		}
	}
	return false
}

// defines reports whether a rule has exactly this path.
func (b *bundle) defines(compiler *ast.Compiler, path string) bool {
	for _, file := range b.names {
		for _, rule := range compiler.Modules[file].Rules {
			if rule.Ref().GroundPrefix().String() == path {
				return true
			}
		}
	}
	return false
}
