package strictjson

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// options are what the tags "json" and "strict" say besides the name.
type options struct {
	str, enum bool
	max       int
}

type field struct {
	name  string
	index int
	options
}

// schema is what a struct type says about an object.
type schema struct {
	fields          []field // at most 64: sets of them are bits of an uint64
	byName, bySnake map[string]int
	required        uint64
}

// schemas caches by reflect.Type: a pure function of the program's types.
var schemas sync.Map

func schemaOf(t reflect.Type) (*schema, error) {
	if s, ok := schemas.Load(t); ok {
		return s.(*schema), nil
	}
	s := &schema{byName: map[string]int{}, bySnake: map[string]int{}}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("json")
		if tag == "-" {
			continue
		}
		parts := strings.Split(tag, ",")
		if !ok || !sf.IsExported() || sf.Anonymous || parts[0] == "" || len(s.fields) == 64 {
			return nil, fmt.Errorf("strictjson: %s.%s needs a json tag with a name", t, sf.Name)
		}
		n := len(s.fields)
		f := field{name: parts[0], index: i}
		for _, option := range parts[1:] {
			if !slices.Contains([]string{"string", "omitempty", "omitzero"}, option) {
				return nil, fmt.Errorf("strictjson: %s.%s: tag json: unknown option %q", t, sf.Name, option)
			}
		}
		f.str = slices.Contains(parts[1:], "string")
		required, err := f.strict(sf.Tag.Get("strict"))
		if err != nil {
			return nil, fmt.Errorf("strictjson: %s.%s: %w", t, sf.Name, err)
		}
		if required {
			s.required |= 1 << n
		}
		s.fields = append(s.fields, f)
		s.byName[f.name] = n
		s.bySnake[snake(f.name)] = n
	}
	schemas.Store(t, s)
	return s, nil
}

// strict reads the tag "strict". A word that it does not know is an error: a
// misspelt "required" must not become a field that may be missing.
func (o *options) strict(tag string) (required bool, err error) {
	if tag == "" {
		return false, nil
	}
	for _, word := range strings.Split(tag, ",") {
		switch v, isMax := strings.CutPrefix(word, "max="); {
		case isMax:
			if o.max, err = strconv.Atoi(v); err != nil || o.max < 1 {
				return false, fmt.Errorf("tag strict: max=%q is not a positive number", v)
			}
		case word == "enum":
			o.enum = true
		case word == "required":
			required = true
		default:
			return false, fmt.Errorf("tag strict: unknown word %q", word)
		}
	}
	return required, nil
}

// snake turns lowerCamelCase into snake_case as protocol buffers do.
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
