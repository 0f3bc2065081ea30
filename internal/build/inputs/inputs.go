// Package inputs reads what a caller may choose about a trusted build: the inputs of
// docker/github-builder's build.yml and bake.yml, by their names, as a workflow hands
// them over (toJSON(inputs)) or as a file in JSON or YAML.
//
// The list is closed. What is not on it, given twice, of another form, or at odds with
// another input is an error ([fault.Usage]) that names the input; where
// docker/github-builder ignores an input that cannot take effect, it is refused here
// (docs/github.md). Values may be text everywhere ("true", "7"), since that is what CI
// systems have.
//
// No secret is an input. Values of registry-identities never come into a message.
package inputs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/spelling"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// MaxSize bounds the file of inputs.
const MaxSize = 512 << 10

// MaxParts is how many jobs a distributed build has at most.
const MaxParts = 20

// The values of Output.
const (
	OutputImage = "image"
	OutputLocal = "local"
)

// Inputs are the inputs of build.yml, and those of bake.yml where Bake is set.
type Inputs struct {
	Bake   bool
	Output string // OutputImage or OutputLocal
	Push   bool   // only with OutputImage
	Sign   bool   // "auto" is resolved

	Context string // folder of the commit, "." for its root; slash-separated, inside of it
	Target  string
	SBOM    bool

	// build.yml only
	File        string // the Dockerfile, a path of the commit
	Platforms   []string
	BuildArgs   string // lines KEY=VALUE with {{meta.…}}; see [Inputs.Pairs]
	Labels      string
	Annotations string
	ShmSize     int64 // bytes, 0 for the daemon's own
	Ulimits     []Ulimit

	// bake.yml only
	Files          []string // paths of the commit
	Set            string   // lines TARGET.KEY=VALUE with {{meta.…}}
	Vars           map[string]string
	MetaBakeTarget string

	Meta               meta.Inputs
	SetMetaLabels      bool
	SetMetaAnnotations bool

	Cache      bool
	CacheScope string // never "" where Cache is set
	CacheMode  string // "min" or "max"

	RegistryIdentities []Identity

	// What the workflow needs around the build.
	Distribute     bool
	FailFast       bool
	JobNamePrefix  string
	SetupQEMU      bool
	Runner         Runner
	ArtifactName   string
	ArtifactUpload bool
	RetentionDays  int
}

// Read reads the inputs of build.yml from data, JSON when it begins with a brace, YAML
// otherwise. name is what errors call the file.
func Read(name string, data []byte) (*Inputs, error) { return read(name, data, false) }

// ReadBake reads the inputs of bake.yml.
func ReadBake(name string, data []byte) (*Inputs, error) { return read(name, data, true) }

func read(name string, data []byte, bake bool) (*Inputs, error) {
	values, err := readValues(name, data)
	if err != nil {
		return nil, err
	}
	known := Names(bake)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, key) {
			return nil, unknown(name, key, bake, known)
		}
	}
	r := &reader{file: name, values: values}
	in := r.inputs(bake)
	if r.err == nil {
		r.err = in.check(name)
	}
	if r.err != nil {
		return nil, r.err
	}
	return in, nil
}

// readValues is every input as text.
func readValues(name string, data []byte) (map[string]string, error) {
	if len(data) > MaxSize {
		return nil, fault.Usagef("%s: %d bytes; at most %d are read", name, len(data), MaxSize)
	}
	values := map[string]string{}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		var raw map[string]json.RawMessage
		if err := strictjson.Unmarshal(data, &raw); err != nil {
			return nil, fault.Usagef("%s: %w", name, err)
		}
		for key, value := range raw {
			text, err := plain(value)
			if err != nil {
				return nil, fault.Usagef("%s: %s: %w", name, key, err)
			}
			values[key] = text
		}
		return values, nil
	}
	docs, err := strictyaml.Documents(name, data)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	if len(docs) != 1 {
		return nil, fault.Usagef("%s: wants one document, has %d", name, len(docs))
	}
	var m map[string]strictyaml.Plain
	if err := docs[0].Decode(&m); err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	for key, value := range m {
		values[key] = value.Value
	}
	return values, nil
}

// plain is a JSON value as text; null is an input that is not set.
func plain(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var text string
		err := strictjson.Unmarshal(raw, &text)
		return text, err
	case '{', '[':
		return "", fmt.Errorf("must be one value; lists have an entry per line")
	case 'n':
		return "", nil
	}
	return string(raw), nil
}

var common = []string{"output", "push", "sign", "context", "target", "sbom", "cache", "cache-scope", "cache-mode",
	"meta-images", "meta-tags", "meta-labels", "meta-annotations", "meta-flavor", "set-meta-labels", "set-meta-annotations",
	"registry-identities", "distribute", "fail-fast", "job-name-prefix", "setup-qemu", "runner",
	"artifact-name", "artifact-upload", "artifact-retention-days"}

// Names are the inputs of build.yml, or of bake.yml, sorted.
func Names(bake bool) []string {
	own := []string{"file", "platforms", "build-args", "labels", "annotations", "shm-size", "ulimit"}
	if bake {
		own = []string{"files", "set", "vars", "meta-bake-target"}
	}
	return slices.Sorted(slices.Values(append(own, common...)))
}

func unknown(file, key string, bake bool, known []string) error {
	if key == "registry-auths" || key == "github-token" {
		return fault.Usagef("%s: %s is a secret of the workflow and no input; nothing secret may stand here", file, key)
	}
	if slices.Contains(Names(!bake), key) {
		other := map[bool]string{true: "build.yml", false: "bake.yml"}[bake]
		return fault.Usagef("%s: %s is an input of %s only", file, key, other)
	}
	return fault.Usagef("%s: unknown input %q%s", file, clip(key), spelling.Hint(key, known))
}

// check refuses inputs that are at odds with each other.
func (in *Inputs) check(file string) error {
	image := in.Output == OutputImage
	switch {
	case in.Push && !image:
		return fault.Usagef("%s: push is for output image; output is %s", file, in.Output)
	case in.ArtifactUpload && image:
		return fault.Usagef("%s: artifact-upload is for output local; output is image", file)
	case image && in.Sign && !in.Push:
		return fault.Usagef("%s: sign is true and push is not: only what is pushed can be signed", file)
	case image && strings.TrimSpace(in.Meta.Images) == "":
		return fault.Usagef("%s: output image wants meta-images", file)
	case in.Distribute && len(in.Platforms) > MaxParts:
		return fault.Usagef("%s: %d platforms; a distributed build has at most %d", file, len(in.Platforms), MaxParts)
	}
	if err := in.checkRunner(file); err != nil {
		return err
	}
	if !image {
		for name, set := range map[string]bool{"labels": in.Labels != "", "annotations": in.Annotations != "",
			"set-meta-labels": in.SetMetaLabels, "set-meta-annotations": in.SetMetaAnnotations} {
			if set {
				return fault.Usagef("%s: %s is for output image; output is local", file, name)
			}
		}
	}
	if in.Cache && in.CacheScope == "" {
		if in.CacheScope = in.Target; in.CacheScope == "" {
			in.CacheScope = "buildkit"
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
