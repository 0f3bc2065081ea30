package sourcepolicy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// filled is a value of a type with something in each member, two levels of materials
// deep.
func filled(t reflect.Type, depth int) reflect.Value {
	v := reflect.New(t).Elem()
	switch t {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))))
		return v
	case reflect.TypeFor[json.RawMessage]():
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":[1,null,"x"]}`)))
		return v
	}
	switch t.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(t.Elem()))
			v.Elem().Set(filled(t.Elem(), depth))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(reflect.ValueOf("key"), filled(t.Elem(), depth))
	case reflect.Slice:
		if t.Elem() == reflect.TypeFor[Input]() {
			depth--
		}
		if depth > 0 {
			v.Set(reflect.Append(v, filled(t.Elem(), depth)))
		}
	case reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(filled(t.Field(i).Type, depth))
		}
	}
	return v
}

// generic is a value in encoding/json's own types.
func generic(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDocumentIsJSON: policies see what encoding/json would write.
func TestDocumentIsJSON(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]Input{"empty": {}, "full": filled(reflect.TypeFor[Input](), 3).Interface().(Input)} {
		if diff := cmp.Diff(generic(t, in), generic(t, toJSON(reflect.ValueOf(in)))); diff != "" {
			t.Errorf("%s: encoding/json (-), the document (+):\n%s", name, diff)
		}
	}
}

// TestSchemaIsTheInput: the schema has each member, closed, and nothing else.
func TestSchemaIsTheInput(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema, "$schema")
	delete(schema, "title")
	in := filled(reflect.TypeFor[Input](), 3).Interface().(Input)
	checkSchema(t, "input", schema, generic(t, in))
}

func checkSchema(t *testing.T, path string, schema map[string]any, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		properties, closed := schema["properties"].(map[string]any)
		if !closed {
			return // a map with any names
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s is open", path)
		}
		for name, inner := range v {
			s, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s.%s is not in the schema", path, name)
				continue
			}
			checkSchema(t, path+"."+name, s, inner)
		}
		_, deeper := v["materials"]
		if last := properties["materials"] != nil && !deeper; len(properties) != len(v) && !last {
			t.Errorf("%s has %d members, the schema %d", path, len(v), len(properties))
		}
	case []any:
		if items, ok := schema["items"].(map[string]any); ok {
			for _, e := range v {
				checkSchema(t, path+"[]", items, e)
			}
		}
	}
}

// TestFactsCoverTheInput: each member that is no part of a name has its fact.
func TestFactsCoverTheInput(t *testing.T) {
	t.Parallel()
	byName := map[string]string{
		"image": "ref host repo fullRepo tag platform os arch variant isCanonical locked moved",
		"git":   "schema host remote fullURL subDir isCommitRef locked moved", "http": "url schema host path query hasAuth locked moved",
	}
	for kind, t0 := range map[string]reflect.Type{"image": reflect.TypeFor[Image](), "git": reflect.TypeFor[Git](), "http": reflect.TypeFor[HTTP]()} {
		have := map[string]bool{}
		for _, m := range strings.Fields(byName[kind]) {
			have[m] = true
		}
		for _, f := range factsOf[kind] {
			for _, m := range f.members {
				if have[m] {
					t.Errorf("%s.%s has two origins", kind, m)
				}
				have[m] = true
			}
		}
		for _, f := range fieldsOf(t0) {
			if !have[f.name] {
				t.Errorf("%s.%s can be unknown and no fact decides it", kind, f.name)
			}
			delete(have, f.name)
		}
		for m := range have {
			t.Errorf("%s has no member %s", kind, m)
		}
	}
}

