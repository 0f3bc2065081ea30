package sourcepolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Bounds of one evaluation.
const (
	maxPasses     = 256   // of all policies together; each finds something new out
	maxAsks       = 20000 // facts that are fetched
	maxPassAsks   = 4000  // of one pass
	maxConcurrent = 8     // sources that are asked about at the same time
	maxPins       = 4     // images that were pinned, one after another
)

// Set is policies that must all allow.
type Set struct{ policies []*Policy }

// NewSet makes a set. Policies are asked in this order, and the first that denies
// speaks for all.
func NewSet(policies ...*Policy) *Set { return &Set{policies: slices.Clone(policies)} }

// Policies are those of the set.
func (s *Set) Policies() []*Policy { return slices.Clone(s.policies) }

// Request is one question: may this source be used?
type Request struct {
	Source   Source
	Env      Env       // Depth and CapsRequest are set here
	Build    *Build    // nil: not said
	Locked   *Locked   // what hallmark.lock says; nil: there is no lock
	Known    Facts     // what the caller knows of the source already
	Now      time.Time // the decision's one time; zero is now
	Resolver Resolver  // nil: nothing can be found out
}

// Decision is the answer.
type Decision struct {
	policy.Decision
	Source    Source          // what may be used: the source, or the image that the policies pinned it to
	Pinned    evidence.Digest // "" when no policy pinned it
	Input     *Input          // what was known in the end of the source that was asked for
	Asked     []string        // facts that were fetched: "image.config", "material 2: image.labels"
	Passes    int             // evaluations of a policy
	Now       time.Time       // the time that policies were told
	Cacheable bool            // the same input at another time gets the same answer
	// Unknown is why facts that the policies needed are not known; nil when they denied
	// for themselves. Its fault.Kind tells an outage from what cannot be.
	Unknown error
}

// Evaluate asks all policies. An error means that ctx ended; what went wrong
// otherwise denies.
func (s *Set) Evaluate(ctx context.Context, r Request) (Decision, error) {
	e := s.Begin(r)
	for {
		d, wants, err := e.Step(ctx)
		if err != nil {
			return Decision{}, err
		}
		if len(wants) == 0 {
			return d, nil
		}
		if err := e.fetch(ctx, r.Resolver, wants); err != nil {
			return Decision{}, err
		}
	}
}

// Want is facts that a policy asked for.
type Want struct {
	Source Source
	Asks   []Ask
	Root   bool // it is the source in question, not a material of it

	node *node
	keys map[string]bool // of Asks
}

// Evaluation is an Evaluate whose caller finds the facts out itself, such as the
// callback of a BuildKit session, which is called again with them. It is for one
// goroutine.
type Evaluation struct {
	set   *Set
	req   Request
	root  *node
	known map[string]*known
	named map[*Policy]map[string]bool // of said, what a policy comes to by a name that it puts together

	sandboxed bool // this is the process of sandboxed policies

	at       int                      // the policy that is being asked
	pins     map[evidence.Digest]bool // of this round, by all policies
	pinned   []evidence.Digest        // of the rounds before
	first    *node                    // the source as it was asked for
	asked    []string
	passes   int
	denied   *policy.Decision
	unknown  error
	warnings []policy.Reason
}

// Begin starts an evaluation.
func (s *Set) Begin(r Request) *Evaluation {
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	r.Env.Depth, r.Env.CapsRequest = 0, false
	e := &Evaluation{set: s, req: r, known: map[string]*known{}, pins: map[evidence.Digest]bool{}}
	if len(s.policies) == 0 {
		e.deny(policy.Reason{Code: rego.CodeDenied, Message: "no policy was given, so nothing is allowed"})
		return e
	}
	e.setRoot(r.Source)
	if e.denied == nil {
		e.root.learn(r.Known)
		e.first = e.root
	}
	return e
}

func (e *Evaluation) setRoot(src Source) {
	in, err := SourceToInput(src)
	if err != nil {
		e.deny(policy.Reason{Code: CodeUnsupported, Message: fmt.Sprintf("%s cannot be judged: %v", src.shown(), err),
			Subject: src.shown(), Hint: "sources are images, git checkouts, http and https downloads and folders of the client"})
		return
	}
	e.root = &node{src: src, named: in, known: e.knownOf(src)}
}

func (e *Evaluation) deny(reasons ...policy.Reason) {
	d := policy.Deny(reasons...)
	e.denied = &d
}

// Step evaluates until the decision is there, or until facts are wanted, which the
// caller then hands to [Evaluation.Learn] before the next step. An error means that
// ctx ended.
func (e *Evaluation) Step(ctx context.Context) (Decision, []Want, error) {
	for e.denied == nil {
		if e.at == len(e.set.policies) {
			if e.settled() {
				return e.decision(policy.Decision{Allowed: true}), nil, nil
			}
			continue
		}
		if e.passes++; e.passes > maxPasses || len(e.asked) > maxAsks {
			e.deny(reasonOf(rego.CodeEval, e.root.src, "the policies ask for more than %d facts in %d passes", len(e.asked), e.passes))
			break
		}
		p := e.set.policies[e.at]
		pass, value, denied, err := e.pass(ctx, p)
		if err != nil {
			return Decision{}, nil, err
		}
		if len(pass.wants) > 0 {
			return Decision{}, pass.list(), nil
		}
		pass.decide(value, denied)
		switch {
		case !pass.decision.Allowed:
			e.denied, e.unknown = &pass.decision, joined(pass.failures)
		default:
			e.warn(pass.decision.Warnings)
			maps.Copy(e.pins, pass.pins)
			e.at++
		}
	}
	return e.decision(*e.denied), nil, nil
}

