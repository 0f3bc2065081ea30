package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// MaxModules bounds how many files one policy imports.
const MaxModules = 64

// ProgramConfig is what a [Program] is made of.
type ProgramConfig struct {
	Query     string            // what decides: "data.docker.decision"
	Files     map[string][]byte // *.rego, by the names that errors show
	Library   map[string]string // modules of the engine itself, by name
	Schema    any               // closed JSON schema of the input
	Builtins  []string          // names of OPA's functions that may be called
	Impure    []string          // those among them whose value is no function of the input
	Functions []Function        // beside OPA's
	Wholes    []string          // objects of the input that have lazy members: "input.image"
	Imports   fs.FS             // where import data.a.b finds a/b.rego; nil: nowhere
	Timeout   time.Duration     // of one evaluation, default DefaultTimeout
	Growth    uint64            // bytes that the heap may grow during one, default 512 MiB
	Print     bool              // whether print() says something
}

// Function is a function that policies may call beside OPA's.
type Function struct {
	Name   string
	Args   []Type
	Result Type
	// Call answers with a JSON value, with a [Value], or with nil for undefined. An
	// error ends the evaluation and denies. ctx carries what [RunOf] reads.
	Call func(ctx context.Context, args []Operand) (any, error)
}

// Type is what a policy's compiler knows of an argument or a result.
type Type int

// The types.
const (
	Any Type = iota
	String
	Boolean
)

func (t Type) declared() types.Type {
	switch t {
	case String:
		return types.S
	case Boolean:
		return types.B
	}
	return types.A
}

// Operand is an argument of a [Function].
type Operand struct{ value ast.Value }

// String is the operand as a string.
func (o Operand) String() (string, bool) {
	s, ok := o.value.(ast.String)
	return string(s), ok
}

// IsObject reports whether the operand is an object.
func (o Operand) IsObject() bool {
	_, ok := o.value.(ast.Object)
	return ok
}

// Kind names the operand's type, such as "array".
func (o Operand) Kind() string { return ast.ValueName(o.value) }

// Value is a JSON value that was made ready for policies, so that a large one can
// be handed out many times.
type Value struct{ value ast.Value }

// NewValue makes a decoded JSON value ready.
func NewValue(v any) (Value, error) {
	converted, err := ast.InterfaceToValue(v)
	return Value{converted}, err
}

// Program is a source policy that was compiled: safe for concurrent use.
type Program struct {
	eval   evaluator
	impure []string
	fields []string
	files  map[string][]byte
}

// CompileProgram compiles the files with all that they import. An error is a
// [CompileError], whose reasons say the file and the line.
func CompileProgram(c ProgramConfig) (*Program, error) {
	b, err := c.read()
	if err != nil {
		return nil, err
	}
	compiler, err := c.compile(b)
	if err != nil {
		return nil, err
	}
	if !b.defines(compiler, c.Query) {
		pkg := b.modules[b.names[0]].Package
		return nil, compileErrorf(fmt.Sprintf("%s:%d", b.names[0], pkg.Location.Row),
			"no rule %s: it is what decides, and this is %s", strings.TrimPrefix(c.Query, "data."), pkg)
	}
	p := &Program{files: map[string][]byte{}}
	for _, name := range b.names {
		p.files[name] = []byte(b.text[name])
	}
	p.impure, p.fields = b.impure(compiler, c.Impure), b.fields(compiler)
	p.eval, err = c.evaluator(compiler, c.Query)
	return p, err
}

// read parses the files, what they import, and the library.
func (c ProgramConfig) read() (*bundle, error) {
	b, err := readBundle(c.Files)
	if err != nil {
		return nil, err
	}
	for name := range c.Files {
		if c.Library[name] != "" {
			return nil, compileErrorf(name, "this name belongs to the engine")
		}
		if strings.HasSuffix(name, "data.json") {
			return nil, compileErrorf(name, "a source policy has no data.json: load_json reads JSON files")
		}
	}
	for _, name := range b.names {
		if b.modules[name], err = parse(name, b.text[name], ast.RegoV1, c.Builtins); err != nil {
			return nil, compileError(err)
		}
	}
	if err := c.importAll(b); err != nil {
		return nil, err
	}
	for name, text := range c.Library {
		if b.modules[name], err = parse(name, text, ast.RegoV1, c.Builtins); err != nil {
			return nil, compileError(err)
		}
	}
	return b, nil
}

