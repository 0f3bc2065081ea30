// Package strictyaml reads YAML that decides something: policies, trust roots and
// the objects that policies judge. What it does not understand is an error that
// names the file, the line and the field; nothing is ever skipped.
//
// Refused everywhere: duplicate keys, anchors and aliases (so no alias bombs),
// merge keys, custom tags, keys that are no strings, nesting beyond 64 levels,
// documents beyond [MaxSize], and text that is no YAML. JSON is YAML here.
//
// Target structs use the tag `yaml:"name"` on each field. Special field types:
//
//	Pos      filled with where the struct began
//	Refused  a field that is known but not supported yet: using it is an error that names it
//	Ignored  a field that is known and says nothing about a decision (status, managedFields)
//	Plain    a single value of any kind as it is written; a missing one is ""
//	Open     an unnamed marker: unknown keys are allowed here, except near-misses
//	         of known keys in another case
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits of one file.
const (
	MaxSize      = 4 << 20 // bytes
	MaxDocuments = 1000
	MaxDepth     = 64
	maxNodes     = 200_000
)

// Pos is where something stands in a file.
type Pos struct {
	File string
	Line int
	Path string // "spec.images[0].glob", "" for the document
}

func (p Pos) String() string {
	s := p.File + ":" + strconv.Itoa(p.Line)
	if p.Path != "" {
		s += ": " + p.Path
	}
	return s
}

// Errorf is an error at p: "file:line: path: text".
func (p Pos) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
}

// Refused marks a field that other software reads and we do not support yet.
type Refused struct{}

// Ignored marks a field whose content decides nothing.
type Ignored struct{}

// Open marks a struct that allows unknown keys.
type Open struct{}

// Scalar is a string with its place, which can be changed in the document.
type Scalar struct {
	Value string
	Pos   Pos
	node  *yaml.Node
}

// Set changes the value in the document that the scalar was read from.
func (s *Scalar) Set(value string) {
	s.Value = value
	if s.node != nil {
		s.node.Value, s.node.Tag, s.node.Style = value, "!!str", 0
	}
}

// Plain is a single value, whatever YAML takes it for: true, 7 and "x" are text.
// Formats read it where a value comes from a place that has only text.
type Plain struct {
	Value string
	Pos   Pos
}

// Document is one YAML document.
type Document struct {
	Pos  Pos
	root *yaml.Node
}

// Documents reads all documents of a file. Empty documents are left out.
func Documents(file string, data []byte) ([]*Document, error) {
	return documents(&checker{file: file}, data)
}

// DocumentsWithAliases is [Documents] for formats whose files are known to name
// single values: an alias of one is read as that value. Those of mappings and
// lists stay refused, so that no file means more than its length.
func DocumentsWithAliases(file string, data []byte) ([]*Document, error) {
	return documents(&checker{file: file, aliases: true}, data)
}

func documents(c *checker, data []byte) ([]*Document, error) {
	file := c.file
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes; at most %d are read", file, len(data), MaxSize)
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("%s: not a text file", file)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs []*Document
	for {
		var n yaml.Node
		err := decode(dec, &n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, yamlError(file, err)
		}
		if len(n.Content) == 0 || isNull(n.Content[0]) {
			continue
		}
		root := n.Content[0]
		if err := c.check(root, "", 0); err != nil {
			return nil, err
		}
		if len(docs) == MaxDocuments {
			return nil, fmt.Errorf("%s: more than %d documents", file, MaxDocuments)
		}
		docs = append(docs, &Document{Pos: Pos{File: file, Line: root.Line}, root: root})
	}
}

// decode keeps a panic of the YAML library (it had some) from taking us down:
// input that makes it panic is input that we refuse.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not YAML: %v", r)
		}
	}()
	return dec.Decode(n)
}

// yamlError puts the library's "yaml: line 3: text" into our form.
func yamlError(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: not YAML: %s", file, m[1], m[2])
	}
	return fmt.Errorf("%s: not YAML: %s", file, text)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// checker refuses what makes YAML mean more than it says.
