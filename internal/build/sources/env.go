package sources

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// env is a list of variables in which a later value replaces an earlier one.
type env struct {
	keys    []string
	values  map[string]string
	longest int // bytes of the longest value that it ever had
}

func newEnv() *env { return &env{values: map[string]string{}} }

// Get and Keys make it a shell.EnvGetter.
func (e *env) Get(key string) (string, bool) {
	v, ok := e.values[shell.NormalizeEnvKey(key)]
	return v, ok
}

func (e *env) Keys() []string { return e.keys }

func (e *env) set(key, value string) {
	k := shell.NormalizeEnvKey(key)
	if _, ok := e.values[k]; !ok {
		e.keys = append(e.keys, key)
	}
	e.values[k] = value
	e.longest = max(e.longest, len(value))
}

// maxWord is the most bytes that a word may become when its variables are replaced.
const maxWord = 4 << 20

// replace replaces the variables of a word. A Dockerfile that doubles a variable line by
// line, or replaces each letter of one by another, is refused before it is done.
func (e *env) replace(lex *shell.Lex, word string) (string, error) {
	most := len(word) + strings.Count(word, "$")*e.longest
	if substitutes(word) {
		most = len(word) + strings.Count(word, "$")*e.longest*len(word)
	}
	if most > maxWord && strings.Contains(word, "$") {
		return "", fmt.Errorf("the variables of a word of %d bytes, replaced, could become more than %d bytes", len(word), maxWord)
	}
	out, err := lex.ProcessWordWithMatches(word, e)
	return out.Result, err
}

func (e *env) clone() *env {
	return &env{keys: slices.Clone(e.keys), values: maps.Clone(e.values), longest: e.longest}
}

// add sets "KEY=value" entries of an image's configuration.
func (e *env) add(entries []string) {
	for _, entry := range entries {
		k, v, _ := strings.Cut(entry, "=")
		e.set(k, v)
	}
}

// substitutes reports whether a word has ${NAME/PATTERN/TEXT}, which can put the text
// in the place of each byte of the value.
func substitutes(word string) bool {
	for {
		_, rest, found := strings.Cut(word, "${")
		if !found {
			return false
		}
		if i := strings.IndexAny(rest, "}/:#%-+?"); i >= 0 && rest[i] == '/' {
			return true
		}
		word = rest
	}
}

// globalEnv is what every build has: the platforms and the stage to build
// (frontend/dockerfile/dockerfile2llb/platform.go), each replaceable by an argument.
func globalEnv(build, target ocispec.Platform, stage string, args map[string]string) *env {
	if stage == "" {
		stage = "default"
	}
	e := newEnv()
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", platforms.Format(build)}, {"BUILDOS", build.OS}, {"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture}, {"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)}, {"TARGETOS", target.OS}, {"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture}, {"TARGETVARIANT", target.Variant}, {"TARGETSTAGE", stage},
	} {
		v := kv[1]
		if given, ok := args[kv[0]]; ok {
			v = given
		}
		e.set(kv[0], v)
	}
	return e
}

// globalArgs takes in the ARG instructions before the first FROM.
func (e *env) globalArgs(lex *shell.Lex, commands []instructions.ArgCommand, args map[string]string) error {
	for i := range commands {
		for _, kv := range commands[i].Args {
			v, given := args[kv.Key]
			if !given {
				if kv.Value == nil {
					continue
				}
				var err error
				if v, err = e.replace(lex, *kv.Value); err != nil {
					return parser.WithLocation(err, commands[i].Location())
				}
			}
			e.set(kv.Key, v)
		}
	}
	return nil
}
