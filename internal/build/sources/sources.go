// Package sources lists what a build of a Dockerfile would fetch, without building:
// base images, images of COPY --from and RUN --mount, URLs and git repositories of
// ADD, what an image's ONBUILD triggers add, named contexts and the frontend of a
// "# syntax" line.
//
// The Dockerfile is read by BuildKit's own parser, and words are expanded by its own
// lexer. Which variables a word sees and which stages a stage needs follows BuildKit's
// converter (frontend/dockerfile/dockerfile2llb, v0.33), which is too large to be
// linked for this; a test compares the two, source by source.
//
// Not trusted: the Dockerfile and the images' configurations. What cannot be known
// without building (another language behind a "# syntax" line) is an error, never
// left out. What a RUN step fetches by itself is no source, here as in BuildKit.
package sources

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// MaxDockerfile is the longest Dockerfile that is read, in bytes.
const MaxDockerfile = 4 << 20

// Limits of one Dockerfile.
const (
	maxStages   = 1000
	maxCommands = 20_000
	maxSources  = 2000
)

// Kind says how a source is fetched.
type Kind string

// The kinds of sources.
const (
	Image  Kind = "image"
	HTTP   Kind = "http"
	Git    Kind = "git"
	Local  Kind = "local"      // a folder of the caller's: "dockerfile", "context", or a named context
	Layout Kind = "oci-layout" // an image layout of the caller's, by digest
)

// Use is a place that names a source.
type Use struct {
	Line        int    // of the Dockerfile, from 1; 0 for what stands in no line
	Instruction string // "FROM", "COPY --from", "RUN --mount", "ADD", "# syntax", "context NAME"
	Written     string // as it is written, before variables are replaced
}

// Source is one thing that a build fetches.
type Source struct {
	Kind Kind
	// Name is the source in one spelling: "docker.io/library/alpine:3.20" with the
	// digest if one is written, a URL, "https://host/repo.git#ref", the name of a
	// folder. The lock knows it under this name.
	Name string
	// Identifier and Attrs are what a policy session is asked about (solver/pb, SourceOp).
	Identifier string
	Attrs      map[string]string
	Platform   string // images: "linux/amd64"
	Digest     string // images: the digest of what Name is resolved to
	Checksum   string // what the Dockerfile itself demands of an ADD: "sha256:…", or a commit
	Remote     string // git: the repository
	Ref        string // git: branch, tag or commit as written, "" for the default branch
	Uses       []Use
}

// Dockerfile is the text of one.
type Dockerfile struct {
	Name string // in messages: "Dockerfile"
	Text []byte
}

// Options are what a build's caller says about it.
type Options struct {
	Args          map[string]string
	Target        string            // the stage to build, with what it needs; default the last
	AllStages     bool              // whatever could be a target
	Platforms     []string          // "linux/amd64"; default this machine's
	BuildPlatform string            // where steps run; default this machine's
	Context       string            // URL of a remote build context; "" a folder of the caller's
	Contexts      map[string]string // named contexts, as --build-context takes them
}

// Config is what is needed of an image's configuration.
type Config struct {
	Digest   string // of what the reference names: usually an index
	Env      []string
	OnBuild  []string
	OS, Arch string
}

// Images resolves images. It is called from several goroutines.
type Images interface {
	// Config resolves a reference ("docker.io/library/alpine:3.20") and reads the
	// configuration of its image for a platform.
	Config(ctx context.Context, ref, platform string) (Config, error)
}

// List is all sources of a Dockerfile, in the order in which they are met.
func List(ctx context.Context, f Dockerfile, o Options, images Images) ([]Source, error) {
	if len(f.Text) > MaxDockerfile {
		return nil, fault.Usagef("%s: %d bytes; at most %d are read", f.Name, len(f.Text), MaxDockerfile)
	}
	if len(o.Platforms) == 0 {
		o.Platforms = []string{""}
	}
	l := &list{index: map[string]int{}}
	for _, p := range o.Platforms {
		e, err := newEvaluation(f, o, p, images, l)
		if err != nil {
			return nil, err
		}
		if err := e.run(ctx); err != nil {
			return nil, err
		}
	}
	return l.all, nil
}

// list collects sources, each once.
type list struct {
	all   []Source
	index map[string]int
}

func (l *list) add(s Source, u Use) error {
	key := strings.Join([]string{string(s.Kind), s.Identifier, s.Platform, s.Checksum, s.Remote}, "\x00")
	i, ok := l.index[key]
	if !ok {
		if len(l.all) == maxSources {
			return fault.Usagef("more than %d sources", maxSources)
		}
		i = len(l.all)
		l.all, l.index[key] = append(l.all, s), i
	}
	if have := &l.all[i].Uses; !slices.Contains(*have, u) {
		*have = append(*have, u)
	}
	return nil
}

// operation is the source operation that a state is made of, as BuildKit names it.
func operation(ctx context.Context, st llb.State) (string, map[string]string, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return "", nil, err
	}
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.Unmarshal(dt); err != nil {
			return "", nil, err
		}
		if src := op.GetSource(); src != nil {
			return src.Identifier, maps.Clone(src.Attrs), nil
		}
	}
	return "", nil, fault.Usagef("no source")
}
