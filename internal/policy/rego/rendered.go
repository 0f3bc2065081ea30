package rego

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"
)

// Bounds of what is made of a value's text. A value that holds another many times is
// small, and its text is not, so sizes are those of texts.
const (
	maxResult = 64 << 20 // bytes of the text of what a query finds
	maxParsed = 4 << 20  // bytes of a text that is read as JSON or YAML, as load_json's
	maxItems  = 1 << 20  // elements of a list
	maxNested = 10_000   // depth of a value
	perItem   = 16       // bytes beside an element: punctuation, and what it is converted to
)

// size adds up an upper bound of the length of a value's text in JSON or YAML. It
// stops at the limit, so that it costs no more than a text of that length.
type size struct {
	left   int // what is left of the limit; negative: the text may be longer
	prefix int // bytes before each line
	indent int // bytes before each line, for each level
}

// longer reports whether the text of a value may be longer than the limit. It reads
// what is lazy in it, as whoever makes the text does.
func longer(v ast.Value, limit int) bool {
	s := size{left: limit}
	s.value(v, 0)
	return s.left < 0
}

func (s *size) value(v ast.Value, depth int) {
	if depth > maxNested {
		s.left = -1
	}
	if s.left < 0 {
		return
	}
	line := s.prefix + s.indent*depth
	s.left -= perItem + line
	element := func(t *ast.Term) bool {
		s.value(t.Value, depth+1)
		return s.left < 0
	}
	switch v := v.(type) {
	case ast.String:
		s.text(string(v), line)
	case ast.Number:
		s.left -= len(v)
	case *ast.Array:
		v.Until(element)
	case ast.Set:
		v.Until(element)
	case ast.Object:
		v.Until(func(key, value *ast.Term) bool { return element(key) || element(value) })
	case ast.Ref:
		for _, t := range v {
			element(t)
		}
	}
}

// text counts six bytes (\u0000) for each that some format does not leave as it is.
func (s *size) text(text string, line int) {
	if s.left -= len(text); s.left < 0 {
		return
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\n':
			s.left -= 5 + line
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			s.left -= 5
		}
	}
}

// marshalBound is for functions that make a text of a value, with lines of their own.
func marshalBound(name string, args []ast.Value) error {
	s := size{left: maxText}
	if len(args) == 0 {
		return nil
	}
	switch name {
	case ast.YAMLMarshal.Name:
		s.indent = 4
	case ast.JSONMarshalWithOptions.Name:
		s.indent = 1
		if options, ok := args[1].(ast.Object); ok {
			options.Foreach(func(key, value *ast.Term) {
				text, _ := value.Value.(ast.String)
				if key.Equal(ast.StringTerm("prefix")) {
					s.prefix = len(text)
				} else {
					s.indent = max(s.indent, len(text))
				}
			})
		}
	}
	if s.value(args[0], 0); s.left < 0 {
		return exceeds(name, "a text that may have more bytes", maxText)
	}
	return nil
}

// encodeBound is for functions that make up to three bytes of each.
func encodeBound(name string, args []ast.Value) error {
	if text, _ := args[0].(ast.String); len(text) > maxText/3 {
		return exceeds(name, fmt.Sprintf("a string of up to %d bytes", 3*len(text)), maxText)
	}
	return nil
}

// linesBound is for print and template strings, which write each combination of the
// elements of sets.
func linesBound(name string, args []ast.Value) error {
	list, ok := args[0].(*ast.Array)
	if !ok {
		return nil
	}
	lines := 1
	list.Foreach(func(t *ast.Term) {
		if set, ok := t.Value.(ast.Set); ok && lines <= maxText {
			lines *= max(1, set.Len())
		}
	})
	if lines > maxText || longer(list, maxText/lines) {
		return exceeds(name, "a text that may have more bytes", maxText)
	}
	return nil
}

// parseBound is for functions that make a value of a text: a byte can become an element.
func parseBound(name string, args []ast.Value) error {
	text, _ := args[0].(ast.String)
	if len(text) > maxParsed {
		return exceeds(name, fmt.Sprintf("a text of %d bytes", len(text)), maxParsed)
	}
	return nil
}

// yamlBound refuses, beside long texts, those whose aliases stand for too much.
func yamlBound(name string, args []ast.Value) error {
	if err := parseBound(name, args); err != nil {
		return err
	}
	text, _ := args[0].(ast.String)
	if !strings.Contains(string(text), "*") {
		return nil
	}
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil {
		return nil // the function itself says what is wrong
	}
	left := maxText
	if expand(&doc, &left, 0); left < 0 {
		return exceeds(name, "aliases that stand for more bytes", maxText)
	}
	return nil
}

func expand(n *yaml.Node, left *int, depth int) {
	if depth > maxNested {
		*left = -1
	}
	if *left -= perItem + 6*len(n.Value); *left < 0 {
		return
	}
	if n.Alias != nil {
		expand(n.Alias, left, depth+1)
	}
	for _, c := range n.Content {
		expand(c, left, depth+1)
	}
}

// mergeBound is for functions that put collections together that a collection holds.
func mergeBound(name string, args []ast.Value) error {
	n := 0
	elements(args[0], func(t *ast.Term) bool {
		n++
		switch c := t.Value.(type) {
		case *ast.Array:
			n += c.Len()
		case ast.Set:
			n += c.Len()
		case ast.Object:
			n += c.Len()
		}
		return false
	})
	if n > maxItems {
		return exceeds(name, fmt.Sprintf("%d elements", n), maxItems)
	}
	return nil
}
