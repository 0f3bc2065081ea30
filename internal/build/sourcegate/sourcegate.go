// Package sourcegate answers a BuildKit daemon that asks, before it uses a source,
// whether it may: with the decision of source policies (package sourcepolicy), over
// the session that the build's client owns (BuildKit, sourcepolicy/policysession).
//
// # Where facts come from
//
// What the daemon will use, the daemon is asked about: an image's digest and
// configuration, a git ref and its objects, the checksum of a download. Everything
// about an image that is attached to it (signatures, attestations) and all about
// materials is looked up by us, an image by the digest that the daemon resolved. The
// daemon is never asked for an attestation chain: BuildKit 0.27 to 0.34 ends with a
// nil dereference when an image is no OCI index (source/containerimage/source.go).
//
// # What was judged is what is used
//
// A decision that rests on a fact holds for what the fact was about. So such an
// answer is never "allow" but first "use this one": the image by the digest, the
// checkout and the download by the checksum that was judged. A tag, a ref or a body
// that changes between the question and its use then fails the build.
//
// # Denials
//
// Every denial is kept, whatever the daemon, a frontend or a step makes of it:
// requests of RUN steps that go through the daemon's proxy get a 403, which a step
// can swallow. [Session.Decision] denies when anything was denied.
//
// Trusted: the daemon, to ask and to use what it was told. Not trusted: everything
// that it asks about, and policies that came with the source.
package sourcegate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	sourcepb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// Limits of one build.
const (
	maxSources     = 20_000 // that are told apart; a step can ask for URL after URL
	maxDenials     = 1_000  // that are told one by one
	maxConversions = 4      // of one source, one after another
	maxMisses      = 4      // answers of the daemon without a fact that it was asked for
	maxLookups     = 8      // sources that are looked up at the same time
)

// Config is what a session decides with.
type Config struct {
	Policies *sourcepolicy.Set
	Env      sourcepolicy.Env
	Build    *sourcepolicy.Build
	Platform string                // of images whose platform the daemon does not say: its own
	Resolver sourcepolicy.Resolver // finds out what the daemon does not say; nil: nothing
	Locked   sourcepolicy.Lock     // nil: there is none
	// Login is the secret to fetch a git repository with, "" without one; submodules: those of
	// the repository are fetched, too. Nil: none.
	Login func(remote string, submodules bool) string
	Now   time.Time // the time of all decisions of the build; zero is now
	// Tell is told what was decided about a source and when the daemon asked, each answer
	// once. Nil: nobody. It is called by several goroutines.
	Tell  func(Source, time.Time)
	Proxy bool // steps reach the network through the daemon's proxy
}

// Session is one build's. It is safe for concurrent use.
type Session struct {
	cfg Config

	mu      sync.Mutex
	sources map[string]*source
	tagged  map[string]bool    // NAME:TAG@DIGEST of images by tag, with the digest that the daemon said
	byName  map[string]*source // the first of each image that is named by digest
	asked   []*source          // in the order of the first question
	denied  []policy.Reason    // all, also what was denied again
	more    int                // denials beyond maxDenials
	refused bool               // some of them for another reason than an outage
}

// New makes a session.
func New(cfg Config) *Session {
	if cfg.Now.IsZero() {
		cfg.Now = time.Now()
	}
	return &Session{cfg: cfg, sources: map[string]*source{}, tagged: map[string]bool{}, byName: map[string]*source{}}
}

// Attachable is what answers the daemon.
func (s *Session) Attachable() session.Attachable { return policysession.NewPolicyProvider(s.check) }

// Source is what was decided about a source.
type Source struct {
	Source   string          `json:"source"` // as BuildKit names it, without secrets
	Platform string          `json:"platform,omitempty"`
	Allowed  bool            `json:"allowed"`
	UsedAs   string          `json:"usedAs,omitempty"` // the digest that it was pinned to, by a policy or by what was judged
	Asked    []string        `json:"asked,omitempty"`  // facts that policies asked for: "image.config"
	Reasons  []policy.Reason `json:"reasons,omitempty"`
	Warnings []policy.Reason `json:"-"`
	decided  bool
}

