package sourcepolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
)

// sandboxGrowth is how far the heap of a sandboxed process may grow before a policy is
// stopped with a reason, and not by the end of the process.
const sandboxGrowth = 96 << 20

// maxPrinted bounds how many lines a sandboxed policy prints in one pass.
const maxPrinted = 1000

// maxValue bounds the decision of a sandboxed policy, in bytes of JSON.
const maxValue = 1 << 20

// ServeSandbox is all that the process of sandboxed policies does. It ends with its input.
func ServeSandbox(in io.Reader, out io.Writer) error {
	s := server{policies: map[int]*Policy{}}
	return sandbox.Serve(in, out, s.answer)
}

type server struct{ policies map[int]*Policy }

func (s *server) answer(c *sandbox.Conn, request json.RawMessage) (any, error) {
	var o order
	dec := json.NewDecoder(bytes.NewReader(request))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return nil, err
	}
	switch {
	case o.Compile != nil:
		return s.compile(c, o.Policy, o.Compile)
	case o.Run == nil:
		return nil, errors.New("neither a policy to compile nor one to evaluate")
	case s.policies[o.Policy] == nil:
		return runAnswer{Unheard: true}, nil
	}
	return evaluate(s.policies[o.Policy], o.Run)
}

func (s *server) compile(c *sandbox.Conn, number int, o *compileOrder) (any, error) {
	opts := Options{Timeout: o.Timeout, growth: sandboxGrowth}
	if o.Folder {
		opts.FS = askedFolder{c}
	}
	if o.Print {
		opts.Print = func(string) {}
	}
	if len(o.Files) == 0 {
		return nil, errors.New("a policy without files")
	}
	p, err := Compile(o.Files, opts)
	var bad *rego.CompileError
	switch {
	case errors.As(err, &bad):
		return compileAnswer{Reasons: bad.Reasons}, nil
	case err != nil:
		return nil, err
	}
	s.policies[number] = p
	return compileAnswer{Impure: p.impure, Fields: p.fields}, nil
}

// evaluate is one pass of a policy.
func evaluate(of *Policy, o *runOrder) (any, error) {
	e := &Evaluation{sandboxed: true, set: &Set{policies: []*Policy{of}}, req: Request{Env: o.Env, Build: o.Build, Locked: o.Locked, Now: o.Now}, known: map[string]*known{}}
	e.root = &node{named: &Input{}, known: &known{}}
	for _, k := range o.Known {
		named, err := SourceToInput(k.Source)
		if err != nil {
			return nil, err
		}
		n := &node{src: k.Source, named: named, known: e.knownOf(k.Source)}
		n.learn(k.Facts)
		for key, why := range k.Failed {
			n.known.failKey(key, errors.New(why))
		}
	}
	if o.Source != nil {
		e.setRoot(*o.Source)
		if e.denied != nil {
			return nil, errors.New("a source that cannot be judged")
		}
	}
	p, value, denied, err := e.pass(context.Background(), of)
	if err != nil {
		return nil, err
	}
	if len(p.printed) > maxPrinted {
		p.printed = append(p.printed[:maxPrinted], fmt.Sprintf("and %d lines more", len(p.printed)-maxPrinted))
	}
	a := runAnswer{Denied: denied, Asks: p.asks.list, Pins: slices.Sorted(maps.Keys(p.pins)), Notes: p.notes[:min(len(p.notes), maxMessages)], Printed: p.printed}
	if value != nil {
		if a.Value, err = json.Marshal(value); err != nil {
			return nil, err
		}
		if len(a.Value) > maxValue {
			a.Value, a.Denied = nil, &policy.Reason{Message: fmt.Sprintf("the decision is a text of %d bytes; at most %d", len(a.Value), maxValue)}
		}
	}
	if !sandbox.Fits(a) {
		return runAnswer{Denied: &policy.Reason{Message: "the policy decides, prints and asks for more than its process may say"}}, nil
	}
	return a, nil
}

// askedFolder is the policy's folder, of which the caller has the files.
type askedFolder struct{ conn *sandbox.Conn }

func (f askedFolder) ask(op, name string, read bool) (*askedFile, error) {
	var a fileAnswer
	if err := f.conn.Ask(fileQuestion{name, read}, &a); err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return &askedFile{name: path.Base(name), fileAnswer: a, Reader: bytes.NewReader(a.Data)}, nil
}

func (f askedFolder) Open(name string) (fs.File, error) { return opened(f.ask("open", name, true)) }

func (f askedFolder) Stat(name string) (fs.FileInfo, error) {
	file, err := f.ask("stat", name, false)
	if err != nil {
		return nil, err
	}
	return file.Stat()
}

func opened(f *askedFile, err error) (fs.File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// askedFile is a file, and what is said of it.
type askedFile struct {
	name string
	fileAnswer
	*bytes.Reader
}

func (f *askedFile) Close() error               { return nil }
func (f *askedFile) Stat() (fs.FileInfo, error) { return askedInfo{f}, nil }

type askedInfo struct{ of *askedFile }

func (i askedInfo) Name() string       { return i.of.name }
func (i askedInfo) Size() int64        { return i.of.fileAnswer.Size }
func (i askedInfo) ModTime() time.Time { return time.Time{} }
func (i askedInfo) IsDir() bool        { return false }
func (i askedInfo) Sys() any           { return nil }

func (i askedInfo) Mode() fs.FileMode {
	if i.of.Regular {
		return 0o444
	}
	return fs.ModeIrregular
}
