package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/cache"
	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/visibility"
)

// cacheSuffix makes of an image's repository the one of its caches, where none is named.
const cacheSuffix = "-cache"

// buildCache is what a trusted build takes of earlier ones and leaves for later ones.
type buildCache struct {
	repository registry.Ref // zero: the one beside the image
	scope      string
	mode       string // "min" or "max"; "" is min

	dir     string       // of both content stores; "" before there are any
	build   *cache.Build // nil: nobody signs, and so nothing is taken or left
	found   *cache.Found // that is taken
	keeps   bool
	reasons []policy.Reason // why something was not taken or left
}

// parseCache reads --cache REPOSITORY[,mode=min|max][,scope=NAME]; nil for "".
func parseCache(text string) (*buildCache, error) {
	if text == "" {
		return nil, nil
	}
	name, rest, _ := strings.Cut(text, ",")
	c := &buildCache{}
	var err error
	if c.repository, err = registry.ParseRef(name); err != nil {
		return nil, err
	}
	if c.repository.Scheme != registry.SchemeRegistry || !strings.HasSuffix(name, c.repository.Repository) {
		return nil, fault.Usagef("--cache %s: want HOST/REPOSITORY, without tag or digest: entries get their own", name)
	}
	c.repository.Tag = ""
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(part, "=")
		switch {
		case key == "mode" && c.mode == "" && (value == "min" || value == "max"):
			c.mode = value
		case key == "scope" && c.scope == "" && inputs.IsScope(value):
			c.scope = value
		default:
			return nil, fault.Usagef("--cache %s: %q is not accepted; want mode=min, mode=max or scope=NAME, once", text, part)
		}
	}
	return c, nil
}

// cacheOf takes from the inputs whether there is a cache, and how it is called; --cache says
// only where.
func (j *buildJob) cacheOf(in *inputs.Inputs) error {
	switch {
	case j.cache != nil && (!in.Cache || j.cache.mode != "" || j.cache.scope != ""):
		return fault.Usagef("--cache and --inputs: --cache names the repository alone, and the inputs say cache: true, cache-mode and cache-scope")
	case !in.Cache, j.cache == nil && in.Output == inputs.OutputLocal: // which a note says
		return nil
	case j.cache == nil:
		j.cache = &buildCache{}
	}
	j.cache.mode, j.cache.scope = in.CacheMode, in.CacheScope
	return nil
}

// named gives targets of one bake file caches of their own.
func (c *buildCache) named(target string, many bool) {
	switch {
	case c == nil:
	case c.scope == "":
		c.scope = target
	case many:
		c.scope += "/" + target
	}
}

// takes reports whether steps may come from a cache.
func (c *buildCache) takes(o build.Options) bool { return c != nil && !o.NoCache }

// prepareCache settles for whom entries are, and whether this build leaves one. Nothing that
// is wrong with a cache denies a build.
func (j *buildJob) prepareCache(ctx context.Context, src *git.Source, signing *buildSigning, keeps bool) error {
	c := j.cache
	if c == nil {
		return nil
	}
	at := c.repository
	if at.Host == "" {
		at = j.image
		at.Repository, at.Tag = at.Repository+cacheSuffix, ""
	}
	if at.Host == "" {
		return nil
	}
	who, err := signing.signer.Who(ctx)
	if err != nil {
		return err
	}
	b := &cache.Build{Job: j.trusted.claims.OfJob(), Who: who.String()}
	if b.Verifier, b.Signer, err = j.consumer(ctx, &who); err != nil {
		return err
	}
	if b.Repo, err = j.app.RegistryClient().Open(ctx, at); err != nil {
		return err
	}
	if b.Job {
		b.This = cache.OfCertificate(j.trusted.extensions)
	} else {
		b.This = &cache.Entry{Repository: j.location.URL, Commit: src.Git.CommitChecksum, Ref: src.Git.Ref}
	}
	if b.Default, err = src.DefaultBranch(ctx); err != nil {
		c.note(cache.CodeUnused, "the default branch could not be found out, and nothing that it made is taken: "+err.Error())
	}
	b.This.Scope, b.This.Platforms = cmp.Or(c.scope, j.o.options.Target, "buildkit"), append([]string{}, j.o.options.Platforms...)
	slices.Sort(b.This.Platforms)
	if b.This.Network = trusted.NetworkHost; j.trusted.hermetic {
		b.This.Network = trusted.NetworkNone
	}
	if c.build = b; !keeps {
		return ctx.Err()
	}
	return j.keepsCache(ctx)
}

