package sourcegate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
)

// source is what the session knows of a source of the build, or of a material.
type source struct {
	src sourcepolicy.Source

	turn   sync.Mutex                  // one question of the daemon about it at a time
	judged bool                        // by the policies; with turn held
	told   *Source                     // what was told of it last; with turn held
	wanted map[string]sourcepolicy.Ask // what the daemon was asked for, by Ask.Key
	misses map[string]int              // answers of the daemon without it

	mu      sync.Mutex
	answers map[string]answer // by Ask.Key; the first answer stays; of a source of the build, what the daemon said or we looked up under the digest that it said

	// With the session's mu held:
	listed      bool
	conversions int     // that led to it
	became      *source // what it was converted to
	verdict     Source
}

func newSource(src sourcepolicy.Source) *source {
	k := &source{src: src, wanted: map[string]sourcepolicy.Ask{}, misses: map[string]int{}, answers: map[string]answer{}}
	k.verdict.Source = src.Shown()
	if src.IsImage() {
		k.verdict.Platform = src.Platform
	}
	return k
}

// answer is what was found out for one ask.
type answer struct {
	facts sourcepolicy.Facts
	err   error
}

func (k *source) answer(a sourcepolicy.Ask, f sourcepolicy.Facts, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.answers[a.Key()]; !ok {
		k.answers[a.Key()] = answer{f, err}
	}
}

func (k *source) known(a sourcepolicy.Ask) (answer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, ok := k.answers[a.Key()]
	return found, ok
}

// inherit takes over what is known of the same content under another name.
func (k *source) inherit(from *source) {
	if k == from {
		return
	}
	from.mu.Lock()
	all := maps.Clone(from.answers)
	from.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, a := range all {
		if _, ok := k.answers[key]; !ok {
			k.answers[key] = a
		}
	}
}

// digest is the image's, or the download's, that the daemon found; "" when it was not
// asked.
func (k *source) digest() evidence.Digest {
	for _, f := range []sourcepolicy.Fact{sourcepolicy.ImageChecksum, sourcepolicy.HTTPChecksum} {
		if a, ok := k.known(sourcepolicy.Ask{Fact: f}); ok && a.err == nil {
			return a.facts.Checksum
		}
	}
	if _, d, ok := strings.Cut(k.src.Identifier, "@"); ok && k.src.IsImage() {
		if digest, err := evidence.ParseDigest(d); err == nil {
			return digest
		}
	}
	return ""
}

// checkout is what the daemon found; the zero fact when it was not asked.
func (k *source) checkout() sourcepolicy.GitRefFact {
	if a, ok := k.known(sourcepolicy.Ask{Fact: sourcepolicy.GitRef}); ok && a.err == nil && a.facts.Git != nil {
		return *a.facts.Git
	}
	return sourcepolicy.GitRefFact{}
}

func (k *source) namedByCommit(id string) bool {
	_, fragment, _ := strings.Cut(k.src.Identifier, "#")
	ref, _, _ := strings.Cut(fragment, ":")
	return ref == id
}

// learn takes what the daemon found out. Each fact is an answer of its own; one that
// was found before must be found again.
func (k *source) learn(r *gateway.ResolveSourceMetaResponse) {
	if i := r.GetImage(); i != nil {
		d, err := evidence.ParseDigest(i.Digest)
		if err == nil && k.digest() != "" && k.digest() != d {
			err = fmt.Errorf("it was %s at first and is %s now", k.digest(), d)
		}
		k.answer(sourcepolicy.Ask{Fact: sourcepolicy.ImageChecksum}, sourcepolicy.Facts{Checksum: d}, err)
		if len(i.Config) > 0 {
			var c *sourcepolicy.ImageConfiguration
			if err == nil {
				c, err = sourcefacts.ParseConfiguration(i.Config)
			}
			k.answer(sourcepolicy.Ask{Fact: sourcepolicy.ImageConfig}, sourcepolicy.Facts{Checksum: d, Config: c}, err)
		}
	}
	if g := r.GetGit(); g != nil {
		ref := sourcepolicy.GitRefFact{Ref: g.Ref, Checksum: g.Checksum, CommitChecksum: g.CommitChecksum}
		if ref.CommitChecksum == "" {
			ref.CommitChecksum = ref.Checksum
		}
		var err error
		if known := k.checkout().Checksum; known != "" && known != ref.Checksum {
			err = fmt.Errorf("it was %s at first and is %s now", known, ref.Checksum)
		}
		k.answer(sourcepolicy.Ask{Fact: sourcepolicy.GitRef}, sourcepolicy.Facts{Git: &ref}, err)
		if len(g.CommitObject) > 0 {
			o := &sourcepolicy.GitObjectsFact{GitRefFact: ref, Commit: bytes.Clone(g.CommitObject)}
			if len(g.TagObject) > 0 {
				o.Tag = bytes.Clone(g.TagObject)
			}
			k.answer(sourcepolicy.Ask{Fact: sourcepolicy.GitObjects}, sourcepolicy.Facts{Git: &ref, Objects: o}, err)
		}
	}
	if h := r.GetHTTP(); h != nil {
		k.learnDownload(h)
	}
	if r.GetImage() == nil && r.GetGit() == nil && r.GetHTTP() == nil {
		return // the first question
	}
	for key, a := range k.wanted {
		if _, ok := k.known(a); ok {
			delete(k.wanted, key)
		} else if k.misses[key]++; k.misses[key] == maxMisses {
			k.answer(a, sourcepolicy.Facts{}, errors.New("BuildKit does not say it"))
		}
	}
}

