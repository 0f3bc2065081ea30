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
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/build/dial"
	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// DefaultBuilderID is the builder.id of provenance when none is given: Hallmark
// on a machine that its user controls (SLSA provenance v1, "builder.id").
const DefaultBuilderID = assess.LocalBuilder

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
	Dir       string // folder of the commit that is the context; "" is all of it
	File      string // Dockerfile inside Dir; default "Dockerfile"
	Target    string
	Platforms []string // "linux/amd64"; default the daemon's own
	Args      map[string]string
	Labels    map[string]string
	NoCache   bool
	BuilderID string // default DefaultBuilderID

	// Annotations of the image's manifest; a name may have "manifest:", "index:" or
	// "manifest,index:" before it, as with docker buildx.
	Annotations map[string]string
	// Contexts are named contexts: "docker-image://…" or "https://…". They are sources as
	// all others, and judged as they are.
	Contexts map[string]string
	Hermetic bool     // steps have no network
	ShmSize  string   // of steps' /dev/shm, "64m"
	Ulimits  []string // of steps, "nofile=1024:2048"
}

// Request is one build.
type Request struct {
	Context  Context
	Options  Options
	Image    registry.Ref         // where to push: host and repository count, the tag is set by Tag
	Repo     *registry.Repository // the same repository, to read back from
	Also     []registry.Ref       // further repositories that the same image is pushed to
	Insecure bool                 // push over plain HTTP
	Sources  *SourcePolicies      // nil: what the build uses is not judged
	Trusted  *Trusted             // nil: a plain build
	Logins   *GitLogins           // nil: none; otherwise Sources must be there
	Cache    *Cache               // nil: none
	policies *string              // record of a piece that another machine built; nil: of Sources

	Progress *Progress // nil: it is not shown
}

// Result is what was pushed, read back from the registry.
type Result struct {
	Index        ocispec.Descriptor
	Images       []ocispec.Descriptor // platform manifests, with platform
	Attestations []ocispec.Descriptor // BuildKit attestation manifests, one for each image
	IndexBytes   []byte
	pieces       []*Piece // that it was put together of

	Cache   evidence.Digest     // manifest in the store of Request.Cache; "" when none was written
	Sources []sourcegate.Source // what source policies were asked about
	Excerpt string              // of a build that was denied: lines of the Dockerfile around the source; "" when unknown
}

// Error is a build that failed: what BuildKit said, and what helps to see why.
type Error struct {
	Err     error
	Excerpt string // lines of the Dockerfile around the failing one; "" when unknown
	Log     string // the end of the failing step's output
}

func (e *Error) Error() string { return "building: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Client speaks to a BuildKit daemon.
type Client = client.Client

// Version is what a daemon says that it is.
func Version(ctx context.Context, c *Client) (string, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return "", fault.Unreachablef("asking BuildKit for its version: %w", err)
	}
	return info.BuildkitVersion.Version, nil
}

// Connect connects to a BuildKit daemon at an address that package dial knows. It asks
// the daemon for its workers, so that a wrong address is known before anything else.
func Connect(ctx context.Context, address string) (*client.Client, error) {
	address, opts, err := dial.Options(address)
	if err != nil {
		return nil, err
	}
	c, err := client.New(ctx, address, opts...)
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

// Run builds, pushes by digest and reads back. A failed step is an *Error. When a
// source policy denied anything, the decision says so and nothing was pushed; the
// result then has only what was asked, and where in the Dockerfile it stands.
func Run(ctx context.Context, c *client.Client, r Request) (*Result, policy.Decision, error) {
	opt, err := r.solveOpt(r.push())
	if err != nil {
		return nil, policy.Decision{}, err
	}
	made, d, err := solve(ctx, c, r, opt)
	if err != nil || !d.Allowed {
		return made.result(), d, err
	}
	res, err := readBack(ctx, r, made.response["containerimage.digest"])
	if err != nil {
		return nil, policy.Decision{}, err
	}
	res.Sources, res.Cache = made.sources, made.cache
	return res, d, nil
}

// solved is what became of a build, wherever its result went.
type solved struct {
	response map[string]string // of the exporter
	cache    evidence.Digest   // that was exported
	sources  []sourcegate.Source
	excerpt  string
}

func (s *solved) result() *Result {
	if s == nil {
		return nil
	}
	return &Result{Sources: s.sources, Excerpt: s.excerpt, Cache: s.cache}
}

// solve has BuildKit build, and says what the policies say.
func solve(ctx context.Context, c *client.Client, r Request, opt *client.SolveOpt) (*solved, policy.Decision, error) {
	shown := newProgress(r.Progress)
	gate, err := r.Sources.open(ctx, c, r, opt, shown)
	if err != nil {
		return nil, policy.Decision{}, err
	}
	status := make(chan *client.SolveStatus)
	done := make(chan struct{})
	go func() {
		defer close(done)
		shown.follow(ctx, status)
	}()
	request := gateway.SolveRequest{Frontend: opt.Frontend, FrontendOpt: maps.Clone(opt.FrontendAttrs), Evaluate: true}
	var unable *policy.Reason
	resp, err := c.Build(ctx, *opt, "hallmark", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		if unable = gate.supported(g.BuildOpts().LLBCaps); unable != nil {
			return nil, errDenied
		}
		return r.recorded(request, func(s gateway.SolveRequest) (*gateway.Result, error) {
			res, err := g.Solve(ctx, s)
			if err == nil && !gate.decision().Allowed {
				err = errDenied // a step, or a frontend, took no notice of it; what is returned here is pushed
			}
			return res, err
		})
	}, status)
	<-done
	if unable != nil {
		return &solved{}, policy.Deny(*unable), nil
	}
	d := gate.decision()
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, policy.Decision{}, ctx.Err()
	case err != nil && !gate.denied() && !errors.Is(err, errDenied):
		return nil, policy.Decision{}, r.Logins.explain(explain(err, shown))
	case gate.outage() != nil:
		return nil, policy.Decision{}, gate.outage()
	case !d.Allowed:
		made := &solved{sources: gate.sources()}
		if err != nil {
			made.excerpt = explain(err, shown).Excerpt
		}
		return made, d, nil
	}
	return &solved{response: resp.ExporterResponse, cache: exported(resp.ExporterResponse), sources: gate.sources()}, d, nil
}

// errDenied ends a build whose daemon would go on.
var errDenied = errors.New("a source policy denies the build")

// explain makes BuildKit's error readable.
func explain(err error, shown *progress) *Error {
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