// settled reports whether the policies are done with the source: they pinned it to
// nothing else than what it is. Otherwise the image that they pinned is asked about.
func (e *Evaluation) settled() bool {
	pins := slices.Sorted(maps.Keys(e.pins))
	if len(pins) > 1 {
		e.deny(reasonOf(CodePin, e.root.src, "the policies pin %s to %d different digests: %s", e.root.src.shown(), len(pins), join(pins)))
		return false
	}
	if len(pins) == 0 || e.root.known.digest(e.root) == pins[0] {
		return true
	}
	if len(e.pinned) == maxPins {
		e.deny(reasonOf(CodePin, e.root.src, "the policies pin %s to another digest each time: %s", e.first.src.shown(), join(append(e.pinned, pins...))))
		return false
	}
	src, err := e.root.src.Pin(pins[0])
	if err != nil {
		e.deny(reasonOf(CodePin, e.root.src, "%v", err))
		return false
	}
	e.pinned, e.pins, e.at = append(e.pinned, pins[0]), map[evidence.Digest]bool{}, 0
	e.setRoot(src)
	return false
}

func join(list []evidence.Digest) string {
	var s []string
	for _, d := range list {
		s = append(s, string(d))
	}
	return strings.Join(s, ", ")
}

// digest is what an image is known to be, "" when it is not.
func (k *known) digest(n *node) evidence.Digest {
	if n.named.Image != nil && n.named.Image.Checksum != "" {
		return evidence.Digest(n.named.Image.Checksum)
	}
	return k.facts.Checksum
}

// warnings that policies which allow gave, for the decision.
func (e *Evaluation) warn(w []policy.Reason) { e.warnings = append(e.warnings, w...) }

func (e *Evaluation) decision(d policy.Decision) Decision {
	out := Decision{Decision: d, Source: e.req.Source, Asked: e.asked, Passes: e.passes, Now: e.req.Now, Cacheable: true, Unknown: e.unknown}
	out.Warnings = append(out.Warnings, e.warnings...)
	for _, p := range e.set.policies {
		out.Cacheable = out.Cacheable && p.Cacheable()
	}
	if e.first != nil {
		out.Input = e.filled(e.first)
	}
	if d.Allowed && len(e.pinned) > 0 {
		out.Source, out.Pinned = e.root.src, e.pinned[len(e.pinned)-1]
	}
	return out
}

// filled is what is known of a source and its materials.
func (e *Evaluation) filled(n *node) *Input {
	in := *n.input()
	in.Env, in.Build = e.req.Env, e.req.Build
	in.Env.Depth = n.depth
	e.lockedInput(n, &in)
	if in.Image == nil {
		return &in
	}
	image := *in.Image
	if image.Provenance != nil && len(n.children) > 0 {
		provenance := *image.Provenance
		for _, c := range n.children {
			provenance.Materials = append(provenance.Materials, *e.filled(c))
		}
		image.Provenance = &provenance
	}
	in.Image = &image
	return &in
}

// Learn takes what was found out about a wanted source. Asks of the want that the
// facts do not answer are not known from now on, with err as the reason.
func (e *Evaluation) Learn(w Want, f Facts, err error) {
	w.node.learn(f)
	for _, a := range w.Asks {
		e.asked = append(e.asked, label(w.node, a))
		if !w.node.known.facts.has(a) {
			w.node.known.fail(a, cmp.Or(err, fmt.Errorf("it was not found out")))
		}
	}
}

func label(n *node, a Ask) string {
	if n.name == "" {
		return string(a.Fact)
	}
	return n.name + ": " + string(a.Fact)
}

// fetch asks the resolver, for different sources at the same time.
func (e *Evaluation) fetch(ctx context.Context, r Resolver, wants []Want) error {
	var mu sync.Mutex
	group, bounded := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrent)
	for _, w := range wants {
		group.Go(func() error {
			var facts Facts
			err := fault.Usagef("nothing can be looked up here")
			var failed error = err
			if r != nil {
				facts, failed = r.Resolve(bounded, w.Source, w.Asks)
			}
			mu.Lock()
			defer mu.Unlock()
			e.Learn(w, facts, failed)
			return ctx.Err()
		})
	}
	return group.Wait()
}

// shown is the source's name without what may be a secret.
func (s Source) shown() string {
	id := s.Identifier
	if scheme, rest, ok := strings.Cut(id, "://"); ok && scheme != "docker-image" && scheme != "local" {
		prefix := ""
		if scheme == "git" && isGitTransport(rest) {
			prefix, id = gitScheme, rest
		}
		id = prefix + fault.Redact(id)
	}
	return clip(id)
}

func reasonOf(code string, src Source, format string, args ...any) policy.Reason {
	return policy.Reason{Code: code, Message: fmt.Sprintf(format, args...), Subject: src.shown()}
}

// joined is all failures, each of which is said once.
func joined(failures []error) error {
	said := map[string]bool{}
	var once []error
	for _, err := range failures {
		if !said[err.Error()] {
			said[err.Error()] = true
			once = append(once, err)
		}
	}
	return errors.Join(once...)
}
