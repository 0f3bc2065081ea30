package meta

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// deriver collects the tags of one build.
type deriver struct {
	context Context
	scope   scope
	flavor  flavor
	names   []string
	latest  bool // set by the first rule that gives a tag
	notes   []string
}

// apply adds the tag that r gives for this ref, if any.
func (d *deriver) apply(r rule) error {
	if enable, given := r.attrs["enable"]; given {
		switch text, err := d.scope.expand(enable); {
		case err != nil:
			return r.errorf("%w", err)
		case text == "false":
			return nil
		case text != "true":
			return r.errorf("enable=%s is %q; it must be true or false", clip(enable), clip(text))
		}
	}
	value, latest, err := d.value(r)
	if err != nil {
		return r.errorf("%w", err)
	}
	if value == nil {
		return nil
	}
	name, err := d.affixed(r, *value)
	if err != nil {
		return r.errorf("%w", err)
	}
	if name == "" {
		return nil
	}
	name = sanitizeTag(name)
	if err := checkTag(name); err != nil {
		return r.errorf("%w", err)
	}
	if len(d.names) == 0 {
		d.latest = d.flavor.latest == "true" || d.flavor.latest == "auto" && latest
	}
	if !slices.Contains(d.names, name) {
		d.names = append(d.names, name)
	}
	return nil
}

// value is what r makes of the ref, nil when it does not apply, and whether
// latest goes with it.
func (d *deriver) value(r rule) (value *string, latest bool, err error) {
	var s string
	ok := false
	switch r.kind {
	case "schedule":
		if ok = d.context.Event == "schedule"; ok {
			s, err = scope{dates: d.scope.dates}.expand(r.attrs["pattern"])
		}
	case "semver":
		return d.versionValue(r, parseSemver, "a semantic version")
	case "pep440":
		return d.versionValue(r, parsePEP440, "a version of PEP 440")
	case "match":
		return d.matchValue(r)
	case "edge":
		branch := r.attrs["branch"]
		if branch == "" {
			branch = d.context.DefaultBranch
		}
		on, isBranch := d.context.branch()
		s, ok = "edge", isBranch && on != "" && on == branch
	case "ref":
		s, ok = d.refValue(r.attrs["event"])
		latest = r.attrs["event"] == "tag"
	case "raw":
		ok = true
		s, err = d.scope.expand(r.attrs["value"])
	case "sha":
		s, ok = d.context.SHA, d.context.SHA != ""
		if r.attrs["format"] == "short" {
			s = d.context.shortSHA()
		}
	}
	if err != nil || !ok {
		return nil, false, err
	}
	return &s, latest, nil
}

func (d *deriver) refValue(event string) (string, bool) {
	switch event {
	case "branch":
		return d.context.branch()
	case "tag":
		return d.context.tag()
	}
	return d.context.pullRequest()
}

// source is the text that semver, pep440 and match rules look at: their value, or the tag.
func (d *deriver) source(r rule) (string, bool, error) {
	if r.attrs["value"] != "" {
		s, err := d.scope.expand(r.attrs["value"])
		return s, true, err
	}
	tag, ok := d.context.tag()
	return tag, ok, nil
}

func (d *deriver) versionValue(r rule, parse func(string) (version, bool), what string) (*string, bool, error) {
	s, ok, err := d.source(r)
	if err != nil || !ok {
		return nil, false, err
	}
	if r.attrs["match"] != "" {
		part, found := r.pattern.find(s, 1)
		if !found {
			d.note(r, "match=%s has no group 1 in %s", r.attrs["match"], s)
			return nil, false, nil
		}
		s = part
	}
	s = strings.ReplaceAll(s, "/", "-")
	v, ok := parse(s)
	if !ok {
		d.note(r, "%s is not %s", s, what)
		return nil, false, nil
	}
	text, err := v.render(r.attrs["pattern"])
	return &text, v.plain, err
}

func (d *deriver) matchValue(r rule) (*string, bool, error) {
	s, ok, err := d.source(r)
	if err != nil || !ok {
		return nil, false, err
	}
	part, found := r.pattern.find(s, r.group)
	if !found {
		d.note(r, "pattern=%s has no group %d in %s", r.attrs["pattern"], r.group, s)
		return nil, false, nil
	}
	return &part, true, nil
}

func (d *deriver) note(r rule, format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clip(s)
		}
	}
	d.notes = append(d.notes, fmt.Sprintf("meta-tags, line %d: no tag: ", r.n)+fmt.Sprintf(format, args...))
}

// affixed puts the rule's prefix and suffix around value; where it has none, also
// no empty one, those of the flavor.
func (d *deriver) affixed(r rule, value string) (string, error) {
	prefix, given := r.attrs["prefix"]
	if !given {
		prefix = d.flavor.prefix
	}
	suffix, given := r.attrs["suffix"]
	if !given {
		suffix = d.flavor.suffix
	}
	before, err := d.scope.expand(prefix)
	if err != nil {
		return "", err
	}
	after, err := d.scope.expand(suffix)
	return before + value + after, err
}

var notInTags = pattern.New(`[^a-zA-Z0-9._-]+`)

// sanitizeTag makes of a name of git one of a registry: feature/x is feature-x.
func sanitizeTag(s string) string { return notInTags().ReplaceAllString(s, "-") }

// tagPattern is OCI distribution-spec, "Pulling manifests".
var tagPattern = pattern.New(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func checkTag(name string) error {
	if !tagPattern().MatchString(name) {
		return fmt.Errorf("%q is no tag: at most 128 characters, the first no point or hyphen", clip(name))
	}
	return nil
}
