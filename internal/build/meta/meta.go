// Package meta derives an image's tags, labels and annotations from the git ref
// that is built, by the rules of docker/metadata-action, which callers of
// docker/github-builder write.
//
// It is stricter: an unknown type, attribute, expression or date letter is an error
// that names the input and the line, in rules that do not apply to this ref, too;
// and a tag that a registry would refuse is an error here. What it does otherwise
// is listed in docs/github.md.
//
// Nothing of the machine goes in, besides its time zone database where a rule
// names a zone: the same inputs and the same [Context] give the same result.
package meta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Limits of what is read.
const (
	MaxInput = 64 << 10 // bytes of one input
	MaxLines = 500      // of one input
	maxNames = 2000     // tags of all images together
	maxRef   = 1024
)

// Context is what is built, and when. Nothing in it is believed to be harmless:
// names of refs and descriptions are what people choose.
type Context struct {
	Event         string // GitHub's name of the event: "push", "pull_request", "schedule"
	Ref           string // full name: refs/heads/…, refs/tags/…, refs/pull/N/merge; "" unknown
	SHA           string // the commit, "" unknown
	DefaultBranch string // "main", "" unknown
	BaseRef       string // branch that a pull request or a pushed tag is based on, "" unknown
	Time          time.Time
	CommitTime    time.Time // zero: Time
	Repository    Repository
}

// Repository is what labels say of the source.
type Repository struct {
	Name        string // "app"
	Description string
	URL         string // "https://github.com/org/app"
	License     string // SPDX identifier
}

// Inputs are the inputs meta-images, meta-tags and so on, each a list with an
// entry per line; lines that begin with # are comments.
type Inputs struct {
	Images      string
	Tags        string
	Flavor      string
	Labels      string
	Annotations string
}

// Result is what was derived.
type Result struct {
	Version     string   // the tag of the rule with the highest priority, "" when none applies
	Images      []string // names without tag
	TagNames    []string // tags without name; the first is Version
	Tags        []string // each image with each tag; without images the tags alone
	Labels      map[string]string
	Annotations map[string]string
	Notes       []string // why rules that look at this ref gave no tag
}

// Derive applies the rules to c. Errors are the caller's ([fault.Usage]) and say
// the input and the line.
func Derive(in Inputs, c Context) (*Result, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	names, err := readImages(in.Images)
	if err != nil {
		return nil, err
	}
	d := &deriver{context: c, scope: c.scope()}
	rules, err := d.readTagRules(in)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if err := d.apply(r); err != nil {
			return nil, err
		}
	}
	r := &Result{Images: names, TagNames: d.names, Notes: d.notes}
	if len(d.names) > 0 {
		r.Version = d.names[0]
		if err := d.addLatest(r); err != nil {
			return nil, err
		}
	}
	if r.Tags, err = allTags(names, r.TagNames); err != nil {
		return nil, err
	}
	derived := c.annotations(r.Version)
	if r.Labels, err = d.withCustom("meta-labels", derived, in.Labels); err != nil {
		return nil, err
	}
	r.Annotations, err = d.withCustom("meta-annotations", derived, in.Annotations)
	return r, err
}

// Images are the names in an input meta-images that are enabled.
func Images(text string) ([]string, error) { return readImages(text) }

// Check finds everything that Derive refuses whatever the ref is.
func Check(in Inputs) error {
	d := &deriver{scope: Context{}.scope()}
	_, err := readImages(in.Images)
	if err == nil {
		_, err = d.readTagRules(in)
	}
	if err == nil {
		_, err = d.withCustom("meta-labels", nil, in.Labels)
	}
	if err == nil {
		_, err = d.withCustom("meta-annotations", nil, in.Annotations)
	}
	return err
}

// readTagRules reads the flavor and the rules.
func (d *deriver) readTagRules(in Inputs) ([]rule, error) {
	var err error
	if d.flavor, err = readFlavor(in.Flavor); err != nil {
		return nil, err
	}
	for _, affix := range []string{d.flavor.prefix, d.flavor.suffix} {
		if _, err := d.scope.expand(affix); err != nil {
			return nil, fault.Usagef("meta-flavor: %w", err)
		}
	}
	return readRules(in.Tags, d.scope)
}

var commitPattern = pattern.New(`^([0-9a-f]{40}|[0-9a-f]{64})?$`)

func (c *Context) check() error {
	for name, text := range map[string]string{"ref": c.Ref, "default branch": c.DefaultBranch, "base ref": c.BaseRef, "event": c.Event} {
		if len(text) > maxRef || strings.IndexFunc(text, unprintable) >= 0 {
			return fault.Usagef("the %s is too long or has control characters", name)
		}
	}
	if !commitPattern().MatchString(c.SHA) {
		return fault.Usagef("the commit is not hexadecimal")
	}
	if c.CommitTime.IsZero() {
		c.CommitTime = c.Time
	}
	return nil
}

func unprintable(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }

func (c Context) branch() (string, bool) { return c.below("refs/heads/") }
func (c Context) tag() (string, bool)    { return c.below("refs/tags/") }

