package sourcepolicy

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"time"
)

// maxMaterialDepth is how deep materials of materials are followed, as in buildx.
const maxMaterialDepth = 24

// schemaDepth is how many levels of materials the compiler checks the names of;
// what lies deeper is checked by nobody, and undefined when it is not there.
const schemaDepth = 3

// inputSchema is the closed JSON schema of [Input], made of its types.
var inputSchema = sync.OnceValue(func() any { return schemaOf(reflect.TypeFor[Input](), schemaDepth) })

// Schema is the JSON schema (draft 4) of the input document. References of a policy
// to what it does not name are errors of the policy.
func Schema() []byte {
	schema, _ := inputSchema().(map[string]any)
	root := map[string]any{"$schema": "http://json-schema.org/draft-04/schema#", "title": "input of a source policy"}
	for k, v := range schema {
		root[k] = v
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps and strings
	}
	return append(data, '\n')
}

func schemaOf(t reflect.Type, materials int) any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), materials)
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Map:
		return map[string]any{"type": "object"}
	case reflect.Slice:
		if t.Elem() == reflect.TypeFor[Input]() {
			if materials == 0 {
				return map[string]any{"type": "array"}
			}
			materials--
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), materials)}
	case reflect.Struct:
		members := map[string]any{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			members[name] = schemaOf(t.Field(i).Type, materials)
		}
		return map[string]any{"type": "object", "properties": members, "additionalProperties": false}
	}
	panic("Input has a member of type " + t.String() + ", which the schema does not know")
}
