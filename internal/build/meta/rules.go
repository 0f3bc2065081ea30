package meta

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// rule is one line of meta-tags.
type rule struct {
	line
	kind     string
	attrs    map[string]string
	priority int
	pattern  userPattern // of match rules, and of the attribute match
	group    int         // of match rules
}

// kindRules says what a kind of rule has beside enable, priority, prefix and suffix.
type kindRules struct {
	priority int
	attrs    []string
	required string
	defaults map[string]string
}

var commonAttrs = []string{"enable", "priority", "prefix", "suffix", "type"}

var kinds = map[string]kindRules{
	"schedule": {1000, []string{"pattern"}, "", map[string]string{"pattern": "nightly"}},
	"semver":   {900, []string{"pattern", "value", "match"}, "pattern", nil},
	"pep440":   {900, []string{"pattern", "value", "match"}, "pattern", nil},
	"match":    {800, []string{"pattern", "group", "value"}, "pattern", map[string]string{"group": "0"}},
	"edge":     {700, []string{"branch"}, "", nil},
	"ref":      {600, []string{"event"}, "event", nil},
	"raw":      {200, []string{"value"}, "value", nil},
	"sha":      {100, []string{"format"}, "", map[string]string{"format": "short", "prefix": "sha-"}},
}

const defaultRules = "type=schedule\ntype=ref,event=branch\ntype=ref,event=tag\ntype=ref,event=pr"

// readRules reads meta-tags, highest priority first. All templates are tried, so that
// a typo is found in a rule that does not apply to this ref, too.
func readRules(text string, s scope) ([]rule, error) {
	list, err := lines("meta-tags", text)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		list, _ = lines("meta-tags", defaultRules)
	}
	rules := make([]rule, len(list))
	for i, l := range list {
		if rules[i], err = readRule(l); err == nil {
			err = rules[i].check(s)
		}
		if err != nil {
			return nil, l.errorf("%w", err)
		}
	}
	sorted.Func(rules, func(a, b rule) int { return cmp.Compare(b.priority, a.priority) })
	return rules, nil
}

func readRule(l line) (rule, error) {
	attrs, err := readAttrs(l.text, "value")
	if err != nil {
		return rule{}, err
	}
	r := rule{line: l, kind: "raw", attrs: attrs}
	if kind, ok := attrs["type"]; ok {
		r.kind = kind
		delete(attrs, "type")
	}
	k, ok := kinds[r.kind]
	known := slices.Sorted(maps.Keys(kinds))
	if !ok {
		return rule{}, fmt.Errorf("unknown type %q%s; known: %s", clip(r.kind), spelling.Hint(r.kind, known), strings.Join(known, ", "))
	}
	known = append(slices.Clone(k.attrs), commonAttrs...)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if !slices.Contains(known, name) {
			return rule{}, fmt.Errorf("type=%s has no attribute %q%s; known: %s", r.kind, clip(name), spelling.Hint(name, known), strings.Join(known, ", "))
		}
	}
	for name, value := range k.defaults {
		if _, given := attrs[name]; !given {
			attrs[name] = value
		}
	}
	if _, given := attrs["prefix"]; !given && r.kind == "ref" && attrs["event"] == "pr" {
		attrs["prefix"] = "pr-"
	}
	if _, given := attrs[k.required]; k.required != "" && !given {
		return rule{}, fmt.Errorf("type=%s wants the attribute %s", r.kind, k.required)
	}
	r.priority = k.priority
	if text, given := attrs["priority"]; given {
		if r.priority, err = strconv.Atoi(text); err != nil {
			return rule{}, fmt.Errorf("priority=%s is no whole number", clip(text))
		}
	}
	return r, nil
}

// check reads what attributes say, and tries every template.
func (r *rule) check(s scope) error {
	for _, name := range []string{"enable", "prefix", "suffix", "value"} {
		if _, err := s.expand(r.attrs[name]); err != nil {
			return err
		}
	}
	switch r.kind {
	case "semver", "pep440":
		if _, err := (version{}).scope().expand(r.attrs["pattern"]); err != nil {
			return err
		}
		if r.attrs["match"] != "" {
			return r.compile("match")
		}
	case "schedule":
		_, err := scope{dates: s.dates}.expand(r.attrs["pattern"])
		return err
	case "match":
		group, err := strconv.Atoi(r.attrs["group"])
		if err != nil || group < 0 || group > 99 {
			return fmt.Errorf("group=%s is no number of a group", clip(r.attrs["group"]))
		}
		r.group = group
		return r.compile("pattern")
	case "ref":
		return oneOf(r.attrs, "event", "branch", "tag", "pr")
	case "sha":
		return oneOf(r.attrs, "format", "short", "long")
	}
	return nil
}

func (r *rule) compile(attr string) error {
	var err error
	if r.pattern, err = compilePattern(r.attrs[attr]); err != nil {
		return fmt.Errorf("%s: %w", attr, err)
	}
	return nil
}