// below is the name of a ref of that kind, "" of another kind.
func (c Context) below(prefix string) (string, bool) {
	if name, ok := strings.CutPrefix(c.Ref, prefix); ok {
		return name, true
	}
	return "", false
}

// pullRequest is the "2" of refs/pull/2/merge.
func (c Context) pullRequest() (string, bool) {
	n, ok := c.below("refs/pull/")
	return strings.TrimSuffix(n, "/merge"), ok
}

func (c Context) onDefaultBranch() bool {
	branch, ok := c.branch()
	return ok && branch != "" && branch == c.DefaultBranch
}

func (c Context) shortSHA() string { return c.SHA[:min(len(c.SHA), 7)] }

// scope is the expressions that values, prefixes, suffixes, labels and annotations
// may use.
func (c Context) scope() scope {
	branch, _ := c.branch()
	tag, _ := c.tag()
	base := ""
	if !strings.HasPrefix(c.Ref, "refs/heads/") {
		base = strings.TrimPrefix(c.BaseRef, "refs/heads/")
	}
	return scope{
		values: map[string]string{
			"branch":                branch,
			"tag":                   tag,
			"sha":                   c.shortSHA(),
			"base_ref":              base,
			"is_default_branch":     fmt.Sprint(c.onDefaultBranch()),
			"is_not_default_branch": fmt.Sprint(!c.onDefaultBranch()),
		},
		dates: map[string]time.Time{"date": c.Time, "commit_date": c.CommitTime},
	}
}

// annotations are the OCI annotations that follow from the source (OCI image-spec,
// "Pre-Defined Annotation Keys").
func (c Context) annotations(version string) map[string]string {
	const oci = "org.opencontainers.image."
	m := map[string]string{
		oci + "title":       c.Repository.Name,
		oci + "description": c.Repository.Description,
		oci + "url":         c.Repository.URL,
		oci + "source":      c.Repository.URL,
		oci + "version":     version,
		oci + "created":     c.CommitTime.UTC().Format("2006-01-02T15:04:05.000Z"), // so that the same commit gives the same image
		oci + "revision":    c.SHA,
		oci + "licenses":    c.Repository.License,
	}
	for k, v := range m {
		m[k] = oneLine(v)
	}
	return m
}

// oneLine keeps a description from becoming several labels where a reader takes
// a line for one.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s)
}

// withCustom is derived with the caller's own pairs, which go first where both
// have a key.
func (d *deriver) withCustom(input string, derived map[string]string, text string) (map[string]string, error) {
	all := map[string]string{}
	maps.Copy(all, derived)
	given := map[string]int{}
	list, err := lines(input, text)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		expanded, err := d.scope.expand(l.text)
		if err != nil {
			return nil, l.errorf("%w", err)
		}
		key, value, ok := strings.Cut(expanded, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			return nil, l.errorf("%q is not KEY=VALUE", clip(l.text))
		}
		if first := given[key]; first != 0 {
			return nil, l.errorf("%s is given twice; the first is in line %d", clip(key), first)
		}
		given[key] = l.n
		all[key] = value
	}
	return all, nil
}

// addLatest adds the tag latest when the first rule that gave a tag, or the
// flavor, says so.
func (d *deriver) addLatest(r *Result) error {
	if !d.latest {
		return nil
	}
	name := "latest"
	if d.flavor.prefixLatest {
		prefix, _ := d.scope.expand(d.flavor.prefix) // tried by Derive
		name = prefix + name
	}
	if d.flavor.suffixLatest {
		suffix, _ := d.scope.expand(d.flavor.suffix)
		name += suffix
	}
	name = sanitizeTag(name)
	if err := checkTag(name); err != nil {
		return fault.Usagef("meta-flavor: %w", err)
	}
	if !slices.Contains(r.TagNames, name) {
		r.TagNames = append(r.TagNames, name)
	}
	return nil
}

func allTags(images, names []string) ([]string, error) {
	if len(images) == 0 {
		return slices.Clone(names), nil
	}
	if len(images)*len(names) > maxNames {
		return nil, fault.Usagef("meta-tags: %d images with %d tags each; at most %d names are made", len(images), len(names), maxNames)
	}
	tags := make([]string, 0, len(images)*len(names))
	for _, image := range images {
		for _, name := range names {
			if _, err := registry.ParseRef(image + ":" + name); err != nil {
				return nil, err
			}
			tags = append(tags, image+":"+name)
		}
	}
	return tags, nil
}

// JSON is the result as the output meta-json has it.
func (r *Result) JSON() ([]byte, error) {
	answer := struct {
		Tags        []string          `json:"tags"`
		TagNames    []string          `json:"tag-names"`
		Labels      map[string]string `json:"labels"`
		Annotations []string          `json:"annotations"`
	}{emptyList(r.Tags), emptyList(r.TagNames), r.Labels, []string{}}
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		answer.Annotations = append(answer.Annotations, "manifest:"+key+"="+r.Annotations[key])
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(answer)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func emptyList(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
