// Package build builds an image from one commit with BuildKit, pushes it by
// digest, and reads back what was pushed with its SLSA provenance.
//
// What may be asked of BuildKit is a closed list: platforms, target, build
// arguments, labels, cache or not. No secrets, no ssh, no host mounts, no exporter
// but the push. The frontend is the Dockerfile's: the caller cannot choose another,
// a "# syntax" line of the commit can, and then stands in the provenance. The
// configuration that was used stands there too (mode=max), with our builder.id.
//
// The context is the commit and nothing else. For a repository with a URL that
// BuildKit can fetch it is BuildKit's git source pinned to the commit, so that the
// provenance names the source as a resolved dependency with its digest. For any
// other, which a daemon may not be able to reach, it is the exported tree; the
// commit then stands in the provenance as vcs:source and vcs:revision, the names
// that buildx uses, and Run checks that it does.
//
// Trusted: the BuildKit daemon. Whoever controls it controls the image and its
// provenance. Not trusted: the Dockerfile and what its steps run.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// DefaultBuilderID is the builder.id of provenance when none is given: Hallmark
// on a machine that its user controls (SLSA provenance v1, "builder.id").
const DefaultBuilderID = "https://github.com/hallmark-dev/hallmark/builder/local/v1"

// Context is the commit to build; exactly one of Dir and GitURL is set.
type Context struct {
	Dir    string // the exported tree of the commit
	GitURL string // repository that the daemon fetches itself; see FetchesGit

	Remote string // vcs:source, informative: where the commit is from
	Ref    string // full name of the ref
	Commit string // vcs:revision, hexadecimal
	When   time.Time
}

// Options are all that a caller may choose about a build.
type Options struct {
	File      string // Dockerfile inside the commit; default "Dockerfile"
	Target    string
	Platforms []string // "linux/amd64"; default the daemon's own
	Args      map[string]string
	Labels    map[string]string
	NoCache   bool
	BuilderID string // default DefaultBuilderID
}

// Request is one build.
type Request struct {
	Context  Context
	Options  Options
	Image    registry.Ref         // where to push: host and repository count, the tag is set by Tag
	Repo     *registry.Repository // the same repository, to read back from
	Insecure bool                 // push over plain HTTP

	Progress ProgressMode
	Stderr   io.Writer // where progress goes
}

// Result is what was pushed, read back from the registry.
type Result struct {
	Index        ocispec.Descriptor
	Images       []ocispec.Descriptor // platform manifests, with platform
	Attestations []ocispec.Descriptor // BuildKit attestation manifests, one for each image
	IndexBytes   []byte
}

// Error is a build that failed: what BuildKit said, and what helps to see why.
type Error struct {
	Err     error
	Excerpt string // lines of the Dockerfile around the failing one; "" when unknown
	Log     string // the end of the failing step's output
}

func (e *Error) Error() string { return "building: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Connect connects to a BuildKit daemon: unix:// or tcp://. It asks the daemon
// for its workers, so that a wrong address is known before anything else.
func Connect(ctx context.Context, address string) (*client.Client, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "unix" && u.Scheme != "tcp") {
		return nil, fault.Usagef("BUILDKIT_HOST %q: want unix:///path/to/buildkitd.sock or tcp://host:port", address)
	}
	c, err := client.New(ctx, address)
	if err != nil {
		return nil, fault.Unreachablef("connecting to BuildKit: %s: %w", address, err)
	}
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	workers, err := c.ListWorkers(asking)
	if err == nil && len(workers) == 0 {
		err = errors.New("it has no workers")
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, errors.Join(fault.Hint(fault.Unreachablef("connecting to BuildKit: %s: %w", address, err),
			"BUILDKIT_HOST names this daemon; start it, or unset BUILDKIT_HOST to have one started for this build"), c.Close())
	}
	return c, nil
}

// Run builds, pushes by digest and reads back. A failed step is an *Error.
func Run(ctx context.Context, c *client.Client, r Request) (*Result, error) {
	opt, err := r.solveOpt()
	if err != nil {
		return nil, err
	}
	shown := newProgress(r.Progress, r.Stderr)
	status := make(chan *client.SolveStatus)
	done := make(chan struct{})
	go func() {
		defer close(done)
		shown.follow(ctx, status)
	}()
	resp, err := c.Solve(ctx, nil, *opt, status)
	<-done
	if err != nil {
		return nil, explain(ctx, err, shown)
	}
	digest := resp.ExporterResponse["containerimage.digest"]
	return readBack(ctx, r, digest)
}

// explain makes BuildKit's error readable.
func explain(ctx context.Context, err error, shown *progress) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{Err: errors.New(trimSolve(err.Error())), Log: shown.failure()}
	for _, src := range errdefs.Sources(err) {
		var b strings.Builder
		if src.Print(&b) == nil && b.Len() > 0 {
			e.Excerpt = strings.TrimSpace(b.String())
		}
	}
	return e
}