// Sources are all that the daemon asked about, in the order of the first question.
func (s *Session) Sources() []Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Source
	for _, k := range s.asked {
		if !k.verdict.decided {
			continue
		}
		v := k.verdict
		for next := k.became; next != nil && next != k && v.Allowed; next = next.became {
			v.Allowed = next.verdict.decided && next.verdict.Allowed
			if next.conversions > maxConversions {
				break
			}
		}
		out = append(out, v)
	}
	return out
}

// Decision denies when anything was denied, and when the daemon asked nothing: then
// it does not know source policies. The warnings are those of all sources.
func (s *Session) Decision() policy.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := policy.Decision{Allowed: len(s.denied) == 0 && len(s.asked) > 0, Reasons: slices.Clone(s.denied)}
	if s.more > 0 {
		d.Reasons = append(d.Reasons, policy.Reason{Code: "POLICY_DENIED", Message: fmt.Sprintf("and %d more denials", s.more)})
	}
	if len(s.asked) == 0 {
		d.Reasons = append(d.Reasons, policy.Reason{Code: CodeNotAsked, Message: "BuildKit asked the source policies about nothing, so nothing that it used was judged",
			Hint: "use BuildKit 0.27 or newer"})
	}
	for _, k := range s.asked {
		d.Warnings = append(d.Warnings, k.verdict.Warnings...)
	}
	return d
}

// Outage is why nothing was allowed or denied for good: all denials are for what a
// service did not answer. Nil otherwise.
func (s *Session) Outage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.denied) == 0 || s.refused {
		return nil
	}
	return fault.Unreachablef("%s", s.denied[0].Message)
}

// Denied reports whether anything was denied so far.
func (s *Session) Denied() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.denied) > 0
}

// Codes of reasons (docs/reasons.md), beside those of the policy engine.
const (
	CodeNotAsked = "SOURCE_NOT_ASKED" // the daemon does not ask policies
	CodeUnbound  = "SOURCE_UNBOUND"   // what was judged cannot be made what is used
)

// check is called by the daemon for each source, again with what it found out when we
// asked for that, and again with what it was told to use instead.
func (s *Session) check(ctx context.Context, req *policysession.CheckPolicyRequest) (*policysession.DecisionResponse, *gateway.ResolveSourceMetaRequest, error) {
	op := req.GetSource().GetSource()
	if op == nil {
		return deny(s.deny(nil, policy.Reason{Code: sourcepolicy.CodeUnsupported, Message: "BuildKit asks about a source without naming it"})), nil, nil
	}
	k := s.source(s.sourceOf(op, req.Platform))
	if k == nil {
		return deny(s.deny(nil, *tooMany())), nil, nil
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	defer s.tell(k, time.Now())
	k.learn(req.Source)
	s.learnTag(k)
	if to := s.withLogin(k.src); to != nil { // before anything is looked up
		if why := s.convert(k, *to, sourcepolicy.Decision{}); why != nil {
			return deny(s.deny(k, *why)), nil, nil
		}
		return convert(to), nil, nil
	}
	out, err := s.evaluate(ctx, k)
	k.judged = true
	switch {
	case err != nil:
		return nil, nil, err
	case out.request != nil:
		out.request.Source, out.request.Platform = op, req.Platform
		return nil, out.request, nil
	case out.instead == nil && !out.decision.Allowed:
		return deny(s.denyFor(out.decision.Unknown, k, out.decision.Reasons...)), nil, nil
	}
	to, why := out.instead, (*policy.Reason)(nil)
	if to == nil {
		to, why = s.use(k, out.decision)
	}
	if why == nil && to != nil {
		why = s.convert(k, *to, out.decision)
	}
	switch {
	case why != nil:
		return deny(s.deny(k, *why)), nil, nil
	case to != nil:
		return convert(to), nil, nil
	}
	if k.tag() && !k.answered(sourcepolicy.ImageChecksum) {
		// The frontend will ask about the digest of the tag.
		r := k.request([]sourcepolicy.Ask{{Fact: sourcepolicy.ImageChecksum}})
		r.Source, r.Platform = op, req.Platform
		return nil, r, nil
	}
	s.allow(k, out.decision)
	return &policysession.DecisionResponse{Action: sourcepb.PolicyAction_ALLOW}, nil, nil
}

// tell tells what was decided about a source, when that is news. One that only becomes the
// same source with a login was not judged, and what it becomes will be. k.turn is held.
func (s *Session) tell(k *source, asked time.Time) {
	s.mu.Lock()
	v := k.verdict
	s.mu.Unlock()
	if s.cfg.Tell == nil || !v.decided || v.Allowed && !k.judged || k.told != nil && k.told.Allowed == v.Allowed && k.told.UsedAs == v.UsedAs {
		return
	}
	k.told = &v
	s.cfg.Tell(v, asked)
}

// convert tells the daemon to use another source, which it then asks about.
func convert(to *sourcepolicy.Source) *policysession.DecisionResponse {
	return &policysession.DecisionResponse{Action: sourcepb.PolicyAction_CONVERT,
		Update: &pb.SourceOp{Identifier: to.Identifier, Attrs: to.Attrs}}
}

// deny is the daemon's answer for reasons, which it puts into its error.
func deny(reasons []policy.Reason) *policysession.DecisionResponse {
	d := &policysession.DecisionResponse{Action: sourcepb.PolicyAction_DENY}
	for _, r := range reasons {
		d.DenyMessages = append(d.DenyMessages, &policysession.DenyMessage{Message: r.String()})
	}
	return d
}

func (s *Session) deny(k *source, reasons ...policy.Reason) []policy.Reason {
	return s.denyFor(nil, k, reasons...)
}

// denyFor denies because something is not known; nil: for another reason.
func (s *Session) denyFor(unknown error, k *source, reasons ...policy.Reason) []policy.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = s.refused || fault.KindOf(unknown) != fault.Unreachable
	for _, r := range reasons {
		switch {
		case slices.Contains(s.denied, r): // the same source, asked again
		case len(s.denied) == maxDenials:
			s.more++
		default:
			s.denied = append(s.denied, r)
		}
	}
	if k != nil {
		k.verdict.decided, k.verdict.Allowed, k.verdict.Reasons = true, false, reasons
	}
	return reasons
}