// prepareTry is prepareCache for a build that is only tried: nothing of it is kept or signed,
// and whose entries it may take only an identity says.
func (j *buildJob) prepareTry(ctx context.Context, src *git.Source) error {
	if j.cache == nil {
		return nil
	}
	var signing *buildSigning
	var d policy.Decision
	err := errors.New("nobody is asked to log in for a build that is not kept")
	if o := &j.o.signer; !j.app.Interactive() || o.key != "" || o.identityToken != "" {
		signing, d, err = j.whoSigns(ctx, src)
	}
	if err == nil && !d.Allowed {
		err = errors.New(d.Reasons[0].String())
	}
	if err != nil {
		j.cache.note(cache.CodeUnused, "nothing is taken from the cache, as there is no identity: "+err.Error())
		return ctx.Err()
	}
	return j.prepareCache(ctx, src, signing, false)
}

// keepsCache decides whether this build leaves an entry.
func (j *buildJob) keepsCache(ctx context.Context) error {
	c := j.cache
	if why := c.build.Keeps(); why != nil {
		c.reasons = append(c.reasons, why...)
		return nil
	}
	if j.trusted.build.Private {
		repo := c.build.Repo
		err := hidden(ctx, repo.Ref(), visibility.Registry, func(ctx context.Context) ([]string, error) {
			probe, err := cache.Probe(ctx, repo)
			if err != nil {
				return nil, err
			}
			return j.app.privateImages(probe.String())(ctx)
		})
		if err != nil {
			c.note(cache.CodePublic, "the source is private, and nothing that its steps made is left where others may read it: "+err.Error())
			return ctx.Err()
		}
	}
	c.keeps = true
	return nil
}

// hidden is an error where everybody may read what a repository has, or where that could
// not be found out. Who can reach the registry at all comes first, as nothing is sent for that.
func hidden(ctx context.Context, ref registry.Ref, within func(context.Context, registry.Ref) (string, error), look privateFunc) error {
	if why, err := within(ctx, ref); err != nil || why != "" {
		return err
	}
	why, err := look(ctx)
	if err == nil && len(why) == 0 {
		err = errors.New("everybody can read " + ref.Name())
	}
	return err
}

func (c *buildCache) note(code, message string) {
	r := policy.Reason{Code: code, Message: message}
	if c.build != nil {
		r.Subject = c.build.Repo.Ref().Name()
	}
	c.reasons = append(c.reasons, r)
}

// findCache looks for an entry, when it is known what will run and before that starts: the
// provenance says which one was taken.
func (j *buildJob) findCache(ctx context.Context) error {
	c := j.cache
	if c == nil || c.build == nil {
		return nil
	}
	c.build.This.Builder = j.trusted.version(c.build.This.Builder.Workflow)
	if c.dir == "" {
		var err error
		if c.dir, err = os.MkdirTemp("", "hallmark-cache-"); err != nil {
			return err
		}
	}
	switch {
	case !c.takes(j.o.options):
		return nil
	case j.sources != nil && j.sources.Proxied():
		c.note(cache.CodeUnused, "a source policy judges what steps request (exec.proxy): all of them run, and nothing is taken from the cache")
		return nil
	}
	found, why, err := c.build.Find(ctx)
	c.reasons = append(c.reasons, why...)
	if err != nil || found == nil {
		return err
	}
	why, err = found.Fetch(ctx, c.build.Repo, filepath.Join(c.dir, "from"))
	if c.reasons = append(c.reasons, why...); err != nil || why != nil {
		return err
	}
	c.found = found
	j.trusted.cache = &trusted.CacheEntry{Repository: c.build.Repo.Ref().Name(), Digest: evidence.Digest(found.Desc.Digest), Ref: found.Entry.Ref, Commit: found.Entry.Commit}
	return nil
}