func (c ProgramConfig) compile(b *bundle) (*ast.Compiler, error) {
	for _, name := range b.names {
		if err := checkPatterns(name, b.modules[name], c.Wholes); err != nil {
			return nil, err
		}
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, c.Schema)
	caps := capabilities(c.Builtins, ast.RegoV1)
	for _, f := range c.Functions {
		caps.Builtins = append(caps.Builtins, f.declaration())
	}
	compiler := ast.NewCompiler().WithCapabilities(caps).WithSchemas(schemas).
		WithUseTypeCheckAnnotations(false).WithEnablePrintStatements(c.Print)
	compiler.Compile(b.modules)
	if compiler.Failed() {
		return nil, compileError(compiler.Errors)
	}
	if err := b.checkDataRefs(compiler); err != nil {
		return nil, err
	}
	return compiler, nil
}

func (c ProgramConfig) evaluator(compiler *ast.Compiler, query string) (evaluator, error) {
	e, err := newEvaluator(compiler, query, map[string]any{})
	if err != nil {
		return evaluator{}, compileError(err)
	}
	e.timeout, e.growth, e.lazy = c.Timeout, cmp.Or(c.Growth, maxHeapGrowth), true
	if e.timeout <= 0 {
		e.timeout = DefaultTimeout
	}
	e.functions = map[string]*topdown.Builtin{}
	for _, f := range c.Functions {
		e.functions[f.Name] = &topdown.Builtin{Decl: f.declaration(), Func: f.run}
	}
	return e, nil
}

func (f Function) declaration() *ast.Builtin {
	var args []types.Type
	for _, a := range f.Args {
		args = append(args, a.declared())
	}
	return &ast.Builtin{Name: f.Name, Decl: types.NewFunction(types.Args(args...), f.Result.declared())}
}

func (f Function) run(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
	args := make([]Operand, len(f.Args))
	for i, o := range operands[:len(f.Args)] { // what follows is where the answer goes
		args[i] = Operand{o.Value}
		if _, ok := o.Value.(ast.String); f.Args[i] == String && !ok {
			return f.failed(b, fmt.Errorf("argument %d is of type %s; it must be a string", i+1, ast.ValueName(o.Value)))
		}
	}
	answer, err := f.Call(b.Context, args)
	if err != nil {
		return f.failed(b, err)
	}
	if answer == nil {
		return nil
	}
	if v, ok := answer.(Value); ok {
		return iter(ast.NewTerm(v.value))
	}
	v, err := ast.InterfaceToValue(answer)
	if err != nil {
		return f.failed(b, err)
	}
	return iter(ast.NewTerm(v))
}

func (f Function) failed(b topdown.BuiltinContext, err error) error {
	return &topdown.Error{Code: topdown.BuiltinErr, Message: f.Name + ": " + err.Error(), Location: b.Location}
}

// Impure names the functions called whose value is no function of the input.
func (p *Program) Impure() []string { return p.impure }

// Fields are the members of the input that the rules name, such as "image.labels".
func (p *Program) Fields() []string { return p.fields }

// Files are the texts of the policy and of all that it imports.
func (p *Program) Files() map[string][]byte { return maps.Clone(p.files) }

// Document is the input of one evaluation.
type Document struct {
	value ast.Object
	names *names
}

// NewDocument makes an input document. leftOut are names of members that are not in it:
// whether the policy came to one of them is said afterwards by [Document.Named].
func NewDocument(o Object, leftOut ...string) *Document {
	return &Document{value: document(o), names: newNames(leftOut)}
}

// Named are the names of members that were left out and that the evaluation asked for. A
// result that came about then is one of a document that lacks them.
func (d *Document) Named() []string { return slices.Sorted(maps.Keys(d.names.found)) }

// Is reports whether an operand is the member of the input at the path, read
// without need only when it is not that very value.
func (d *Document) Is(o Operand, path ...string) bool {
	var ref ast.Ref
	for _, p := range path {
		ref = append(ref, ast.StringTerm(p))
	}
	v, err := d.value.Find(ref)
	if err != nil {
		return false
	}
	if a, ok := v.(ast.Object); ok {
		if b, ok := o.value.(ast.Object); ok && a == b {
			return true
		}
	}
	return v.Compare(o.value) == 0
}

// Run evaluates the program once. run is what [RunOf] gives to its functions, and
// print receives what the policy prints. The value is nil when the query is
// undefined; a failure of the policy is a reason; an error means that ctx ended.
func (p *Program) Run(ctx context.Context, d *Document, now time.Time, run any, print func(string)) (any, *policy.Reason, error) {
	e := p.eval // its tracers are none
	e.print = print
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok {
		e.tracers = append(e.tracers, t.begin(p))
	}
	e.tracers = append(e.tracers, d.names)
	return e.run(context.WithValue(ctx, runKey{}, run), d.value, now)
}

