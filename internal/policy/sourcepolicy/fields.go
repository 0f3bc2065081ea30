package sourcepolicy

import (
	"reflect"
	"strings"
	"sync"
)

// field is a member of one of the input's types.
type field struct {
	index     int
	name      string
	omitEmpty bool
}

var fieldsByType sync.Map // reflect.Type → []field

// fieldsOf reads the JSON tags of a type, once.
func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldsByType.Load(t); ok {
		return f.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, field{index: i, name: name, omitEmpty: options == "omitempty"})
	}
	fieldsByType.Store(t, fields)
	return fields
}