func (s *Session) allow(k *source, d sourcepolicy.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &k.verdict
	v.decided, v.Allowed, v.Reasons = true, true, nil
	v.Asked, v.Warnings = d.Asked, d.Warnings
}

// source is the session's record of a source; nil when there are too many.
func (s *Session) source(src sourcepolicy.Source) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.record(src)
	if k != nil && !k.listed {
		k.listed = true
		s.asked = append(s.asked, k)
	}
	return k
}

// record is called with mu held.
func (s *Session) record(src sourcepolicy.Source) *source {
	key := keyOf(src)
	k := s.sources[key]
	if k == nil && len(s.sources) < maxSources {
		k = newSource(src)
		s.sources[key] = k
		if src.IsImage() && k.digest() != "" {
			// Frontends name an image by the digest that they were told, with other attributes.
			name := src.Identifier + " " + src.Platform
			if same := s.byName[name]; same != nil {
				k.inherit(same)
			} else {
				s.byName[name] = k
			}
		}
	}
	return k
}

// material is the record of a material. What it is, nobody but its provenance says, and
// we look it up by that: none of that is known of a source of the build with its name.
func (s *Session) material(src sourcepolicy.Source) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := "material " + keyOf(src)
	k := s.sources[key]
	if k == nil && len(s.sources) < maxSources {
		k = newSource(src)
		s.sources[key] = k
	}
	return k
}

func keyOf(src sourcepolicy.Source) string {
	key, _ := json.Marshal([]any{src.Identifier, src.Platform, src.Attrs}) // map keys are sorted
	return string(key)
}

func (s *Session) sourceOf(op *pb.SourceOp, p *pb.Platform) sourcepolicy.Source {
	src := sourcepolicy.Source{Identifier: op.Identifier, Attrs: maps.Clone(op.Attrs), Platform: s.cfg.Platform}
	if p != nil && p.OS != "" {
		src.Platform = platforms.Format(platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}))
	}
	return src
}

// use makes sure that what was judged is what is used. It gives the source that the
// daemon is to use instead, nil when it can use the one that it asked about.
func (s *Session) use(k *source, d sourcepolicy.Decision) (*sourcepolicy.Source, *policy.Reason) {
	to := k.src
	switch {
	case d.Pinned != "":
		to = d.Source
	case len(d.Asked) > 0:
		var why *policy.Reason
		if to, why = s.bind(k); why != nil {
			return nil, why
		}
	}
	if keyOf(to) == keyOf(k.src) {
		return nil, nil
	}
	return &to, nil
}

