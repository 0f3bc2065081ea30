package inputs

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// reader reads the text of inputs and keeps the first error.
type reader struct {
	file   string
	values map[string]string
	err    error
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fault.Usagef("%s: %s: "+format, append([]any{r.file, name}, args...)...)
	}
}

func (r *reader) inputs(bake bool) *Inputs {
	in := &Inputs{
		Bake:    bake,
		Output:  r.choice("output", "", OutputImage, OutputLocal),
		Push:    r.flag("push", false),
		Context: r.inside("context", "."),
		Target:  r.word("target", targetPattern()),
		SBOM:    r.flag("sbom", false),
		Meta: meta.Inputs{Images: r.values["meta-images"], Tags: r.values["meta-tags"], Flavor: r.values["meta-flavor"],
			Labels: r.values["meta-labels"], Annotations: r.values["meta-annotations"]},
		SetMetaLabels:      r.flag("set-meta-labels", false),
		SetMetaAnnotations: r.flag("set-meta-annotations", false),
		Cache:              r.flag("cache", false),
		CacheScope:         r.word("cache-scope", scopePattern()),
		CacheMode:          r.choice("cache-mode", "min", "min", "max"),
		RegistryIdentities: r.identities(),
		Distribute:         r.flag("distribute", true),
		FailFast:           r.flag("fail-fast", false),
		JobNamePrefix:      r.word("job-name-prefix", namePattern()),
		SetupQEMU:          r.flag("setup-qemu", false),
		Runner:             r.runner(),
		ArtifactName:       r.word("artifact-name", artifactPattern()),
		ArtifactUpload:     r.flag("artifact-upload", false),
		RetentionDays:      r.days("artifact-retention-days"),
	}
	if in.ArtifactName == "" {
		in.ArtifactName = "hallmark-assets"
	}
	switch r.choice("sign", "auto", "auto", "true", "false") {
	case "true":
		in.Sign = true
	case "auto":
		in.Sign = in.Output == OutputImage && in.Push || in.Output == OutputLocal && in.ArtifactUpload
	}
	if bake {
		r.bakeInputs(in)
	} else {
		r.buildInputs(in)
	}
	return in
}

func (r *reader) buildInputs(in *Inputs) {
	// BuildKit takes the Dockerfile's path as one inside of the context.
	in.File = path.Join(in.Context, r.inside("file", "Dockerfile"))
	in.Platforms = r.platforms()
	in.BuildArgs, in.Labels, in.Annotations = r.values["build-args"], r.values["labels"], r.values["annotations"]
	in.ShmSize = r.size("shm-size")
	in.Ulimits = r.ulimits()
}

func (r *reader) bakeInputs(in *Inputs) {
	for _, f := range r.list("files") {
		in.Files = append(in.Files, path.Join(in.Context, r.insidePath("files", f)))
	}
	if len(in.Files) == 0 {
		in.Files = []string{path.Join(in.Context, "docker-bake.hcl")}
	}
	if in.Target == "" {
		in.Target = "default"
	}
	in.Set = r.values["set"]
	in.Vars = map[string]string{}
	for _, v := range r.list("vars") {
		key, value, ok := strings.Cut(v, "=")
		if _, twice := in.Vars[key]; !ok || !variablePattern().MatchString(key) || twice {
			r.fail("vars", "%q is not NAME=VALUE, or given twice", clip(v))
		}
		in.Vars[key] = value
	}
	in.MetaBakeTarget = r.word("meta-bake-target", targetPattern())
	if in.MetaBakeTarget == "" {
		in.MetaBakeTarget = "docker-metadata-action"
	}
}

var (
	targetPattern   = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	scopePattern    = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
	namePattern     = pattern.New(`^[A-Za-z0-9([][A-Za-z0-9 ._()[\]:,#+@/-]{0,99}$`)
	artifactPattern = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	variablePattern = pattern.New(`^[A-Za-z_][A-Za-z0-9_]*$`)
	platformPattern = pattern.New(`^[a-z0-9]+/[a-z0-9_]+(/v[0-9]+)?$`)
)

// IsScope reports whether a name is one that a cache may have.
func IsScope(name string) bool { return scopePattern().MatchString(name) }

// flag reads true or false; GitHub hands over booleans, other CI systems text.
func (r *reader) flag(name string, otherwise bool) bool {
	switch r.values[name] {
	case "true":
		return true
	case "false":
		return false
	case "":
		return otherwise
	}
	r.fail(name, "%q is neither true nor false", clip(r.values[name]))
	return false
}

func (r *reader) choice(name, otherwise string, allowed ...string) string {
	value := r.values[name]
	if value == "" {
		value = otherwise
	}
	if !slices.Contains(allowed, value) {
		r.fail(name, "%q%s; it is one of %s", clip(value), spelling.Hint(value, allowed), strings.Join(allowed, ", "))
	}
	return value
}

