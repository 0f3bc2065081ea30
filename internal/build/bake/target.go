package bake

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Target is one build that a bake file asks for, in the options that a trusted build has.
type Target struct {
	Name          string
	Dir           string // folder of the commit that is the context; "" is its root
	File          string // path of the Dockerfile from Dir; "" is Dockerfile
	Stage         string // target stage of the Dockerfile; "" is the last
	Args          map[string]string
	Labels        map[string]string
	Contexts      map[string]string // name to docker-image:// or https:// source
	Annotations   []string          // [TYPE[PLATFORM]:]KEY=VALUE as buildx has it
	Tags          []string          // references, as written
	Platforms     []string
	NoCache       bool
	NoCacheFilter []string
	NoNetwork     bool  // network = "none": as --hermetic
	ShmSize       int64 // bytes; 0 is BuildKit's default
	Ulimits       []string

	// Decided names what the bake file says of matters that the builder decides: attest,
	// cache-from, cache-to, output.
	Decided []string
}

// definition is a target as docker buildx bake --print has it (bake.Target of buildx
// 0.37.2). It has every field of it: one that buildx gets later is an error of parse.
type definition struct {
	Description      string             `json:"description"`
	Inherits         []string           `json:"inherits"`
	Annotations      []string           `json:"annotations"`
	Attest           json.RawMessage    `json:"attest"`
	Context          string             `json:"context"`
	Contexts         map[string]string  `json:"contexts"`
	Dockerfile       string             `json:"dockerfile"`
	DockerfileInline *string            `json:"dockerfile-inline"`
	Args             map[string]*string `json:"args"`
	Labels           map[string]*string `json:"labels"`
	Tags             []string           `json:"tags"`
	CacheFrom        json.RawMessage    `json:"cache-from"`
	CacheTo          json.RawMessage    `json:"cache-to"`
	Target           string             `json:"target"`
	Secrets          json.RawMessage    `json:"secret"`
	SSH              json.RawMessage    `json:"ssh"`
	Platforms        []string           `json:"platforms"`
	Outputs          json.RawMessage    `json:"output"`
	Pull             *bool              `json:"pull"` // images are always resolved anew
	NoCache          bool               `json:"no-cache"`
	NetworkMode      string             `json:"network"`
	NoCacheFilter    []string           `json:"no-cache-filter"`
	ShmSize          string             `json:"shm-size"`
	Ulimits          []string           `json:"ulimits"`
	Resources        json.RawMessage    `json:"resources"`
	Call             string             `json:"call"`
	Entitlements     []string           `json:"entitlements"`
	ExtraHosts       map[string]*string `json:"extra-hosts"`
	Policy           json.RawMessage    `json:"policy"`
}

// target takes what a trusted build has and refuses the rest.
func (d *definition) target(name string) (Target, error) {
	refuse := func(option, why string, args ...any) (Target, error) {
		return Target{}, fault.Usagef("bake target %s: %s is refused: %s", name, option, fmt.Sprintf(why, args...))
	}
	for _, r := range d.refusals() {
		if r.given {
			return refuse(r.option, "%s", r.why)
		}
	}
	t := Target{
		Name: name, Stage: d.Target, Annotations: d.Annotations, Tags: d.Tags, Platforms: d.Platforms,
		NoNetwork: d.NetworkMode == "none", NoCache: d.NoCache, NoCacheFilter: d.NoCacheFilter, Ulimits: d.Ulimits, Contexts: d.Contexts,
		Args: given(d.Args), Labels: given(d.Labels), Decided: d.decided(),
	}
	var err error
	if t.Dir, err = inCommit(d.Context); err != nil {
		return refuse("context "+strconv.Quote(fault.Redact(d.Context)), "%v", err)
	}
	if t.File, err = inCommit(d.Dockerfile); err != nil {
		return refuse("dockerfile "+strconv.Quote(fault.Redact(d.Dockerfile)), "%v", err)
	}
	if t.ShmSize, err = bytesOf(d.ShmSize); err != nil {
		return refuse("shm-size", "%v", err)
	}
	for _, context := range slices.Sorted(maps.Keys(d.Contexts)) {
		if err := remote(d.Contexts[context]); err != nil {
			return refuse(fmt.Sprintf("the named context %q", context), "%v", err)
		}
	}
	return t, nil
}

