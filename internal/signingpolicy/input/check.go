package input

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// CodeIncomplete is the code of what [Check] finds.
const CodeIncomplete = "INPUT_INCOMPLETE"

// MaxDocument is the largest document that is read, in bytes.
const MaxDocument = 4 << 20

// maxReasons bounds what is said about one document.
const maxReasons = 20

// Check names what a document lacks or has of another kind than it must: the policy is
// not evaluated then. Each reason has code INPUT_INCOMPLETE and the path as its subject,
// such as input.git.checksum.
func Check(d *Document) []policy.Reason {
	_, reasons := d.Value()
	return reasons
}

// Value is the document as decoded JSON, with numbers as json.Number, which is exactly
// what the rules see; and what [Check] has against it.
func (d *Document) Value() (map[string]any, []policy.Reason) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, []policy.Reason{{Code: CodeIncomplete, Message: fmt.Sprintf("the input cannot be written down: %v", err), Subject: "input"}}
	}
	var value map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, []policy.Reason{{Code: CodeIncomplete, Message: fmt.Sprintf("the input cannot be read back: %v", err), Subject: "input"}}
	}
	return value, checkValue(value)
}

// Parse reads a document that was kept, such as that of a verdict. Unknown and duplicate
// members and anything after the value are errors; what is missing is a reason.
func Parse(data []byte) (*Document, []policy.Reason, error) {
	if len(data) > MaxDocument {
		return nil, nil, fmt.Errorf("an input document of %d bytes; at most %d", len(data), MaxDocument)
	}
	d := &Document{}
	if err := strictjson.Unmarshal(data, d); err != nil {
		return nil, nil, fmt.Errorf("input document: %w", err)
	}
	var value map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, nil, fmt.Errorf("input document: %w", err)
	}
	return d, checkValue(value), nil
}

func checkValue(value map[string]any) []policy.Reason {
	c := &check{}
	c.object("input", reflect.TypeFor[Document](), value)
	if len(c.reasons) == 0 {
		c.whole(value)
	}
	return c.reasons
}

type check struct{ reasons []policy.Reason }

func (c *check) add(path, format string, args ...any) {
	if len(c.reasons) < maxReasons {
		c.reasons = append(c.reasons, policy.Reason{
			Code: CodeIncomplete, Subject: path,
			Message: path + " " + fmt.Sprintf(format, args...) + "; the policy is not evaluated without it",
		})
	}
}

func (c *check) object(path string, t reflect.Type, value map[string]any) {
	for i, f := range fields(t) {
		at := path + "." + f.name
		v, there := value[f.name]
		switch {
		case !there && f.optional:
		case !there:
			c.add(at, "is missing")
		case v == nil && f.nullable:
		default:
			c.value(at, t.Field(i).Type, f.is, v)
		}
	}
}

func (c *check) value(path string, t reflect.Type, is string, v any) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil {
		c.add(path, "is null")
		return
	}
	switch t.Kind() {
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			c.add(path, "is not a text")
		} else if want := wrong(is, s); want != "" {
			c.add(path, "is %.100q and must be %s", s, want)
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			c.add(path, "is not true or false")
		}
	case reflect.Int:
		n, ok := v.(json.Number)
		if _, err := n.Int64(); !ok || err != nil {
			c.add(path, "is not a whole number")
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			c.add(path, "is not a list")
		}
		for i, e := range list {
			c.value(fmt.Sprintf("%s[%d]", path, i), t.Elem(), is, e)
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			c.add(path, "is not an object")
		}
		for k, e := range m {
			c.value(path+"."+k, t.Elem(), is, e)
		}
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			c.object(path, t, m)
		} else {
			c.add(path, "is not an object")
		}
	}
}

// wrong is what a text must be and is not, "" when it is.
func wrong(is, s string) string {
	ok, want := true, ""
	switch is {
	case "":
	case "text":
		ok, want = s != "", "a text that is not empty"
	case "time":
		_, err := Time(s).Time()
		ok, want = err == nil, "a time such as 2026-11-20T09:30:00Z"
	case "object":
		ok, want = (len(s) == 40 || len(s) == 64) && isHex(s), "an object id of git"
	case "digest":
		d, is := strings.CutPrefix(s, "sha256:")
		ok, want = is && len(d) == 64 && isHex(d), "a digest such as sha256:…"
	case "id":
		ok = s == Local || s != "" && s[0] != '0' && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
		want = "a decimal number, or " + Local
	default:
		ok, want = slices.Contains(words(is), s), strings.Join(words(is), " or ")
	}
	if ok {
		return ""
	}
	return want
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// whole is what no single member shows.
func (c *check) whole(value map[string]any) {
	source, _ := value["source"].(map[string]any)
	git, _ := value["git"].(map[string]any)
	if source["provider"] != Local || source["id"] != Local {
		for _, name := range []string{"ownerID", "name", "uri", "visibility", "defaultBranch"} {
			if source[name] == "" {
				c.add("input.source."+name, "is empty")
			}
		}
		if source["provider"] == Local || source["id"] == Local {
			c.add("input.source.id", "and input.source.provider are both %q, or neither is", Local)
		}
		run, _ := value["run"].(map[string]any)
		for _, name := range []string{"id", "attempt", "event", "actor", "actorID", "workflow", "headSHA"} {
			if run[name] == nil {
				c.add("input.run."+name, "is null, and the source is not %q", Local)
			}
		}
	}
	if _, tagged := git["tag"]; tagged != (git["isAnnotatedTag"] == true) {
		c.add("input.git.tag", "and input.git.isAnnotatedTag contradict each other")
	}
	if ref, _ := git["ref"].(string); !strings.HasPrefix(ref, "refs/") && wrong("object", ref) != "" {
		c.add("input.git.ref", "is %.100q and must be a full ref, such as refs/tags/v1.4.0", ref)
	}
}