// impure finds the functions of names that are called anywhere.
func (b *bundle) impure(compiler *ast.Compiler, names []string) []string {
	found := map[string]bool{}
	for _, name := range b.names {
		ast.WalkExprs(compiler.Modules[name], func(e *ast.Expr) bool {
			if e.IsCall() && slices.Contains(names, e.Operator().String()) {
				found[e.Operator().String()] = true
			}
			return false
		})
	}
	return slices.Sorted(maps.Keys(found))
}

// fields are the ground prefixes of the references to the input.
func (b *bundle) fields(compiler *ast.Compiler) []string {
	found := map[string]bool{}
	for _, name := range b.names {
		ast.WalkRefs(compiler.Modules[name], func(r ast.Ref) bool {
			if r.HasPrefix(ast.InputRootRef) {
				var path []string
				for _, t := range r.GroundPrefix()[1:] {
					s, ok := t.Value.(ast.String)
					if !ok {
						break
					}
					path = append(path, string(s))
				}
				if len(path) > 0 {
					found[strings.Join(path, ".")] = true
				}
			}
			return false
		})
	}
	return slices.Sorted(maps.Keys(found))
}

// importAll loads what the modules import, as buildx does: import data.a.b is the
// file a/b.rego, whose package is then data.a.b whatever it says itself. Packages
// that are there already need no file.
func (c ProgramConfig) importAll(b *bundle) error {
	size := 0
	for _, text := range b.text {
		size += len(text)
	}
	for next := slices.Clone(b.names); len(next) > 0; {
		name := next[0]
		next = next[1:]
		for _, i := range b.modules[name].Imports {
			file, pkg := importedFile(i)
			if file == "" || b.modules[file] != nil || b.hasPackage(pkg) {
				continue
			}
			where := fmt.Sprintf("%s:%d", name, i.Location.Row)
			text, err := c.readImport(file)
			if err != nil {
				return compileErrorf(where, "import %s: %v", i.Path, err)
			}
			if size += len(text); size > MaxBundle {
				return compileErrorf(where, "with %s the policy has %d bytes; at most %d", file, size, MaxBundle)
			}
			if len(b.modules) >= MaxModules {
				return compileErrorf(where, "more than %d files", MaxModules)
			}
			m, err := parse(file, string(text), ast.RegoV1, c.Builtins)
			if err != nil {
				return compileError(err)
			}
			m.Package = &ast.Package{Path: pkg, Location: m.Package.Location}
			b.modules[file], b.text[file] = m, string(text)
			b.names = append(b.names, file)
			next = append(next, file)
		}
	}
	sort.Strings(b.names)
	return nil
}

// importedFile is the file of an import below data, with its package; "" for
// other imports (input, rego.v1, future.keywords).
func importedFile(i *ast.Import) (string, ast.Ref) {
	path, ok := i.Path.Value.(ast.Ref)
	if !ok || len(path) < 2 || !path.HasPrefix(ast.DefaultRootRef) {
		return "", nil
	}
	var parts []string
	for _, t := range path[1:] {
		s, ok := t.Value.(ast.String)
		if !ok {
			return "", nil
		}
		parts = append(parts, string(s))
	}
	return strings.Join(parts, "/") + ".rego", path
}

func (b *bundle) hasPackage(path ast.Ref) bool {
	for _, m := range b.modules {
		if m.Package.Path.Equal(path) {
			return true
		}
	}
	return false
}

func (c ProgramConfig) readImport(name string) ([]byte, error) {
	if c.Imports == nil {
		return nil, errors.New("this policy has no folder, so nothing can be imported")
	}
	return ReadBounded(c.Imports, name, MaxBundle)
}

// Folder is a policy's folder. Links that lead out of it are not followed, and to open
// a named pipe waits for nobody.
func Folder(root *os.Root) fs.FS { return folder{root} }

type folder struct{ root *os.Root }

func (f folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (f folder) Stat(name string) (fs.FileInfo, error) { return f.root.Stat(name) }

// ReadBounded reads a regular file of a policy's folder, of at most limit bytes. What
// is something else is not opened: a named pipe would wait, a device would act.
func ReadBounded(folder fs.FS, name string, limit int64) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%q is no path within the policy's folder", name)
	}
	if info, err := fs.Stat(folder, name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes; at most %d", name, info.Size(), limit)
	}
	return readAll(f, name, limit)
}

// readAll reads to the end, and fails for a file that grew beyond the limit.
func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}
