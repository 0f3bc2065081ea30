package rego

import (
	"context"
	"reflect"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Object is an object of an input document whose members are read only when a
// policy comes to them. Members are JSON values (nil, bool, string, int,
// json.Number, []any, []string, map[string]string), an Object, a list []Object,
// or an [Unknown].
type Object map[string]any

// Unknown is a member that has not been found out. It is called each time that a
// policy reads it, which then sees null: the caller must not believe a result
// that came about after a call.
type Unknown func()

// MarshalJSON is how the engine reads a member. OPA's lazy object converts a
// member that is none of its own types through JSON, when and only when something
// asks for its value; TestUnknownIsNeverMissed holds OPA to that.
func (u unknown) MarshalJSON() ([]byte, error) {
	u.read()
	return []byte("null"), nil
}

type unknown struct{ read Unknown }

// document is an Object as OPA's lazy object. Each evaluation has its own: the
// lazy object remembers what it has converted.
func document(o Object) ast.Object { return ast.LazyObject(native(o)) }

func native(o Object) map[string]any {
	m := make(map[string]any, len(o))
	for name, v := range o {
		switch v := v.(type) {
		case Object:
			m[name] = native(v)
		case []Object:
			m[name] = lazyArray(v)
		case Unknown:
			m[name] = unknown{v}
		default:
			m[name] = v
		}
	}
	return m
}

// lazyArray is an array of lazy objects. An array hashes its elements when it is
// made, which would read all that is in them; so it is made of numbers, whose
// terms get the objects afterwards. The hash of such an array is that of its length.
// The cache below keeps these values out of its keys, and comparing reads the elements
// themselves. But the list as a whole, as an element of a set or a key of an object, is
// not found under an equal array that a policy made itself: docs/policy.md says so.
func lazyArray(list []Object) *ast.Array {
	terms := make([]*ast.Term, len(list))
	for i := range list {
		terms[i] = ast.NumberTerm("0")
	}
	array := ast.NewArray(terms...)
	for i, o := range list {
		terms[i].Value = document(o)
	}
	return array
}

// lazyCache is the cache of rules' and functions' values within an evaluation.
// Calls with an argument that is lazy are left out of it: the key of the cache is
// a hash, and hashing reads everything.
type lazyCache struct{ topdown.VirtualCache }

func newLazyCache() lazyCache { return lazyCache{topdown.NewVirtualCache()} }

func (c lazyCache) Get(key ast.Ref) (*ast.Term, bool) {
	if hasLazy(key) {
		return nil, false
	}
	return c.VirtualCache.Get(key)
}

func (c lazyCache) Put(key ast.Ref, value *ast.Term) {
	if !hasLazy(key) {
		c.VirtualCache.Put(key, value)
	}
}

// hasLazy reports whether a key of the cache has a document in it: only the
// arguments of a function can be one.
func hasLazy(key ast.Ref) bool {
	for _, t := range key {
		switch t.Value.(type) {
		case ast.Object, *ast.Array, ast.Set:
			return true
		}
	}
	return false
}

var lazyType = reflect.TypeOf(ast.LazyObject(nil))

// force reads all of a lazy object. The builtin functions below look at the names
// or the number of its members alone, which would tell apart what is not known
// yet without asking for it.
func force(v ast.Value) {
	if o, ok := v.(ast.Object); ok && reflect.TypeOf(v) == lazyType {
		o.Foreach(func(_, _ *ast.Term) {})
	}
}

func init() {
	for _, name := range []string{ast.Count.Name, ast.ObjectKeys.Name, ast.ObjectSubset.Name} {
		wrap(name, func(_ topdown.BuiltinContext, operands []*ast.Term) error {
			for _, o := range operands {
				force(o.Value)
			}
			return nil
		})
	}
}

// wrap lets check see the operands before a builtin function of OPA is called, in
// every evaluation of this process.
func wrap(name string, check func(topdown.BuiltinContext, []*ast.Term) error) {
	call := topdown.GetBuiltin(name)
	if call == nil {
		panic("OPA has no builtin function " + name)
	}
	topdown.RegisterBuiltinFunc(name, func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		if err := check(b, operands); err != nil {
			return err
		}
		return call(b, operands, iter)
	})
}

// runKey is where an evaluation's context has what its functions need.
type runKey struct{}

// RunOf is what the caller of [Program.Run] handed over for its functions.
func RunOf(ctx context.Context) any { return ctx.Value(runKey{}) }
