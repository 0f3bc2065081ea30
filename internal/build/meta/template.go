package meta

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// maxExpanded bounds what one line becomes.
const maxExpanded = 64 << 10

// scope is the expressions of a template. Of Handlebars, whose notation this is,
// only {{name}} and {{name 'format' tz='zone'}} are there; its values are put in as
// they are, not escaped for HTML.
type scope struct {
	values map[string]string
	dates  map[string]time.Time
}

func (s scope) names() []string {
	return append(slices.Sorted(maps.Keys(s.values)), slices.Sorted(maps.Keys(s.dates))...)
}

// expand is text with every expression replaced.
func (s scope) expand(text string) (string, error) {
	var b strings.Builder
	for rest := text; ; {
		before, after, found := strings.Cut(rest, "{{")
		b.WriteString(before)
		if b.Len() > maxExpanded {
			return "", fmt.Errorf("becomes longer than %d bytes", maxExpanded)
		}
		if !found {
			return b.String(), nil
		}
		if strings.HasSuffix(before, `\`) {
			return "", fmt.Errorf(`\{{ is not supported: what stands in braces is always an expression`)
		}
		expression, after, closed := strings.Cut(after, "}}")
		if !closed {
			return "", fmt.Errorf("{{ without }}: %q", clip("{{"+expression))
		}
		value, err := s.evaluate(expression)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		rest = after
	}
}

func (s scope) evaluate(expression string) (string, error) {
	name, args, _ := strings.Cut(strings.TrimSpace(expression), " ")
	args = strings.TrimSpace(args)
	if value, ok := s.values[name]; ok {
		if args != "" {
			return "", fmt.Errorf("{{%s}} takes no argument", name)
		}
		return value, nil
	}
	if when, ok := s.dates[name]; ok {
		return evaluateDate(name, args, when)
	}
	if name == "" || strings.ContainsAny(name[:1], "{#/!&>^~") {
		return "", fmt.Errorf("{{%s}}: of Handlebars only {{name}} is supported", clip(expression))
	}
	return "", fmt.Errorf("unknown expression {{%s}}%s; known here: %s", clip(name), spelling.Hint(name, s.names()), strings.Join(s.names(), ", "))
}

// evaluateDate reads "'format'" and "'format' tz='zone'".
func evaluateDate(name, args string, when time.Time) (string, error) {
	format, rest, ok := quoted(args)
	if !ok {
		return "", fmt.Errorf("{{%s}} wants a format in quotes: {{%s 'YYYYMMDD'}}", name, name)
	}
	zone := time.UTC
	if rest = strings.TrimSpace(rest); rest != "" {
		text, isZone := strings.CutPrefix(rest, "tz=")
		zoneName, after, ok := quoted(text)
		if !isZone || !ok || strings.TrimSpace(after) != "" {
			return "", fmt.Errorf("{{%s}}: %q is not tz='ZONE'", name, clip(rest))
		}
		var err error
		if zone, err = loadZone(zoneName); err != nil {
			return "", fmt.Errorf("{{%s}}: %w", name, err)
		}
	}
	text, err := momentFormat(when.In(zone), format)
	if err != nil {
		return "", fmt.Errorf("{{%s}}: %w", name, err)
	}
	return text, nil
}

// loadZone knows UTC always, and others where the machine has the database. "Local"
// would make the result depend on the machine.
func loadZone(name string) (*time.Location, error) {
	switch name {
	case "UTC", "Etc/UTC":
		return time.UTC, nil
	case "", "Local":
		return nil, fmt.Errorf("%q is no time zone of the database", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("the time zone %q is not in the database of this machine", clip(name))
	}
	return zone, nil
}

// quoted cuts a text in single or double quotes off s.
func quoted(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return "", "", false
	}
	return strings.Cut(s[1:], s[:1])
}

// Expand is the lines of the input (build-args, labels or annotations) in text with
// {{meta.version}}, {{meta.tags}} (separated by commas) and {{meta.tags.[0]}}
// replaced. r is nil where no metadata is derived (output local): then the
// expressions are errors.
func Expand(input, text string, r *Result) ([]string, error) {
	list, err := lines(input, text)
	if err != nil {
		return nil, err
	}
	s := scope{values: map[string]string{}}
	if r != nil {
		s.values["meta.version"] = r.Version
		s.values["meta.tags"] = strings.Join(r.Tags, ",")
		for i, tag := range r.Tags {
			s.values["meta.tags.["+strconv.Itoa(i)+"]"] = tag
			s.values["meta.tags."+strconv.Itoa(i)] = tag
		}
	}
	var out []string
	for _, l := range list {
		expanded, err := s.expand(l.text)
		switch {
		case err != nil && r == nil:
			return nil, l.errorf("%q: expressions are there for output image only", clip(l.text))
		case err != nil:
			return nil, l.errorf("%w", err)
		}
		out = append(out, expanded)
	}
	return out, nil
}

// line is a line of an input.
type line struct {
	input string
	n     int
	text  string // trimmed, not empty
}

func (l line) errorf(format string, args ...any) error {
	return fault.Usagef("%s, line %d: "+format, append([]any{l.input, l.n}, args...)...)
}

// lines are the lines of an input without empty ones and comments.
func lines(input, text string) ([]line, error) {
	if len(text) > MaxInput {
		return nil, fault.Usagef("%s: %d bytes; at most %d are read", input, len(text), MaxInput)
	}
	var list []line
	for i, t := range strings.Split(text, "\n") {
		t = strings.TrimSpace(t)
		if t == "" || t[0] == '#' {
			continue
		}
		l := line{input, i + 1, t}
		if strings.IndexFunc(t, func(r rune) bool { return unprintable(r) && r != '\t' }) >= 0 {
			return nil, l.errorf("control characters, or not UTF-8")
		}
		if list = append(list, l); len(list) > MaxLines {
			return nil, fault.Usagef("%s: more than %d lines", input, MaxLines)
		}
	}
	return list, nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
