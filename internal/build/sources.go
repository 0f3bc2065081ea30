package build

import (
	"context"
	"encoding/json"
	"errors"
	"path"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"

	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// SourcePolicies judge everything that a build uses: images, git checkouts, downloads
// and folders, and what RUN steps request when a policy wants the daemon's proxy.
type SourcePolicies struct {
	Policies []SourcePolicy // all must allow; at least one
	Resolver sourcepolicy.Resolver
	Locked   sourcepolicy.Lock // the commit's hallmark.lock; nil without one
	Fresh    bool              // the daemon was started for this build: nothing of other builds is in its cache

	caps map[string]bool
}

// SourcePolicy is one of them.
type SourcePolicy struct {
	*sourcepolicy.Policy
	Name string // without a path of this machine: it goes into the provenance
	From string // FromOperator or FromSource
}

// Where a policy is from.
const (
	FromOperator = "operator" // who builds; it cannot be changed by the source
	FromSource   = "source"   // the commit that is built; it can only forbid more
)

// UsedPolicy is a policy as provenance and answers name it.
type UsedPolicy struct {
	Name   string          `json:"name"`
	From   string          `json:"from"`
	Digest evidence.Digest `json:"digest"` // of its files and imports, with their names
	// Read are the files of its folder that it read while it decided: lists, keys, …
	Read []sourcepolicy.ReadFile `json:"read,omitempty"`
}

// policiesAttr is the option of the build under which the provenance lists the
// policies, as JSON (buildDefinition.externalParameters.request.args).
const policiesAttr = "hallmark:source-policies"

// Used are the policies as provenance and answers name them, with what they have read by
// now.
func (p *SourcePolicies) Used() []UsedPolicy {
	var out []UsedPolicy
	for _, s := range p.Policies {
		out = append(out, UsedPolicy{s.Name, s.From, s.Digest(), s.Read()})
	}
	return out
}

// record is what stands in the provenance; "" when nothing is judged.
func (p *SourcePolicies) record() string {
	if p == nil {
		return ""
	}
	text, _ := json.Marshal(p.Used())
	return string(text)
}

// maxSolves bounds how often a build is asked for until its provenance names all that
// the policies read.
const maxSolves = 4

// recorded builds, and again while the policies have read files that the provenance
// would not name: BuildKit takes the arguments that stand in it before it asks about the
// first source. The second time it has all results already.
func (r Request) recorded(solve gateway.SolveRequest, build func(gateway.SolveRequest) (*gateway.Result, error)) (*gateway.Result, error) {
	for range maxSolves {
		record := r.Sources.record()
		if r.Sources != nil {
			solve.FrontendOpt[policiesAttr] = record
		}
		res, err := build(solve)
		if err != nil || r.Sources.record() == record {
			return res, err
		}
	}
	return nil, errors.New("the source policies read other files each time")
}

// Ask asks the policies which capabilities they want of the build. It comes before
// [Run], and Fresh is said by then. An error means that ctx ended.
func (p *SourcePolicies) Ask(ctx context.Context, o Options) (policy.Decision, error) {
	caps, d, err := p.set().Caps(ctx, o.env(), p.build(o))
	p.caps = caps
	return d, err
}

func (p *SourcePolicies) set() *sourcepolicy.Set {
	var all []*sourcepolicy.Policy
	for _, s := range p.Policies {
		all = append(all, s.Policy)
	}
	return sourcepolicy.NewSet(all...)
}

// build is what policies are told about the build. Before they have said whether they
// want the proxy, Cache is what holds without it.
func (p *SourcePolicies) build(o Options) *sourcepolicy.Build {
	return &sourcepolicy.Build{Network: !o.Hermetic, Cache: !p.Fresh && !o.NoCache && !p.Proxied()}
}

// Proxied reports whether a policy wants that what RUN steps request goes through the
// daemon's proxy and is judged, too. Ask comes first.
func (p *SourcePolicies) Proxied() bool { return p.caps[sourcepolicy.CapExecProxy] }

// env is what policies are told about the build, as buildx tells it.
func (o Options) env() sourcepolicy.Env {
	e := sourcepolicy.Env{Labels: o.Labels, Target: o.Target, Filename: "Dockerfile"}
	if o.File != "" {
		e.Filename = path.Base(o.File)
	}
	if len(o.Args) > 0 {
		e.Args = map[string]*string{}
	}
	for name, value := range o.Args {
		e.Args[name] = &value
	}
	return e
}

// sourceGate is the session of one build; nil when nothing is judged.
type sourceGate struct {
	session *sourcegate.Session
	proxy   bool
}

// open makes the session and has the daemon ask it.
func (p *SourcePolicies) open(ctx context.Context, c *client.Client, r Request, opt *client.SolveOpt, shown *progress) (*sourceGate, error) {
	if p == nil {
		return nil, nil
	}
	platform, err := ownPlatform(ctx, c)
	if err != nil {
		return nil, err
	}
	g := &sourceGate{proxy: p.Proxied()}
	g.session = sourcegate.New(sourcegate.Config{
		Policies: p.set(), Login: r.Logins.secret, Env: r.Options.env(), Platform: platform, Resolver: p.Resolver, Proxy: g.proxy, Locked: p.Locked,
		Build: p.build(r.Options), Tell: shown.judged,
	})
	opt.SourcePolicyProvider, opt.ProxyNetwork = g.session.Attachable(), g.proxy
	return g, nil
}

// ownPlatform is the platform that the daemon builds for when nobody says one.
func ownPlatform(ctx context.Context, c *client.Client) (string, error) {
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return "", fault.Unreachablef("asking BuildKit for its platform: %w", err)
	}
	if len(workers) == 0 || len(workers[0].Platforms) == 0 {
		return "", errors.New("BuildKit does not say for which platform it builds")
	}
	return platforms.Format(platforms.Normalize(workers[0].Platforms[0])), nil
}

// supported reports why the daemon cannot be asked to let the policies judge.
func (g *sourceGate) supported(caps apicaps.CapSet) *policy.Reason {
	switch {
	case g == nil:
	case caps.Supports(pb.CapSourcePolicySession) != nil:
		return &policy.Reason{Code: sourcegate.CodeNotAsked, Message: "this BuildKit does not ask source policies", Hint: "use BuildKit 0.27 or newer"}
	case g.proxy && caps.Supports(pb.CapExecMetaNetworkProxy) != nil:
		return &policy.Reason{Code: sourcegate.CodeNotAsked, Message: "a source policy wants to judge the requests of RUN steps (exec.proxy), and this BuildKit cannot let it",
			Hint: "use BuildKit 0.31 or newer"}
	}
	return nil
}

// outage is the service that did not answer, when that alone denied.
func (g *sourceGate) outage() error {
	if g == nil {
		return nil
	}
	return g.session.Outage()
}

func (g *sourceGate) denied() bool { return g != nil && g.session.Denied() }

func (g *sourceGate) decision() policy.Decision {
	if g == nil {
		return policy.Decision{Allowed: true}
	}
	return g.session.Decision()
}

func (g *sourceGate) sources() []sourcegate.Source {
	if g == nil {
		return nil
	}
	return g.session.Sources()
}