func (k *source) learnDownload(h *gateway.ResolveSourceHTTPResponse) {
	d, err := evidence.ParseDigest(h.Checksum)
	if err == nil && k.digest() != "" && k.digest() != d {
		err = fmt.Errorf("it was %s at first and is %s now", k.digest(), d)
	}
	k.answer(sourcepolicy.Ask{Fact: sourcepolicy.HTTPChecksum}, sourcepolicy.Facts{Checksum: d}, err)
	c := h.ChecksumResponse
	if c == nil {
		return
	}
	sum, wrong := evidence.ParseDigest(c.Digest)
	if wrong != nil {
		return // a miss
	}
	a := sourcepolicy.Ask{Fact: sourcepolicy.HTTPDigest, Algorithm: sum.Algorithm(), Suffix: bytes.Clone(c.Suffix)}
	k.answer(a, sourcepolicy.Facts{Checksum: d, Digests: map[string]evidence.Digest{a.Key(): sum}}, err)
}

// outcome is a decision or what the daemon must be asked first.
type outcome struct {
	decision sourcepolicy.Decision
	request  *gateway.ResolveSourceMetaRequest
	instead  *sourcepolicy.Source // what the policies pinned it to, before they are done with that
}

// evaluate asks the policies, with all that is known, until they decide or want to
// know something from the daemon. It is k's turn. The evaluation begins anew each time
// that the daemon calls: what it knows is kept, and a pass is cheap.
func (s *Session) evaluate(ctx context.Context, k *source) (outcome, error) {
	judged, digest := s.named(k)
	r := sourcepolicy.Request{Source: judged, Env: s.cfg.Env, Build: s.cfg.Build, Now: s.cfg.Now}
	r.Known.Checksum = digest
	if s.cfg.Locked != nil {
		r.Locked = s.cfg.Locked(judged)
	}
	e := s.cfg.Policies.Begin(r)
	for {
		d, wants, err := e.Step(ctx)
		if err != nil || len(wants) == 0 {
			return outcome{decision: d}, err
		}
		for _, w := range wants {
			if w.Root && keyOf(w.Source) != keyOf(judged) {
				return outcome{instead: &w.Source}, nil // the daemon will ask about it
			}
		}
		request, denied, err := s.find(ctx, k, e, wants)
		switch {
		case err != nil:
			return outcome{}, err
		case denied != nil:
			return outcome{decision: sourcepolicy.Decision{Decision: policy.Deny(*denied)}}, nil
		case request != nil:
			return outcome{request: request}, nil
		}
	}
}

// lookup is facts that we find out ourselves.
type lookup struct {
	want sourcepolicy.Want
	of   *source // whose answers they become
	from sourcepolicy.Source
	asks []sourcepolicy.Ask
}

