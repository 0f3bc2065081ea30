// Package sourcefacts finds out what source policies ask about images, git checkouts
// and downloads: of a registry, of a git server and of a web server, without a build
// and without a daemon. Signatures of images are verified under the caller's own
// trust, in every format that package verify knows.
package sourcefacts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Options of New.
type Options struct {
	Registry *registry.Client // images; nil: a client with the logins of the docker configuration
	Collect  collect.Options  // limits of what is read of an image's signatures
	// Verifier gives the trust, when a signature is first asked about. Nil: nobody is
	// trusted, and no signature verifies.
	Verifier func(context.Context) (*verify.Verifier, error)
	// Pinned reports whether a signer is the one that is pinned for a repository
	// (HOST/REPOSITORY), with the origin of the log that has the signature. It is asked
	// after Verifier was; nil: nobody is.
	Pinned  func(repository string, by evidence.Signer, log string) bool
	HTTP    *http.Client // downloads; its transport is used; nil: the default one
	MaxBody int64        // bytes of a download; default 16 GiB
	// GitLogin is what a git server is shown for a repository; nil: nothing, and never for a
	// material, which whoever wrote the provenance names.
	GitLogin  func(remote string) (git.Login, error)
	GitHub    string           // GitHub's API; default "https://api.github.com"
	PlainHTTP bool             // git over plain HTTP also from other machines
	Now       func() time.Time // nil: time.Now
	UserAgent string           // default "hallmark"
}

// Resolver is a [sourcepolicy.Resolver]. What it has found out about a source stays
// as it is for its life: one Resolver serves one build or one command. It is safe for
// concurrent use.
type Resolver struct {
	o Options

	mu     sync.Mutex
	images map[string]*image
	bodies map[string]*body

	materials *budget
	verifier  func(context.Context) (*verify.Verifier, error)
}

var _ sourcepolicy.Resolver = (*Resolver)(nil)

// New makes a resolver; nothing is read or asked yet.
func New(o Options) *Resolver {
	if o.UserAgent == "" {
		o.UserAgent = "hallmark"
	}
	if o.Registry == nil {
		o.Registry = registry.NewClient(registry.Options{UserAgent: o.UserAgent})
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 30
	}
	if o.GitHub == "" {
		o.GitHub = "https://api.github.com"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Resolver{o: o, images: map[string]*image{}, bodies: map[string]*body{}, materials: &budget{bytes: maxMaterialBytes, time: maxMaterialTime}}
	r.verifier = once(o.Verifier)
	return r
}

// once keeps the trust that was read first; a failure is tried again.
func once(read func(context.Context) (*verify.Verifier, error)) func(context.Context) (*verify.Verifier, error) {
	var mu sync.Mutex
	var have *verify.Verifier
	return func(ctx context.Context) (*verify.Verifier, error) {
		mu.Lock()
		defer mu.Unlock()
		if have != nil {
			return have, nil
		}
		var err error
		if read == nil {
			have, err = verify.New(verify.Config{})
		} else {
			have, err = read(ctx)
		}
		return have, err
	}
}

// Resolve finds out what is asked. See [sourcepolicy.Resolver].
func (r *Resolver) Resolve(ctx context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	in, err := sourcepolicy.SourceToInput(src)
	if err != nil {
		return sourcepolicy.Facts{}, err
	}
	var facts sourcepolicy.Facts
	switch {
	case in.Image != nil:
		err = r.image(ctx, in.Image, asks, &facts)
	case in.Git != nil:
		err = r.git(ctx, src, in.Git, asks, &facts)
	case in.HTTP != nil:
		err = r.download(ctx, src, asks, &facts)
	default:
		err = errors.New("a folder of the client has no facts")
	}
	return facts, err
}

// each answers the asks one after another; what fails does not keep the others back.
func each(asks []sourcepolicy.Ask, answer func(sourcepolicy.Ask) error) error {
	var failed []error
	for _, a := range asks {
		if err := answer(a); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", a.Fact, err))
		}
	}
	return errors.Join(failed...)
}