// trimSolve drops the wrappings that every error of a solve has.
func trimSolve(s string) string {
	for _, prefix := range []string{"failed to solve: ", "rpc error: code = Unknown desc = "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}

// Check refuses options that are not of the closed list's form.
func (o Options) Check() error {
	if o.File != "" && (path.Clean(o.File) != o.File || strings.HasPrefix(o.File, "../") || o.File == ".." || path.IsAbs(o.File)) {
		return fault.Usagef("--file %q: want a path inside the repository, like docker/Dockerfile", o.File)
	}
	for _, p := range o.Platforms {
		if parts := strings.Split(p, "/"); len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsAny(p, ", \t\n") {
			return fault.Usagef("--platform %q: want OS/ARCH or OS/ARCH/VARIANT, like linux/arm64", p)
		}
	}
	for name := range o.Args {
		if !plainName(name) {
			return fault.Usagef("--build-arg %q: not the name of a build argument", name)
		}
		if strings.HasPrefix(name, "BUILDKIT_") {
			return fault.Usagef("--build-arg %s: arguments that change BuildKit itself are not accepted", name)
		}
	}
	for name := range o.Labels {
		if name == "" || strings.ContainsAny(name, "= \t\n") {
			return fault.Usagef("--label %q: not the name of a label", name)
		}
	}
	if strings.ContainsAny(o.Target, " \t\n") {
		return fault.Usagef("--target %q: not the name of a build stage", o.Target)
	}
	u, err := url.Parse(o.BuilderID)
	if err != nil || o.BuilderID != "" && (!u.IsAbs() || strings.ContainsAny(o.BuilderID, ",\" \t\n")) {
		return fault.Usagef("--builder-id %q: want a URI", o.BuilderID)
	}
	return nil
}

func plainName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// labels are the caller's and, where they say nothing, the source's
// (OCI image-spec, annotations.md).
func (r Request) labels() map[string]string {
	l := map[string]string{"org.opencontainers.image.revision": r.Context.Commit}
	if version, ok := strings.CutPrefix(r.Context.Ref, "refs/tags/"); ok {
		l["org.opencontainers.image.version"] = version
	}
	if strings.HasPrefix(r.Context.Remote, "https://") {
		l["org.opencontainers.image.source"] = r.Context.Remote
	}
	maps.Copy(l, r.Options.Labels)
	return l
}

// frontendAttrs are the Dockerfile frontend's options.
func (r Request) frontendAttrs() map[string]string {
	o := r.Options
	attrs := map[string]string{
		"attest:provenance": "mode=max,version=v1,builder-id=" + r.BuilderID(),
		// The image is dated as the commit, not as the build (reproducible-builds.org, SOURCE_DATE_EPOCH).
		"build-arg:SOURCE_DATE_EPOCH": strconv.FormatInt(r.Context.When.Unix(), 10),
	}
	if o.File != "" {
		attrs["filename"] = o.File
	}
	if o.Target != "" {
		attrs["target"] = o.Target
	}
	if len(o.Platforms) > 0 {
		attrs["platform"] = strings.Join(o.Platforms, ",")
	}
	if o.NoCache {
		attrs["no-cache"] = ""
	}
	for k, v := range o.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range r.labels() {
		attrs["label:"+k] = v
	}
	if r.Context.GitURL != "" {
		attrs["context"] = r.gitContext()
	}
	attrs["vcs:source"], attrs["vcs:revision"] = r.Context.Remote, r.Context.Commit
	return attrs
}

// gitContext pins the daemon's git source to the commit. The ref is kept for
// the provenance; the daemon does not resolve it again, we did.
func (r Request) gitContext() string {
	q := url.Values{"checksum": {r.Context.Commit}, "submodules": {"false"}, "fetch-by-commit": {"true"}, "mtime": {"commit"}}
	if r.Context.Ref != "" {
		q.Set("ref", r.Context.Ref)
	}
	return r.Context.GitURL + "?" + q.Encode()
}

// FetchesGit reports whether BuildKit takes a URL for a git repository: over HTTP
// only with a path that ends in .git. What any other URL answers it would take
// for a Dockerfile or an archive (frontend/dockerfile/dfgitutil).
func FetchesGit(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && strings.HasSuffix(u.Path, ".git") && u.RawPath == "" && u.RawQuery == "" && u.Fragment == ""
}

// BuilderID is the builder.id that the provenance names.
func (r Request) BuilderID() string {
	if r.Options.BuilderID != "" {
		return r.Options.BuilderID
	}
	return DefaultBuilderID
}

// Tag lets the image's tag name the index. It comes last, after signing, so
// that a tag never names an image without its signatures.
func (r Request) Tag(ctx context.Context, res *Result) error {
	if r.Image.Tag == "" {
		return nil
	}
	if err := r.Repo.PushManifest(ctx, res.Index, res.IndexBytes, r.Image.Tag); err != nil {
		return fmt.Errorf("tagging %s: %w", r.Image, err)
	}
	return nil
}