// version is that of the builder: what was verified to run.
func (t *trustedJob) version(workflow string) cache.Builder {
	b := cache.Builder{Hallmark: version, File: t.builder.Digest, Workflow: workflow}
	for i := range t.tools {
		switch tool := &t.tools[i]; tool.Name {
		case "buildkitd":
			b.BuildKit = tool.SHA256
		case "runc":
			b.Runc = tool.SHA256
		}
	}
	return b
}

// request is the part of a build's request about its cache.
func (c *buildCache) request() *build.Cache {
	if c == nil || c.build == nil {
		return nil
	}
	r := &build.Cache{All: c.mode == "max"}
	if c.found != nil {
		r.From, r.Digest = filepath.Join(c.dir, "from"), evidence.Digest(c.found.Desc.Digest)
	}
	if c.keeps {
		r.To = filepath.Join(c.dir, "to")
	}
	return r
}

// keepCache signs what BuildKit left and lets later builds find it. The build is complete by
// then; only that ctx ended is an error.
func (j *buildJob) keepCache(ctx context.Context, made evidence.Digest, signing *buildSigning, answer *buildAnswer) error {
	c := j.cache
	if c == nil || !c.keeps {
		return nil
	}
	kept, err := j.leave(ctx, made, signing)
	if err != nil {
		c.note(cache.CodeNotKept, "the build is complete, and left nothing in the cache: "+err.Error())
		return ctx.Err()
	}
	answer.trusted().CacheKept = kept
	return nil
}

func (j *buildJob) leave(ctx context.Context, made evidence.Digest, signing *buildSigning) (string, error) {
	c := j.cache
	if made == "" {
		return "", errors.New("BuildKit wrote none")
	}
	m, err := cache.Open(filepath.Join(c.dir, "to"), made)
	if err != nil {
		return "", err
	}
	repo, entry := c.build.Repo, c.build.This
	name := repo.RefOf(m.Desc.Digest)
	if c.found != nil && c.found.Desc.Digest == m.Desc.Digest && c.found.Entry.Ref == entry.Ref {
		return name, nil // it is what the tag has
	}
	predicate, err := entry.JSON()
	if err != nil {
		return "", err
	}
	st, err := sign.AttestStatement("", evidence.Digest(m.Desc.Digest), cache.PredicateType, predicate)
	if err != nil {
		return "", err
	}
	if err := m.Push(ctx, repo, c.found); err != nil {
		return "", err
	}
	if err := signing.attest(ctx, sign.Target{Repo: repo, Desc: m.Desc}, st); err != nil {
		return "", err
	}
	// As later builds will judge it: what they would not take gets no tag.
	_, why, err := c.build.Check(ctx, m.Desc, entry.Ref)
	if why != nil {
		err = errors.New(why[0].String())
	}
	if err != nil {
		return "", err
	}
	return name, c.build.Name(ctx, m)
}

// attest signs a statement about what nobody but later builds will look at.
func (s *buildSigning) attest(ctx context.Context, at sign.Target, st *sign.Statement) error {
	err := s.agree(ctx, at, []*sign.Statement{st})
	if err == nil {
		_, err = s.signer.Attach(ctx, at, st)
	}
	return err
}

// close removes the content stores.
func (c *buildCache) close() error {
	if c == nil || c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// warnings are the reasons, for the answer.
func (c *buildCache) warnings() []policy.Reason {
	if c == nil {
		return nil
	}
	return c.reasons
}
