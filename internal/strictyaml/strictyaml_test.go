package strictyaml_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

type policy struct {
	Name     string             `yaml:"name"`
	Mode     *string            `yaml:"mode"`
	On       bool               `yaml:"on"`
	Count    int64              `yaml:"count"`
	Labels   map[string]string  `yaml:"labels"`
	Items    []item             `yaml:"items"`
	Match    strictyaml.Refused `yaml:"match"`
	Status   strictyaml.Ignored `yaml:"status"`
	Spec     spec               `yaml:"spec"`
	Image    strictyaml.Scalar  `yaml:"image"`
	Position strictyaml.Pos
}

type item struct {
	Glob string `yaml:"glob"`
	Pos  strictyaml.Pos
}

type spec struct {
	Containers []item `yaml:"containers"`
	Open       strictyaml.Open
}

func read(t *testing.T, text string) (policy, error) {
	t.Helper()
	docs, err := strictyaml.Documents("p.yaml", []byte(text))
	if err != nil {
		return policy{}, err
	}
	if len(docs) != 1 {
		t.Fatalf("%d documents", len(docs))
	}
	var p policy
	return p, docs[0].Decode(&p)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	docs, err := strictyaml.Documents("p.yaml", []byte(`# a comment
---
---
name: "1.0"
on: true
count: 3
labels: {a: b}
status: {anything: [1]}
items:
- glob: x
spec: {containers: [{glob: y}], nodeName: z}
image: busybox
`))
	if err != nil || len(docs) != 1 {
		t.Fatal(len(docs), err)
	}
	var p policy
	if err := docs[0].Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Name != "1.0" || !p.On || p.Count != 3 || p.Labels["a"] != "b" || p.Spec.Containers[0].Glob != "y" {
		t.Errorf("%+v", p)
	}
	want := strictyaml.Pos{File: "p.yaml", Line: 10, Path: "items[0]"}
	if d := cmp.Diff(want, p.Items[0].Pos); d != "" {
		t.Error(d)
	}
	p.Image.Set("busybox@sha256:00")
	var b bytes.Buffer
	if err := docs[0].Encode(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\nimage: busybox@sha256:00\n") {
		t.Errorf("encoded:\n%s", b.String())
	}
}

func TestPlainIsTextAsWritten(t *testing.T) {
	t.Parallel()
	docs, err := strictyaml.Documents("p.yaml", []byte("a: true\nb: 1.50\nc: \"x\"\nd:\ne: 2026-01-01\n"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]strictyaml.Plain
	if err := docs[0].Decode(&m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "true", "b": "1.50", "c": "x", "d": "", "e": "2026-01-01"} {
		if m[name].Value != want {
			t.Errorf("%s: %q, want %q", name, m[name].Value, want)
		}
	}
	if m["c"].Pos.Line != 3 {
		t.Errorf("%+v", m["c"])
	}
	for _, text := range []string{"a: [x]\n", "a: {x: y}\n"} {
		docs, err := strictyaml.Documents("p.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := docs[0].Decode(&m); err == nil || !strings.Contains(err.Error(), "must be one value") {
			t.Error(text, err)
		}
	}
}

// TestRefused are the near-misses of what TestDecode accepts.
func TestRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":     {"name: a\nnmae: b\n", "p.yaml:2: nmae: unknown field"},
		"other case":        {"Name: a\n", "it is spelled name"},
		"case in open":      {"spec: {Containers: []}\n", "p.yaml:1: spec.Containers: unknown field; it is spelled containers"},
		"duplicate":         {"name: a\nname: b\n", "p.yaml:2: name: given twice; the first is in line 1"},
		"duplicate ignored": {"status: {a: 1, a: 2}\n", "status.a: given twice"},
		"refused":           {"match: []\n", "p.yaml:1: match: this field is not supported yet"},
		"nested unknown":    {"items:\n- glob: a\n- globb: b\n", "p.yaml:3: items[1].globb: unknown field"},
		"anchor":            {"name: &a x\n", "anchors and aliases"},
		"alias":             {"labels: {a: &x y, b: *x}\n", "anchors and aliases"},
		"merge":             {"<<: {name: a}\n", "merge keys"},
		"tag":               {"name: !!str 1\n", "tag"},
		"own tag":           {"name: !secret x\n", "tag"},
		"number":            {"name: 1.0\n", `quote it: "1.0"`},
		"bool text":         {"name: true\n", "must be a string"},
		"null text":         {"name:\n", "must be a string, is empty"},
		"list for text":     {"name: [a]\n", "must be one value, is a list"},
		"text for list":     {"items: a\n", "must be a list"},
		"text for struct":   {"spec: a\n", "must be a mapping"},
		"yes":               {"on: yes\n", "must be true or false"},
		"float":             {"count: 1.5\n", "whole number"},
		"number key":        {"1: a\n", "not a string"},
		"deep":              {"status: " + deep + "\n", "nested deeper"},
		"no yaml":           {"a: b: c\n", "not YAML: mapping values"},
		"binary":            {"name: \x00\n", "not a text file"},
		"latin-1":           {"name: \xe9\n", "not a text file"},
		"tab":               {"name: a\n\tmode: b\n", "not YAML"},
		"list at top":       {"- a\n", "must be a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestItems(t *testing.T) {
	t.Parallel()
	docs, err := strictyaml.Documents("p.yaml", []byte("items:\n- {name: a}\n- {name: b, x: y}\n"))
	if err != nil {
		t.Fatal(err)
	}
	items, err := docs[0].Items("items")
	if err != nil || len(items) != 2 {
		t.Fatal(len(items), err)
	}
	var p policy
	if err := items[0].Decode(&p); err != nil || p.Name != "a" {
		t.Error(p, err)
	}
	if err := items[1].Decode(&p); err == nil || !strings.HasPrefix(err.Error(), "p.yaml:3: items[1].x: unknown field") {
		t.Error(err)
	}
	for _, key := range []string{"nothing", "name"} {
		if _, err := items[0].Items(key); err == nil {
			t.Errorf("the list %s was found", key)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		strings.Repeat("#", strictyaml.MaxSize+1),
		strings.Repeat("---\na: b\n", strictyaml.MaxDocuments+1),
		"status: [" + strings.Repeat("1,", 200_001) + "1]\n",
	} {
		if _, err := strictyaml.Documents("f", []byte(data)); err == nil {
			t.Errorf("%.20q… was accepted", data)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte("name: a\nspec: {containers: [{glob: x}]}\n---\nimage: b\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("{\"name\": \"x\"}"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := strictyaml.Documents("f", data)
		if err != nil {
			return
		}
		for _, d := range docs {
			var p policy
			if d.Decode(&p) != nil {
				continue
			}
			// What is written back means the same, or is refused.
			var b bytes.Buffer
			if d.Encode(&b) != nil {
				continue
			}
			again, err := strictyaml.Documents("f", b.Bytes())
			if err != nil || len(again) != 1 {
				t.Fatalf("%q was read, written as %q, and is now refused: %v", data, b.Bytes(), err)
			}
			var q policy
			if err := again[0].Decode(&q); err != nil {
				t.Fatal(err)
			}
			if p.Name != q.Name || p.Image.Value != q.Image.Value || len(p.Items) != len(q.Items) {
				t.Fatalf("%+v became %+v", p, q)
			}
		}
	})
}