func (r *reader) word(name string, pattern *regexp.Regexp) string {
	value := r.values[name]
	if value != "" && !pattern.MatchString(value) {
		r.fail(name, "%q has other characters than such a name may have, or is too long", clip(value))
	}
	return value
}

func (r *reader) days(name string) int {
	if r.values[name] == "" {
		return 0
	}
	n, err := strconv.Atoi(r.values[name])
	if err != nil || n < 0 || n > 400 {
		r.fail(name, "%q is no number of days from 0 to 400", clip(r.values[name]))
	}
	return n
}

// list reads entries separated by lines or commas.
func (r *reader) list(name string) []string {
	var list []string
	for _, field := range strings.FieldsFunc(r.values[name], func(c rune) bool { return c == '\n' || c == ',' }) {
		if field = strings.TrimSpace(field); field != "" {
			list = append(list, field)
		}
	}
	if len(list) > meta.MaxLines {
		r.fail(name, "more than %d entries", meta.MaxLines)
	}
	return list
}

// inside reads a path that must lie in the commit.
func (r *reader) inside(name, otherwise string) string {
	value := r.values[name]
	if value == "" {
		value = otherwise
	}
	return r.insidePath(name, value)
}

func (r *reader) insidePath(name, value string) string {
	clean := path.Clean(value)
	switch {
	case strings.Contains(value, "://") || strings.HasPrefix(value, "cwd:") || strings.HasPrefix(value, "git@"):
		r.fail(name, "%q is elsewhere; a trusted build uses the commit and nothing else", clip(value))
	case path.IsAbs(value) || clean == ".." || strings.HasPrefix(clean, "../"):
		r.fail(name, "%q is not a path inside of the commit", clip(value))
	case strings.ContainsAny(value, "\\#?:\x7f") || strings.IndexFunc(value, func(c rune) bool { return c < 0x20 || c == 0xfffd }) >= 0 || len(value) > 1024:
		r.fail(name, "%q is not a plain path: no \\, #, ?, : or control characters", clip(value))
	}
	return clean
}

func (r *reader) platforms() []string {
	list := r.list("platforms")
	for i, p := range list {
		if !platformPattern().MatchString(p) {
			r.fail("platforms", "%q is not OS/ARCH or OS/ARCH/VARIANT, such as linux/amd64", clip(p))
		}
		if slices.Contains(list[:i], p) {
			r.fail("platforms", "%s is given twice", p)
		}
	}
	return list
}

var sizePattern = pattern.New(`^([0-9]{1,10})([bkmg]?)b?$`)

// size reads a size as docker writes it: 64m, 2g, 1024.
func (r *reader) size(name string) int64 {
	text := strings.ToLower(r.values[name])
	if text == "" {
		return 0
	}
	m := sizePattern().FindStringSubmatch(text)
	if m == nil {
		r.fail(name, "%q is no size, such as 64m or 2g", clip(r.values[name]))
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	n <<= map[string]uint{"k": 10, "m": 20, "g": 30}[m[2]]
	if n <= 0 || n > 1<<40 {
		r.fail(name, "%q is not between 1 byte and 1 TiB", clip(r.values[name]))
	}
	return n
}

// Ulimit is a limit of the processes of RUN steps.
type Ulimit struct {
	Name       string // "nofile"
	Soft, Hard int64  // -1: unlimited
}

// String is the limit as BuildKit's Dockerfile frontend reads it: "nofile=1024:2048".
func (u Ulimit) String() string { return fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard) }

// ulimitNames are the names that docker knows (setrlimit(2), in lower case).
var ulimitNames = []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
	"rtprio", "rttime", "sigpending", "stack"}

func (r *reader) ulimits() []Ulimit {
	var limits []Ulimit
	for _, text := range r.list("ulimit") {
		name, value, ok := strings.Cut(text, "=")
		soft, hard, two := strings.Cut(value, ":")
		if !two {
			hard = soft
		}
		u := Ulimit{Name: name}
		var err1, err2 error
		u.Soft, err1 = strconv.ParseInt(soft, 10, 64)
		u.Hard, err2 = strconv.ParseInt(hard, 10, 64)
		switch {
		case !ok || err1 != nil || err2 != nil || u.Soft < -1 || u.Hard < -1:
			r.fail("ulimit", "%q is not NAME=SOFT or NAME=SOFT:HARD", clip(text))
		case !slices.Contains(ulimitNames, name):
			r.fail("ulimit", "unknown limit %q%s", clip(name), spelling.Hint(name, ulimitNames))
		case u.Hard >= 0 && (u.Soft < 0 || u.Soft > u.Hard):
			r.fail("ulimit", "%q: the soft limit is above the hard one", clip(text))
		case slices.ContainsFunc(limits, func(o Ulimit) bool { return o.Name == name }):
			r.fail("ulimit", "%s is given twice", name)
		}
		limits = append(limits, u)
	}
	return limits
}
