package inputs

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// Pairs are build-args, labels and annotations with their expressions replaced, and
// with the derived labels and annotations where they were asked for.
type Pairs struct {
	BuildArgs   map[string]string
	Labels      map[string]string
	Annotations []Annotation
}

// Annotation is one annotation of an image.
type Annotation struct {
	Levels []string // "manifest", "index", "manifest-descriptor", "index-descriptor", each also with [platform]
	Key    string
	Value  string
}

// Pairs expands the lists with r, which is nil for output local.
func (in *Inputs) Pairs(r *meta.Result) (*Pairs, error) {
	p := &Pairs{}
	var err error
	if p.BuildArgs, err = pairs("build-args", in.BuildArgs, r, checkBuildArg); err != nil {
		return nil, err
	}
	if p.Labels, err = pairs("labels", in.Labels, r, checkKey); err != nil {
		return nil, err
	}
	if in.SetMetaLabels && r != nil {
		for key, value := range r.Labels {
			p.Labels[key] = value // as buildx, which takes the last
		}
	}
	annotations, err := pairs("annotations", in.Annotations, r, checkAnnotation)
	if err != nil {
		return nil, err
	}
	if in.SetMetaAnnotations && r != nil {
		for key, value := range r.Annotations {
			annotations[key] = value
		}
	}
	for text, value := range annotations {
		levels, key := splitAnnotation(text)
		p.Annotations = append(p.Annotations, Annotation{levels, key, value})
	}
	sorted.Func(p.Annotations, func(a, b Annotation) int {
		return strings.Compare(a.Key+"\x00"+strings.Join(a.Levels, ","), b.Key+"\x00"+strings.Join(b.Levels, ","))
	})
	return p, nil
}

// Sample stands in for what is derived where only the form of templates is checked.
func (in *Inputs) Sample() *meta.Result {
	if in.Output != OutputImage {
		return nil
	}
	return &meta.Result{Version: "0", TagNames: []string{"0"}, Tags: []string{"sample:0"}}
}

// pairs reads lines KEY=VALUE.
func pairs(input, text string, r *meta.Result, check func(key string) string) (map[string]string, error) {
	lines, err := meta.Expand(input, text, r)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, l := range lines {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return nil, fault.Usagef("%s: %s has no value; the environment of the caller is not read", input, clip(l))
		}
		if why := check(key); why != "" {
			return nil, fault.Usagef("%s: %q %s", input, clip(key), why)
		}
		if _, twice := m[key]; twice {
			return nil, fault.Usagef("%s: %s is given twice", input, clip(key))
		}
		m[key] = value
	}
	return m, nil
}

func checkBuildArg(key string) string {
	switch {
	case !variablePattern().MatchString(key):
		return "is no name of a build argument"
	case strings.HasPrefix(key, "BUILDKIT_"):
		return "steers the builder, which is not the caller's"
	}
	return ""
}

var keyPattern = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,254}$`)

func checkKey(key string) string {
	if !keyPattern().MatchString(key) {
		return "is no key: letters, digits, points, slashes, hyphens"
	}
	return ""
}

var levelPattern = pattern.New(`^(manifest|index|manifest-descriptor|index-descriptor)(\[[a-z0-9]+/[a-z0-9_]+(/v[0-9]+)?\])?$`)

func checkAnnotation(text string) string {
	levels, key := splitAnnotation(text)
	for _, l := range levels {
		if !levelPattern().MatchString(l) {
			return "has a level that is none of manifest, index, manifest-descriptor, index-descriptor"
		}
	}
	return checkKey(key)
}

// splitAnnotation cuts "manifest,index:key" (buildx, "--annotation"); without a level
// an annotation is one of the manifest and of the index that names it.
func splitAnnotation(text string) (levels []string, key string) {
	if before, after, ok := strings.Cut(text, ":"); ok {
		return strings.Split(before, ","), after
	}
	return []string{"manifest", "index"}, text
}
