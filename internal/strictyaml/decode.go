package strictyaml

import (
	"reflect"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader fills Go values from a document that checker has passed.
type reader struct {
	file string
}

func (r *reader) at(n *yaml.Node, path string) Pos {
	return Pos{File: r.file, Line: n.Line, Path: path}
}

func (r *reader) value(n *yaml.Node, v reflect.Value, path string) error {
	at := r.at(n, path)
	switch v.Interface().(type) {
	case Refused:
		return at.Errorf("this field is not supported yet; it is never ignored")
	case Ignored:
		return nil
	case Plain:
		if n.Kind != yaml.ScalarNode {
			return at.Errorf("must be one value, is %s", kindName(n))
		}
		text := n.Value
		if isNull(n) {
			text = ""
		}
		v.Set(reflect.ValueOf(Plain{Value: text, Pos: at}))
		return nil
	case Scalar:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			return at.Errorf("must be a string%s", quoteHint(n))
		}
		v.Set(reflect.ValueOf(Scalar{Value: n.Value, Pos: at, node: n}))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if isNull(n) {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return r.value(n, v.Elem(), path)
	case reflect.Struct:
		return r.object(n, v, path)
	case reflect.Slice:
		return r.list(n, v, path)
	case reflect.Map:
		return r.strings(n, v, path)
	}
	return r.scalar(n, v, at)
}

func (r *reader) scalar(n *yaml.Node, v reflect.Value, at Pos) error {
	if n.Kind != yaml.ScalarNode {
		return at.Errorf("must be one value, is %s", kindName(n))
	}
	switch v.Kind() {
	case reflect.String:
		if n.ShortTag() != "!!str" {
			return at.Errorf("must be a string%s", quoteHint(n))
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			return at.Errorf("must be true or false")
		}
		v.SetBool(n.Value == "true" || n.Value == "True" || n.Value == "TRUE")
	case reflect.Int64, reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.ShortTag() != "!!int" || err != nil {
			return at.Errorf("must be a whole number")
		}
		v.SetInt(i)
	default:
		return at.Errorf("cannot be read into a %s", v.Type())
	}
	return nil
}

// quoteHint helps with values that YAML reads as something else than text.
func quoteHint(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		return "; quote it: " + strconv.Quote(clip(n.Value))
	}
	return ", is " + kindName(n)
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "empty"
	}
	return "a single value"
}

func (r *reader) list(n *yaml.Node, v reflect.Value, path string) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return r.at(n, path).Errorf("must be a list, is %s", kindName(n))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		if err := r.value(e, v.Index(i), path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

// strings reads a map[string]string.
func (r *reader) strings(n *yaml.Node, v reflect.Value, path string) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return r.at(n, path).Errorf("must be a mapping, is %s", kindName(n))
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Content)/2))
	for i := 0; i+1 < len(n.Content); i += 2 {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := r.value(n.Content[i+1], e, join(path, n.Content[i].Value)); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(n.Content[i].Value), e)
	}
	return nil
}

// fields is the shape of a struct: its named fields and its markers.
type fields struct {
	byName map[string]int
	pos    int // index of the Pos field, -1 without
	open   bool
}

func shape(t reflect.Type) fields {
	f := fields{byName: make(map[string]int, t.NumField()), pos: -1}
	for i := range t.NumField() {
		switch t.Field(i).Type {
		case reflect.TypeFor[Pos]():
			f.pos = i
			continue
		case reflect.TypeFor[Open]():
			f.open = true
			continue
		}
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			f.byName[name] = i
		}
	}
	return f
}

func (r *reader) object(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.MappingNode {
		return r.at(n, path).Errorf("must be a mapping, is %s", kindName(n))
	}
	f := shape(v.Type())
	if f.pos >= 0 {
		v.Field(f.pos).Set(reflect.ValueOf(r.at(n, path)))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, e := n.Content[i], n.Content[i+1]
		index, known := f.byName[k.Value]
		if !known {
			if near := f.near(k.Value); near != "" {
				return r.at(k, join(path, k.Value)).Errorf("unknown field; it is spelled %s", near)
			}
			if f.open {
				continue
			}
			return r.at(k, join(path, k.Value)).Errorf("unknown field; known here: %s", f.names())
		}
		if err := r.value(e, v.Field(index), join(path, k.Value)); err != nil {
			return err
		}
	}
	return nil
}

// near is the known field that differs from key only in case.
func (f fields) near(key string) string {
	for name := range f.byName {
		if strings.EqualFold(name, key) {
			return name
		}
	}
	return ""
}

func (f fields) names() string {
	all := make([]string, 0, len(f.byName))
	for name := range f.byName {
		all = append(all, name)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}