type refusal struct {
	option string
	given  bool
	why    string
}

// refusals are the options that a trusted build does not have, in buildx's names.
func (d *definition) refusals() []refusal {
	const machine = "what it holds is of the machine that builds, and nobody who verifies can see it"
	return []refusal{
		{"secret", set(d.Secrets), machine},
		{"ssh", set(d.SSH), machine},
		{"entitlements", len(d.Entitlements) > 0, "steps would leave BuildKit's sandbox"},
		{"network=" + d.NetworkMode, d.NetworkMode != "" && d.NetworkMode != "default" && d.NetworkMode != "none", "steps would reach the network of the machine that builds"},
		{"extra-hosts", len(d.ExtraHosts) > 0, "names would lead to other hosts than for everybody else"},
		{"dockerfile-inline", d.DockerfileInline != nil, "the Dockerfile is a file of the commit, where its policy stands beside it"},
		{"resources", set(d.Resources), "limits of steps are the builder's"},
		{"call=" + d.Call, d.Call != "" && d.Call != "build", "only builds are signed"},
		{"policy", set(d.Policy), "policies are the operator's (--source-policy) and the file beside the Dockerfile; a bake file cannot choose them"},
	}
}

// decided are the matters of a target that the builder decides.
func (d *definition) decided() []string {
	var names []string
	for _, o := range []struct {
		name  string
		given bool
	}{{"attest", set(d.Attest)}, {"cache-from", set(d.CacheFrom)}, {"cache-to", set(d.CacheTo)}, {"output", set(d.Outputs)}} {
		if o.given {
			names = append(names, o.name)
		}
	}
	return names
}

// set reports whether a list, object or string says anything.
func set(raw json.RawMessage) bool {
	switch s := strings.TrimSpace(string(raw)); s {
	case "", "null", "[]", "{}", `""`:
		return false
	}
	return true
}

// given are the arguments with a value. One without takes that of the environment, and
// there is none.
func given(m map[string]*string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for name, value := range m {
		if value != nil {
			out[name] = *value
		}
	}
	return out
}

// inCommit is a path of a folder or file of the commit from its root, "" for the root.
func inCommit(p string) (string, error) {
	switch {
	case p == "" || p == ".":
		return "", nil
	case strings.Contains(p, "://") || strings.HasPrefix(p, "git@") || strings.HasPrefix(p, "cwd:") || strings.HasPrefix(p, "target:"):
		return "", fmt.Errorf("a trusted build is of one commit, and this is another source")
	case p == "-" || path.IsAbs(p) || strings.ContainsAny(p, "\\\x00\n"):
		return "", fmt.Errorf("it must be a path from the root of the commit")
	}
	clean := path.Clean(p)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("it leads out of the commit")
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}

// remote refuses a named context that is not fetched from where everybody can fetch it.
func remote(source string) error {
	scheme, rest, ok := strings.Cut(source, "://")
	switch {
	case ok && scheme == "docker-image" && rest != "":
		return nil
	case ok && scheme == "https":
		u, err := url.Parse(source)
		if err != nil || u.Host == "" {
			return fmt.Errorf("it is no URL")
		}
		if u.User != nil {
			return fmt.Errorf("a URL with a login would stand in the provenance")
		}
		return nil
	case strings.HasPrefix(source, "target:"):
		return fmt.Errorf("targets are built and signed each for itself; push the other one and use it by its digest")
	}
	return fmt.Errorf("want docker-image://IMAGE or https://…; a folder of this machine is not in the commit")
}

// sizes are the units of docker build's sizes, and powers of two as there.
var sizes = map[string]int64{"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}

// bytesOf reads a size as docker build has it: a whole number and a unit or nothing.
func bytesOf(size string) (int64, error) {
	if size == "" {
		return 0, nil
	}
	digits := strings.TrimRight(strings.ToLower(size), "bkmg")
	factor, known := sizes[strings.ToLower(size[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || !known || n == 0 || int64(n) > (1<<40)/factor {
		return 0, fmt.Errorf("want a size as 64m, at most 1 TiB")
	}
	return int64(n) * factor, nil
}