// TestSteps: the caller of Step finds out itself what is wanted, and may say more.
func TestSteps(t *testing.T) {
	t.Parallel()
	p, err := Compile([]File{{Name: "p.rego", Data: []byte("package docker\ndecision := {\"allow\": allow}\nallow if {\n\tinput.image.user == \"app\"\n\tsome m in input.image.provenance.materials\n\tm.image.user == \"base\"\n}")}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := NewSet(p).Begin(Request{Source: Source{Identifier: "docker-image://docker.io/org/app:1", Platform: "linux/amd64"}})
	var wanted []string
	for range 10 {
		d, wants, err := e.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(wants) == 0 {
			if !d.Allowed || len(d.Input.Image.Provenance.Materials) != 1 || d.Input.Image.Provenance.Materials[0].Image.User != "base" {
				t.Errorf("%+v", d)
			}
			if want := "image.config true, image.config false"; strings.Join(wanted, ", ") != want {
				t.Errorf("wanted %v, want %s", wanted, want)
			}
			return
		}
		for _, w := range wants {
			user := "base"
			if w.Root {
				user = "app"
			}
			for _, a := range w.Asks {
				wanted = append(wanted, string(a.Fact)+map[bool]string{true: " true", false: " false"}[w.Root])
			}
			e.Learn(w, Facts{Config: &ImageConfiguration{User: user}, Provenance: &ProvenanceFact{PredicateType: PredicateSLSA1,
				Predicate: []byte(`{"buildDefinition":{"buildType":"t","resolvedDependencies":[{"uri":"pkg:docker/base@1"}]}}`)}}, nil)
		}
	}
	t.Error("no end")
}

// FuzzPolicy: a policy compiles or is refused with a reason, and one that compiles
// decides within its time, about every kind of source.
func FuzzPolicy(f *testing.F) {
	f.Add("package docker\ndecision := {\"allow\": input.image.repo == \"alpine\"}")
	f.Add("package docker\nimport data.lib\ndecision := {\"allow\": count(deny) == 0}\ndeny contains \"x\" if some m in input.image.provenance.materials")
	f.Add("package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\nx if pin_image(input.image, \"sha256:12\")")
	f.Add(string(defaultPolicy))
	sources := []Source{{Identifier: "docker-image://docker.io/library/alpine:3"}, {Identifier: "git://example.org/a.git#v1"}, {Identifier: "https://example.org/a"}, {Identifier: "local://context"}}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile([]File{{Name: "p.rego", Data: []byte(text)}}, Options{Timeout: 300 * time.Millisecond})
		if err != nil {
			if _, ok := err.(*rego.CompileError); !ok {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		for _, src := range sources {
			d, err := NewSet(p).Evaluate(t.Context(), Request{Source: src})
			if err != nil || !d.Allowed && len(d.Reasons) == 0 {
				t.Error(d, err)
			}
		}
	})
}

// FuzzIdentifier: a source is read or refused, and what is read can be pinned or not,
// shown and read again.
func FuzzIdentifier(f *testing.F) {
	for _, id := range []string{"docker-image://alpine:3", "git://github.com/o/r.git#refs/tags/v1:dir", "https://u:p@example.org/a?b=c", "local://context", "git@github.com:o/r.git#x", "alpine@sha256:12"} {
		f.Add(id, id)
	}
	f.Fuzz(func(t *testing.T, id, full string) {
		src := Source{Identifier: id, Attrs: map[string]string{AttrFullRemoteURL: full}}
		if in, err := SourceToInput(src); err == nil {
			if (in.Image != nil) != src.IsImage() {
				t.Errorf("%q is an image and is none", id)
			}
			_ = src.shown()
			if p, err := src.Pin("sha256:1111111111111111111111111111111111111111111111111111111111111111"); err == nil {
				if _, err := SourceToInput(p); err != nil {
					t.Errorf("%q pinned is %q: %v", id, p.Identifier, err)
				}
			}
		}
		if parsed, err := ParseSource(id); err == nil {
			if _, err := SourceToInput(parsed); err != nil {
				t.Errorf("%q is read as %q: %v", id, parsed.Identifier, err)
			}
		}
	})
}

// FuzzProvenance: a predicate is read or refused, and so is each of its materials.
func FuzzProvenance(f *testing.F) {
	f.Add(true, []byte(`{"buildDefinition":{"buildType":"b","resolvedDependencies":[{"uri":"pkg:docker/a@1?platform=linux%2Famd64","digest":{"sha256":"12"}}]}}`))
	f.Add(false, []byte(`{"buildType":"b","materials":[{"uri":"https://example.org/a.git#x"},{"uri":"git@example.org:a"}],"metadata":{"completeness":{}}}`))
	f.Fuzz(func(_ *testing.T, v1 bool, data []byte) {
		fact := &ProvenanceFact{PredicateType: PredicateSLSA02, Predicate: data}
		if v1 {
			fact.PredicateType = PredicateSLSA1
		}
		_, materials, err := parseProvenance(fact)
		if err != nil {
			return
		}
		for _, m := range materials {
			if src, err := m.source("linux/amd64"); err == nil {
				_, _ = SourceToInput(src)
			}
		}
	})
}
