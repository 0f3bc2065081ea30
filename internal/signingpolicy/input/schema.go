package input

import (
	"reflect"
	"strings"
)

// Schema is the document as a closed JSON schema (draft 7), made of the structs.
func Schema() any { return schemaOf(reflect.TypeFor[Document](), field{}) }

// field is what a struct's field says of its member.
type field struct {
	name     string
	is       string
	optional bool // may be absent
	nullable bool // may be null
}

func fieldOf(f reflect.StructField) field {
	name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
	optional := rest == "omitempty"
	return field{name: name, is: f.Tag.Get("is"), optional: optional, nullable: !optional && f.Type.Kind() == reflect.Pointer}
}

// fields are the members of a struct.
func fields(t reflect.Type) []field {
	out := make([]field, t.NumField())
	for i := range out {
		out[i] = fieldOf(t.Field(i))
	}
	return out
}

func schemaOf(t reflect.Type, f field) any {
	if t.Kind() == reflect.Pointer {
		inner := schemaOf(t.Elem(), f)
		if f.nullable {
			return map[string]any{"anyOf": []any{inner, map[string]any{"type": "null"}}}
		}
		return inner
	}
	switch t.Kind() {
	case reflect.String:
		s := map[string]any{"type": "string"}
		if words := words(f.is); words != nil {
			var list []any
			for _, w := range words {
				list = append(list, w)
			}
			s["enum"] = list
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), field{})}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), field{is: f.is})}
	case reflect.Struct:
		members, required := map[string]any{}, []any{}
		for i, m := range fields(t) {
			members[m.name] = schemaOf(t.Field(i).Type, m)
			if !m.optional {
				required = append(required, m.name)
			}
		}
		return map[string]any{"type": "object", "properties": members, "required": required, "additionalProperties": false}
	}
	panic("the input document has a member of type " + t.String() + ", which the schema does not know")
}

// words are the texts that a member may be; nil when its tag is a kind of text.
func words(is string) []string {
	switch is {
	case "", "text", "time", "object", "digest", "id":
		return nil
	}
	return strings.Split(is, "|")
}

// Optional reports whether the member at a path, such as git.tag.signer, may be absent
// from a complete document. Elements of lists are not part of a path. What the document
// does not have at all may be absent.
func Optional(path []string) bool {
	f, absent := walk(path)
	return absent || f == nil
}

// Nullable reports whether the member at a path may be null.
func Nullable(path []string) bool {
	f, _ := walk(path)
	return f != nil && f.nullable
}

// walk finds the member at a path; absent when it or one above it may be. Nil without one.
func walk(path []string) (found *field, absent bool) {
	t := reflect.TypeFor[Document]()
	for i, name := range path {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map && i == len(path)-1 {
			return &field{name: name, optional: true}, true
		}
		if t.Kind() != reflect.Struct {
			return nil, absent
		}
		found = nil
		for n, m := range fields(t) {
			if m.name == name {
				found, t = &m, t.Field(n).Type
				break
			}
		}
		if found == nil {
			return nil, absent
		}
		absent = absent || found.optional
	}
	return found, absent
}