// convert records that a source becomes another, which the daemon then asks about.
func (s *Session) convert(k *source, to sourcepolicy.Source, d sourcepolicy.Decision) *policy.Reason {
	if k.conversions == maxConversions {
		return &policy.Reason{Code: sourcepolicy.CodePin, Subject: k.src.Shown(),
			Message: fmt.Sprintf("the policies pin %s to another digest each time", k.src.Shown())}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.record(to)
	if next == nil {
		return tooMany()
	}
	next.conversions = max(next.conversions, k.conversions+1)
	if sameContent(k, to) {
		next.inherit(k)
	}
	k.became = next
	v := &k.verdict
	v.decided, v.Allowed, v.Reasons, v.UsedAs = true, true, nil, shownDigest(to)
	v.Asked = d.Asked
	return nil
}

func tooMany() *policy.Reason {
	return &policy.Reason{Code: sourcepolicy.CodeUnsupported, Message: fmt.Sprintf("the build uses more than %d sources", maxSources)}
}

// sameContent reports whether what is known of a source holds for what it becomes.
func sameContent(k *source, to sourcepolicy.Source) bool {
	d := k.digest()
	return !to.IsImage() || d != "" && strings.HasSuffix(to.Identifier, "@"+string(d))
}

// shownDigest is what a source was pinned to.
func shownDigest(src sourcepolicy.Source) string {
	if _, digest, ok := strings.Cut(src.Identifier, "@sha"); ok && src.IsImage() {
		return "sha" + digest
	}
	return cmp.Or(src.Attrs[pb.AttrGitChecksum], src.Attrs[pb.AttrHTTPChecksum])
}

// bind is the source by the digest or checksum that was judged.
func (s *Session) bind(k *source) (sourcepolicy.Source, *policy.Reason) {
	src := k.src
	scheme, _, _ := strings.Cut(src.Identifier, "://")
	switch scheme {
	case "docker-image":
		if d := k.digest(); d != "" {
			to, err := src.Pin(d)
			if err != nil {
				return src, &policy.Reason{Code: CodeUnbound, Message: err.Error(), Subject: src.Shown()}
			}
			if to.Identifier == src.Identifier { // named by digest: nothing to add
				return src, nil
			}
			return to, nil
		}
	case "git":
		return bindCheckout(k)
	case "http", "https":
		if d := k.digest(); d != "" && src.Attrs[pb.AttrHTTPChecksum] == "" {
			if s.cfg.Proxy && len(src.Attrs) == 0 {
				return src, &policy.Reason{Code: CodeUnbound, Subject: src.Shown(),
					Message: fmt.Sprintf("a policy asks for the content of %s, and what a RUN step downloads is not what was looked at", src.Shown()),
					Hint:    "download it with ADD --checksum instead of in the step"}
			}
			return withAttr(src, pb.AttrHTTPChecksum, string(d)), nil
		}
	}
	return src, nil
}

// bindCheckout is a checkout by the object that was judged. A checksum that the source
// has already binds it to nothing as long as it is a prefix, or the commit of a tag
// that another tag object may lead to.
func bindCheckout(k *source) (sourcepolicy.Source, *policy.Reason) {
	found := k.checkout()
	id, given := found.Checksum, k.src.Attrs[pb.AttrGitChecksum]
	if id == "" || id == given || k.namedByCommit(id) {
		return k.src, nil
	}
	if !strings.HasPrefix(id, given) && !strings.HasPrefix(found.CommitChecksum, given) {
		return k.src, &policy.Reason{Code: CodeUnbound, Subject: k.src.Shown(),
			Message: fmt.Sprintf("%s was looked at as %s, which is not the checksum that the build demands of it", k.src.Shown(), id),
			Hint:    "find out who moved the ref, then build again"}
	}
	return withAttr(k.src, pb.AttrGitChecksum, id), nil
}

func withAttr(src sourcepolicy.Source, name, value string) sourcepolicy.Source {
	attrs := maps.Clone(src.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs[name] = value
	src.Attrs = attrs
	return src
}
