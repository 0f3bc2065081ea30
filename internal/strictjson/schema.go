package strictjson

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// options are what a json tag says besides the name.
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
		for _, o := range parts[1:] {
			switch v, isMax := strings.CutPrefix(o, "max="); {
			case isMax:
				f.max, _ = strconv.Atoi(v)
			case o == "string":
				f.str = true
			case o == "enum":
				f.enum = true
			case o == "required":
				s.required |= 1 << n
			}
		}
		s.fields = append(s.fields, f)
		s.byName[f.name] = n
		s.bySnake[snake(f.name)] = n
	}
	schemas.Store(t, s)
	return s, nil
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