type checker struct {
	file    string
	nodes   int
	aliases bool // of single values are replaced by them
}

// resolve puts the value in the place of its alias.
func (c *checker) resolve(n *yaml.Node) {
	if !c.aliases {
		return
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil && n.Alias.Kind == yaml.ScalarNode {
		line := n.Line
		*n = *n.Alias
		n.Line = line
	}
	if n.Kind == yaml.ScalarNode {
		n.Anchor = ""
	}
}

func (c *checker) check(n *yaml.Node, path string, depth int) error {
	c.resolve(n)
	at := Pos{File: c.file, Line: n.Line, Path: path}
	c.nodes++
	switch {
	case c.nodes > maxNodes:
		return at.Errorf("more than %d values in one file", maxNodes)
	case depth > MaxDepth:
		return at.Errorf("nested deeper than %d levels", MaxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return at.Errorf("anchors and aliases are refused; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		return at.Errorf("the tag %s is refused; write a plain value", n.Tag)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.checkMap(n, path, depth)
	case yaml.SequenceNode:
		for i, e := range n.Content {
			if err := c.check(e, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) checkMap(n *yaml.Node, path string, depth int) error {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		c.resolve(k)
		at := Pos{File: c.file, Line: k.Line, Path: join(path, k.Value)}
		switch {
		case k.Kind != yaml.ScalarNode || k.Anchor != "":
			return at.Errorf("a key must be plain text")
		case k.ShortTag() == "!!merge":
			return at.Errorf("merge keys (<<) are refused; write the fields out")
		case k.ShortTag() != "!!str":
			return at.Errorf("the key %s is not a string; quote it", clip(k.Value))
		}
		if first, ok := seen[k.Value]; ok {
			return at.Errorf("given twice; the first is in line %d", first)
		}
		seen[k.Value] = k.Line
		if err := c.check(v, join(path, k.Value), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func join(path, key string) string {
	key = clip(key)
	switch {
	case strings.ContainsAny(key, ". []"):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Encode writes the document back, with what was changed through a Scalar and
// with its comments. The written text is read again and compared, because the
// YAML library has spellings that it does not write back as it read them: those
// are an error, never another document.
func (d *Document) Encode(w io.Writer) error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(d.root); err != nil {
		return err
	}
	if err := e.Close(); err != nil {
		return err
	}
	var again yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &again); err != nil || len(again.Content) != 1 || !same(d.root, again.Content[0]) {
		return d.Pos.Errorf("this document is spelled in a way that cannot be written back unchanged")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// same reports whether two nodes mean the same.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind == yaml.ScalarNode && a.Value != b.Value && !isNull(a) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// Decode fills the struct that v points to.
func (d *Document) Decode(v any) error {
	r := reader{file: d.Pos.File}
	return r.value(d.root, reflect.ValueOf(v).Elem(), d.Pos.Path)
}

// Items are the elements of the document's list key, each as a document of its
// own that shares the text: what is changed in one is changed in the whole.
func (d *Document) Items(key string) ([]*Document, error) {
	if d.root.Kind != yaml.MappingNode {
		return nil, d.Pos.Errorf("must be a mapping, is %s", kindName(d.root))
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if d.root.Content[i].Value != key {
			continue
		}
		list := d.root.Content[i+1]
		at := Pos{File: d.Pos.File, Line: list.Line, Path: join(d.Pos.Path, key)}
		if list.Kind != yaml.SequenceNode {
			return nil, at.Errorf("must be a list, is %s", kindName(list))
		}
		out := make([]*Document, len(list.Content))
		for j, e := range list.Content {
			out[j] = &Document{Pos: Pos{File: at.File, Line: e.Line, Path: at.Path + "[" + strconv.Itoa(j) + "]"}, root: e}
		}
		return out, nil
	}
	return nil, d.Pos.Errorf("%s is missing", key)
}
