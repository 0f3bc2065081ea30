package oracle_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// node is a JSON value whose order, duplicates and spelling can be chosen.
type node struct {
	members  []member
	elements []*node
	literal  string // of everything that is neither object nor array, as it is written
	kind     byte   // '{', '[' or 0
}

type member struct {
	name  string
	value *node
}

func parseNode(t testing.TB, data []byte) *node {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readNode(d *json.Decoder) (*node, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Delim:
		n := &node{kind: byte(v)}
		for d.More() {
			var name json.Token
			if v == '{' {
				if name, err = d.Token(); err != nil {
					return nil, err
				}
			}
			child, err := readNode(d)
			if err != nil {
				return nil, err
			}
			if v == '{' {
				n.members = append(n.members, member{name.(string), child})
			} else {
				n.elements = append(n.elements, child)
			}
		}
		_, err = d.Token()
		return n, err
	case string:
		return text(v), nil
	}
	return &node{literal: fmt.Sprint(tok)}, nil
}

func text(s string) *node {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return &node{literal: string(b)}
}

func (n *node) write(b *strings.Builder) {
	switch n.kind {
	case '{':
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(text(m.name).literal)
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, e := range n.elements {
			if i > 0 {
				b.WriteByte(',')
			}
			e.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(n.literal)
	}
}

func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) clone() *node {
	c := &node{literal: n.literal, kind: n.kind}
	for _, m := range n.members {
		c.members = append(c.members, member{m.name, m.value.clone()})
	}
	for _, e := range n.elements {
		c.elements = append(c.elements, e.clone())
	}
	return c
}

// str is a string's value, "" for anything else.
func (n *node) str() string {
	var s string
	if n.kind == 0 && strings.HasPrefix(n.literal, `"`) {
		_ = json.Unmarshal([]byte(n.literal), &s)
	}
	return s
}

// walk calls visit at each value below n with its path.
func (n *node) walk(path string, visit func(path string, n *node)) {
	visit(path, n)
	for _, m := range n.members {
		m.value.walk(path+"."+m.name, visit)
	}
	for i, e := range n.elements {
		e.walk(fmt.Sprintf("%s[%d]", path, i), visit)
	}
}

// at is the value at a path, nil when there is none.
func (n *node) at(path string) *node {
	var found *node
	n.walk("", func(p string, v *node) {
		if p == path && found == nil {
			found = v
		}
	})
	return found
}