func oneOf(attrs map[string]string, name string, allowed ...string) error {
	if !slices.Contains(allowed, attrs[name]) {
		return fmt.Errorf("%s=%s%s; it is one of %s", name, clip(attrs[name]), spelling.Hint(attrs[name], allowed), strings.Join(allowed, ", "))
	}
	return nil
}

// readAttrs reads "a=b,c=d", where a field may stand in double quotes. A field without
// = is the value of bare; names are read in any case, as metadata-action does.
func readAttrs(text, bare string) (map[string]string, error) {
	fields, err := readFields(text)
	if err != nil {
		return nil, err
	}
	attrs := map[string]string{}
	for _, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		if !ok {
			name, value = bare, f
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "" || !ok && value == "" {
			return nil, fmt.Errorf("%q has an attribute without a name", clip(text))
		}
		if _, twice := attrs[name]; twice {
			return nil, fmt.Errorf("%s is given twice", clip(name))
		}
		attrs[name] = value
	}
	return attrs, nil
}

// readFields reads fields separated by commas. A comment behind them is refused: up to its
// version 5 docker/metadata-action cut it off, since then it belongs to the value.
func readFields(text string) ([]string, error) {
	for i := 1; i < len(text); i++ {
		if text[i] == '#' && (text[i-1] == ' ' || text[i-1] == '\t') && strings.Count(text[:i], `"`)%2 == 0 {
			return nil, fmt.Errorf("%q: a comment has a line of its own", clip(text))
		}
	}
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%q: a field with a comma or a quote stands in double quotes as a whole: \"pattern=a,b\"", clip(text))
	}
	return fields, nil
}

// readImages reads meta-images: a name per line, or name=NAME,enable=BOOL, or several
// names in the one line that there is.
func readImages(text string) ([]string, error) {
	list, err := lines("meta-images", text)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range list {
		found, err := imagesOf(l.text, len(list) == 1)
		if err != nil {
			return nil, l.errorf("%w", err)
		}
		for _, name := range found {
			name = strings.ToLower(name)
			ref, err := registry.ParseRef(name)
			if err != nil {
				return nil, l.errorf("%w", err)
			}
			if ref.Scheme != registry.SchemeRegistry || ref.Digest != "" || strings.LastIndexByte(name, ':') > strings.LastIndexByte(name, '/') {
				return nil, l.errorf("%q is not the name of a repository alone; tags come from meta-tags", clip(name))
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func imagesOf(text string, only bool) ([]string, error) {
	if only && !strings.Contains(text, "=") {
		fields, err := readFields(text)
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		return fields, err
	}
	attrs, err := readAttrs(text, "name")
	if err != nil {
		return nil, err
	}
	for name := range attrs {
		if known := []string{"name", "enable"}; !slices.Contains(known, name) {
			return nil, fmt.Errorf("an image has no attribute %q%s; known: name, enable", clip(name), spelling.Hint(name, known))
		}
	}
	if attrs["name"] == "" {
		return nil, fmt.Errorf("an image without a name")
	}
	switch enable, given := attrs["enable"]; {
	case !given || enable == "true":
		return []string{attrs["name"]}, nil
	case enable == "false":
		return nil, nil
	}
	return nil, fmt.Errorf("enable=%s; it is true or false", clip(attrs["enable"]))
}

// flavor is what holds for all rules.
type flavor struct {
	latest                     string // "auto", "true", "false"
	prefix, suffix             string
	prefixLatest, suffixLatest bool
}

func readFlavor(text string) (flavor, error) {
	f := flavor{latest: "auto"}
	list, err := lines("meta-flavor", text)
	if err != nil {
		return f, err
	}
	seen := map[string]bool{}
	for _, l := range list {
		if err := f.read(l.text, seen); err != nil {
			return f, l.errorf("%w", err)
		}
	}
	return f, nil
}

// read reads one line: onlatest belongs to the prefix or suffix before it.
func (f *flavor) read(text string, seen map[string]bool) error {
	fields, err := readFields(text)
	if err != nil {
		return err
	}
	last := ""
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok {
			return fmt.Errorf("%q is not NAME=VALUE", clip(field))
		}
		key := name
		if name == "onlatest" {
			key = last + " onlatest"
		}
		if seen[key] {
			return fmt.Errorf("%s is given twice", name)
		}
		seen[key] = true
		switch name {
		case "latest":
			f.latest = value
			err = oneOf(map[string]string{name: value}, name, "auto", "true", "false")
		case "prefix":
			f.prefix, last = value, name
		case "suffix":
			f.suffix, last = value, name
		case "onlatest":
			if last == "" {
				return fmt.Errorf("onlatest stands behind the prefix or suffix that it is for")
			}
			err = oneOf(map[string]string{name: value}, name, "true", "false")
			f.prefixLatest = f.prefixLatest || last == "prefix" && value == "true"
			f.suffixLatest = f.suffixLatest || last == "suffix" && value == "true"
		default:
			known := []string{"latest", "prefix", "suffix", "onlatest"}
			return fmt.Errorf("unknown flavor %q%s; known: %s", clip(name), spelling.Hint(name, known), strings.Join(known, ", "))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
