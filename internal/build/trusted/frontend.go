package trusted

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Frontend is what reads the Dockerfile.
type Frontend struct {
	Image   string // by digest; "" is the one that is built into BuildKit; by tag: a release whose signature is to be looked at first
	Cmdline string // the whole value of the "# syntax" line
	Syntax  string // release by tag that it is, "docker/dockerfile:1"; "" for an image by digest, and without a line
}

// Frontend decides what reads a Dockerfile: the frontend in BuildKit, or the image of
// its "# syntax" line when the builder file names that very digest. A line that asks
// for the official frontend's release 1, or for a minor release not above that of the
// named BuildKits, gets the one in BuildKit, which is it. What is decided here is what
// BuildKit is told to use: it does not read the line again.
func (b *Builder) Frontend(name string, text []byte) (Frontend, *policy.Reason) {
	image, cmdline, _, found := parser.DetectSyntax(text)
	if !found {
		return Frontend{}, nil
	}
	deny := func(why string) *policy.Reason {
		return &policy.Reason{Code: CodeFrontend, Subject: name, Message: fmt.Sprintf("%s wants the frontend %q, %s", name, image, why),
			Hint: "write docker/dockerfile:1, or no syntax line, to use the frontend in the pinned BuildKit; or write the image's digest there and into the builder file's frontends"}
	}
	more := strings.TrimSpace(strings.TrimPrefix(cmdline, image)) != "" || strings.ContainsRune(cmdline, '\n')
	if b.hasBuiltIn(image) && !more {
		return Frontend{Syntax: image}, nil
	}
	if ref, err := registry.ParseRef(image); err == nil && ref.Digest == "" && !more && b.Release(ref) != nil {
		tagged := ref.Name() + ":" + ref.Tag
		return Frontend{Image: tagged, Cmdline: tagged, Syntax: image}, nil
	}
	ref, err := ByDigest(image)
	if err != nil {
		return Frontend{}, deny("which is no image by digest: whoever can move its tag could make the image")
	}
	exact := ref.Name() + "@" + string(ref.Digest)
	if !slices.Contains(b.Frontends, exact) {
		return Frontend{}, deny("which the builder file does not name")
	}
	if more {
		return Frontend{}, deny("with more words behind it, which are instructions of another language")
	}
	return Frontend{Image: exact, Cmdline: exact}, nil
}

// hasBuiltIn is whether image names, by its tag, a release of the official frontend that
// every BuildKit of the file has in itself. Its release 1.N is made of the source of
// BuildKit v0.(N+6), from 1.6 on (moby/buildkit, "dockerfile: update version to 1.28").
func (b *Builder) hasBuiltIn(image string) bool {
	tag, ok := strings.CutPrefix(strings.TrimPrefix(image, "docker.io/"), "docker/dockerfile:1")
	if !ok || tag == "" {
		return ok
	}
	wanted, ok := minor(tag)
	return ok && !slices.ContainsFunc(b.BuildKit, func(p Program) bool {
		v, ok := strings.CutPrefix(p.Version, "v0.")
		v, _, _ = strings.Cut(v, ".")
		has, known := minor("." + v)
		return !ok || !known || has < wanted+6
	})
}

// minor reads ".27".
func minor(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(text, "."))
	return n, err == nil && n >= 0 && n < 1000 && text == "."+strconv.Itoa(n)
}