// find gives an evaluation all that is known of what it wants, and finds out what is
// not. Of the source itself, what the daemon must say is asked first.
func (s *Session) find(ctx context.Context, k *source, e *sourcepolicy.Evaluation, wants []sourcepolicy.Want) (*gateway.ResolveSourceMetaRequest, *policy.Reason, error) {
	var daemon []sourcepolicy.Ask
	var lookups []lookup
	for _, w := range wants {
		of := k
		if !w.Root {
			of = s.material(w.Source)
		}
		if of == nil {
			return nil, tooMany(), nil
		}
		var ours []sourcepolicy.Ask
		for _, a := range w.Asks {
			found, ok := of.known(a)
			switch {
			case ok:
				one := w
				one.Asks = []sourcepolicy.Ask{a}
				e.Learn(one, found.facts, found.err)
			case w.Root && daemonKnows(a.Fact):
				daemon = append(daemon, a)
			default:
				ours = append(ours, a)
			}
		}
		if len(ours) == 0 {
			continue
		}
		from := w.Source
		if w.Root && k.src.IsImage() {
			d := k.digest()
			if d == "" { // the daemon says which image it is
				daemon = append(daemon, sourcepolicy.Ask{Fact: sourcepolicy.ImageChecksum})
				continue
			}
			var err error
			if from, err = k.src.Pin(d); err != nil {
				return nil, &policy.Reason{Code: CodeUnbound, Message: err.Error(), Subject: k.src.Shown()}, nil
			}
		}
		lookups = append(lookups, lookup{want: w, of: of, from: from, asks: ours})
	}
	if len(daemon) > 0 {
		return k.request(daemon), nil, nil
	}
	return nil, nil, s.lookUp(ctx, lookups)
}

// daemonKnows reports whether the daemon tells a fact about what it will use.
func daemonKnows(f sourcepolicy.Fact) bool {
	switch f {
	case sourcepolicy.ImageChecksum, sourcepolicy.ImageConfig, sourcepolicy.GitRef, sourcepolicy.GitObjects,
		sourcepolicy.HTTPChecksum, sourcepolicy.HTTPDigest:
		return true
	}
	return false
}

// hashes are those that the daemon can hash a body with.
var hashes = map[string]gateway.ChecksumRequest_ChecksumAlgo{
	"sha256": gateway.ChecksumRequest_CHECKSUM_ALGO_SHA256,
	"sha384": gateway.ChecksumRequest_CHECKSUM_ALGO_SHA384,
	"sha512": gateway.ChecksumRequest_CHECKSUM_ALGO_SHA512,
}

// request is the question to the daemon. It never asks for an attestation chain. One
// question has one hash: those that are left are asked for when that is answered.
func (k *source) request(asks []sourcepolicy.Ask) *gateway.ResolveSourceMetaRequest {
	r := &gateway.ResolveSourceMetaRequest{LogName: "source policy: looking at " + k.src.Shown()}
	for _, a := range asks {
		switch a.Fact {
		case sourcepolicy.ImageChecksum, sourcepolicy.ImageConfig:
			r.Image = &gateway.ResolveSourceImageRequest{}
		case sourcepolicy.GitRef, sourcepolicy.GitObjects:
			if r.Git == nil {
				r.Git = &gateway.ResolveSourceGitRequest{}
			}
			r.Git.ReturnObject = r.Git.ReturnObject || a.Fact == sourcepolicy.GitObjects
		case sourcepolicy.HTTPDigest:
			if r.HTTP != nil {
				continue
			}
			r.HTTP = &gateway.ResolveSourceHTTPRequest{ChecksumRequest: &gateway.ChecksumRequest{Algo: hashes[a.Algorithm], Suffix: a.Suffix}}
		}
		k.wanted[a.Key()] = a
	}
	return r
}

// lookUp finds facts out, of different sources at the same time. What cannot be found
// out is an answer, too, for the whole build.
func (s *Session) lookUp(ctx context.Context, all []lookup) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxLookups)
	for _, l := range all {
		group.Go(func() error {
			facts, err := s.resolve(ctx, l)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for _, a := range l.asks {
				l.of.answer(a, facts, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *Session) resolve(ctx context.Context, l lookup) (sourcepolicy.Facts, error) {
	if s.cfg.Resolver == nil {
		return sourcepolicy.Facts{}, errors.New("it cannot be looked up here")
	}
	facts, err := s.cfg.Resolver.Resolve(ctx, l.from, slices.Clone(l.asks))
	if !l.want.Root {
		return facts, err
	}
	// What the root itself is, the daemon says.
	d := facts.Checksum
	if want := l.of.src; want.IsImage() && d != "" && !strings.HasSuffix(l.from.Identifier, "@"+string(d)) {
		return sourcepolicy.Facts{}, fmt.Errorf("%s was found under another digest, %s", l.from.Shown(), d)
	}
	facts.Checksum = ""
	return facts, err
}
