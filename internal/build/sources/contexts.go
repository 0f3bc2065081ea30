package sources

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Frontends whose language is the one that is read here.
var dockerfileFrontends = map[string]bool{
	"docker.io/docker/dockerfile":          true,
	"docker.io/docker/dockerfile-upstream": true,
}

// roots are the sources that stand in no instruction: the frontend, the Dockerfile
// and the build context.
func (e *evaluation) roots(ctx context.Context) error {
	syntax, at := e.o.Args["BUILDKIT_SYNTAX"], Use{Instruction: "BUILDKIT_SYNTAX", Written: e.o.Args["BUILDKIT_SYNTAX"]}
	if syntax == "" {
		word, written, where, _ := parser.DetectSyntax(e.file.Text)
		syntax, at = word, Use{Line: line(where), Instruction: "# syntax", Written: written}
	}
	if syntax != "" {
		ref, err := reference.ParseNormalizedNamed(syntax)
		if err != nil {
			return e.explainAt(at.Line, fmt.Errorf("# syntax=%s: not the name of an image", syntax))
		}
		if !dockerfileFrontends[ref.Name()] {
			return e.explainAt(at.Line, fault.Hint(fmt.Errorf("# syntax=%s: what a file in another language fetches cannot be known without building", syntax),
				"only docker/dockerfile and docker/dockerfile-upstream have the Dockerfile's language"))
		}
		s, _, err := e.open(ctx, "docker-image://"+reference.TagNameOnly(ref).String(), syntax, e.build)
		if err != nil {
			return e.explainAt(at.Line, err)
		}
		if err := e.found.add(s, at); err != nil {
			return err
		}
	}
	if e.o.Context != "" {
		s, _, err := e.open(ctx, e.o.Context, "context", e.target)
		if err != nil {
			return err
		}
		return e.found.add(s, Use{Instruction: "context", Written: e.o.Context})
	}
	for _, name := range []string{"dockerfile", "context"} {
		if err := e.found.add(localSource(name), Use{Instruction: "context", Written: name}); err != nil {
			return err
		}
	}
	return nil
}

func (e *evaluation) explainAt(line int, err error) error {
	return fmt.Errorf("%s:%d: %w", e.file.Name, line, err)
}

func localSource(name string) Source {
	return Source{Kind: Local, Name: name, Identifier: "local://" + name}
}

// namedContext is what a named context puts in the place of an image or stage, ""
// without one (frontend/dockerui, Client.NamedContext).
func (e *evaluation) namedContext(name string, platform *ocispec.Platform) (string, error) {
	if len(e.o.Contexts) == 0 {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("%s: not a name that an image could have: %w", name, err)
	}
	name = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	p := e.target
	if platform != nil {
		p = *platform
	}
	if v, ok := e.o.Contexts[name+"::"+platforms.FormatAll(platforms.Normalize(p))]; ok {
		return v, nil
	}
	return e.o.Contexts[name], nil
}

// open is the source that a context's address names, with the configuration if it is
// an image (frontend/dockerui, NamedContext.Load).
func (e *evaluation) open(ctx context.Context, input, name string, platform ocispec.Platform) (Source, Config, error) {
	scheme, rest, ok := strings.Cut(input, ":")
	if strings.HasPrefix(scheme, "git@") {
		scheme = "git"
	}
	rest = strings.TrimPrefix(rest, "//")
	switch {
	case !ok:
		return localSource(name), Config{}, nil // a folder
	case scheme == "docker-image":
		return e.image(ctx, rest, platform)
	case scheme == "oci-layout":
		return layoutSource(rest, platform)
	case scheme == "local":
		return localSource(rest), Config{}, nil
	case scheme == "git" || scheme == "ssh" || scheme == "http" || scheme == "https":
		ref, isGit, err := dfgitutil.ParseGitRef(input)
		switch {
		case err != nil && isGit:
			return Source{}, Config{}, fault.Usagef("context %s: %w", fault.Redact(input), err)
		case err == nil:
			s, err := gitSource(ctx, ref)
			return s, Config{}, err
		case scheme == "http" || scheme == "https":
			if _, err := url.Parse(input); err != nil {
				return Source{}, Config{}, fault.Usagef("context: an address that is no URL")
			}
			id, attrs, err := operation(ctx, llb.HTTP(input, llb.Filename("context")))
			return Source{Kind: HTTP, Name: input, Identifier: id, Attrs: attrs}, Config{}, err
		}
	}
	return Source{}, Config{}, fault.Hint(fault.Usagef("context %s: not known how to fetch this", fault.Redact(input)),
		"a folder, docker-image://IMAGE, oci-layout://FOLDER@DIGEST, or the URL of a file or git repository")
}

func (e *evaluation) image(ctx context.Context, name string, platform ocispec.Platform) (Source, Config, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return Source{}, Config{}, fmt.Errorf("%s: not the name of an image: %w", name, err)
	}
	full := reference.TagNameOnly(ref).String()
	p := platforms.FormatAll(platforms.Normalize(platform))
	config, err := e.images.Config(ctx, full, p)
	if err != nil {
		return Source{}, Config{}, err
	}
	id, attrs, err := operation(ctx, llb.Image(full, llb.Platform(platform)))
	return Source{Kind: Image, Name: full, Identifier: id, Attrs: attrs, Platform: p, Digest: config.Digest}, config, err
}

func layoutSource(name string, platform ocispec.Platform) (Source, Config, error) {
	ref, err := reference.Parse(name)
	if d, ok := ref.(reference.Digested); err == nil && ok {
		return Source{Kind: Layout, Name: name, Identifier: "oci-layout://" + name, Digest: d.Digest().String(),
			Platform: platforms.FormatAll(platforms.Normalize(platform))}, Config{}, nil
	}
	return Source{}, Config{}, fault.Usagef("context oci-layout://%s: want FOLDER@DIGEST", name)
}
