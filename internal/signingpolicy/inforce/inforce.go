package inforce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/keyless"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Load compiles the files of a policy: [rules.Load], or in a process of its own. Reasons say what is
// wrong with it; an error means that it could not be tried.
type Load func(ctx context.Context, files map[string][]byte) (*rules.Policy, []policy.Reason, error)

// Options are how a store is spoken to.
type Options struct {
	Root      *trust.Root // what Config.TrustedRoot names
	Load      Load
	UserAgent string
	PlainHTTP bool             // to hosts that are not this machine
	Now       func() time.Time // nil: time.Now
	// Source is read in place of Config.Store where it is set.
	Source translog.Source
}

// Client asks a store.
type Client struct {
	chain   *chain.Client
	load    Load
	keyless approval.Keyless
	alone   bool // nobody but the operator says how old a head is
}

// Open reads the files that a configuration names and believes. The store is not asked.
func Open(c *Config, o Options) (*Client, error) {
	data, err := readBounded(c.Trust, ledger.MaxTrust)
	if err != nil {
		return nil, err
	}
	log, quorum, _, err := ledger.ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Trust, err)
	}
	source := o.Source
	switch {
	case source != nil:
	case c.remote():
		if source, err = ledger.HTTP(c.Store, ledger.HTTPOptions{UserAgent: o.UserAgent, PlainHTTP: o.PlainHTTP}); err != nil {
			return nil, err
		}
	default:
		source = ledger.Folder(c.Store)
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{o.Root}, Now: o.Now})
	if err != nil {
		return nil, err
	}
	out := &Client{load: o.Load, keyless: keyless.New(v), alone: quorum.Alone(log.Origin)}
	cfg := chain.Config{Rules: chain.Rules{Verifier: v, Updaters: c.Updaters, AnyRunner: c.AnyRunner, Keyless: out.keyless, FirstDelay: c.FirstDelay},
		Log: log, Quorum: quorum, Source: source, Floor: c.Floor, MaxAge: c.MaxAge, RequirePolicy: c.Require, Now: o.Now}
	if c.Cache != "" {
		cfg.Cache = translog.NewCache(c.Cache)
	}
	if c.Memory != "" {
		if cfg.Memory, err = chain.OpenMemory(c.Memory, log.Origin); err != nil {
			return nil, err
		}
	}
	out.chain, err = chain.New(cfg)
	return out, err
}

// Keyless verifies approvals by identities, under the configuration's trust root.
func (c *Client) Keyless() approval.Keyless { return c.keyless }

// Answer is what the store proves. Exactly one of Folder, Absent and Denied is set.
type Answer struct {
	Folder *judge.Folder
	Absent *policy.Reason // there is no policy: a notice (POLICY_NONE)
	Denied []policy.Reason
	// Warnings are for people: a newer record that waits for its time.
	Warnings []policy.Reason
}

// Ask asks which policy is in force for a repository now. What the store's client refuses is a
// denial; an error means that it could not be found out.
func (c *Client) Ask(ctx context.Context, repo chain.Repository) (*Answer, error) {
	got, err := c.chain.PolicyFor(ctx, repo)
	var refused *ledger.Refusal
	if errors.As(err, &refused) {
		return &Answer{Denied: []policy.Reason{refused.Reason}}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &Answer{}
	if got.Policy == nil {
		if len(got.Warnings) == 0 {
			return nil, errors.New("the policy store's client says neither which policy there is nor that there is none")
		}
		out.Absent = &got.Warnings[0]
		return out, nil
	}
	for _, p := range got.Pending {
		out.Warnings = append(out.Warnings, policy.Reason{Code: CodePending, Subject: p.Key,
			Message: fmt.Sprintf("version %d (%s) of the signing policy of %s waits and is in effect from %s, unless its people replace it",
				p.Version, p.Action, p.Key, later(p).UTC().Format(time.RFC3339))})
	}
	err = c.folder(ctx, got, out)
	if errors.As(err, &refused) {
		return &Answer{Denied: []policy.Reason{refused.Reason}}, nil
	}
	return out, err
}

// CodePending is a notice: a newer policy waits for its time.
const CodePending = "POLICY_PENDING"

// later is when a record is in effect.
func later(s *chain.Step) time.Time {
	if s.EffectiveAt.Before(s.LoggedAt) {
		return s.LoggedAt
	}
	return s.EffectiveAt
}

// folder makes of a result the policy that is judged with.
func (c *Client) folder(ctx context.Context, got *chain.Result, out *Answer) error {
	p := got.Policy
	s := &judge.Stored{Root: string(p.Root), Version: p.Version, Digest: string(p.Digest), OwnerID: p.OwnerID,
		StoredAt: p.LoggedAt, EffectiveAt: later(p), Resets: p.Resets, Pending: len(got.Pending) > 0, HeadTime: got.HeadTime,
		Freshness: "witnessed", Warn: p.Policy.Mode == record.Warn, Notices: got.Notices}
	if c.alone {
		s.Freshness = "operator"
	}
	for _, r := range p.PreviousRoots {
		s.PreviousRoots = append(s.PreviousRoots, string(r))
	}
	compiled, why, err := c.rules(ctx, p)
	if err != nil {
		return err
	}
	if o := got.Owner; o != nil {
		s.Owner = &judge.Owner{Authority: o.Doc, Org: input.Org{Key: o.Key, Root: string(o.Root), Version: int(o.Version), Digest: string(o.Digest)}}
		if o.Owner != nil {
			s.Owner.Org.Require, s.Owner.Org.Reserve = o.Owner.Require, o.Owner.Reserve
		}
		if o.Policy != nil {
			var more []policy.Reason
			if s.Owner.Rules, more, err = c.rules(ctx, o); err != nil {
				return err
			}
			why = append(why, more...)
		}
	}
	if len(why) > 0 {
		*out = Answer{Denied: why}
		return nil
	}
	out.Folder = &judge.Folder{Dir: p.Key, Authority: p.Doc, Rules: compiled, Stored: s}
	return nil
}

// rules are those of a record's bundle, compiled. One that does not compile is a denial.
func (c *Client) rules(ctx context.Context, s *chain.Step) (*rules.Policy, []policy.Reason, error) {
	bundle, err := c.chain.Bundle(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	files, err := rules.OpenBundle(bundle)
	if err != nil {
		return nil, []policy.Reason{{Code: rego.CodeCompile, Subject: s.Key, Message: fmt.Sprintf("version %d of the policy of %s: %v", s.Version, s.Key, err),
			Hint: "its people store a policy that compiles: hallmark signing-policy lint"}}, nil
	}
	p, why, err := c.load(ctx, files)
	for i := range why {
		if why[i].Message = why[i].Subject + ": " + why[i].Message; why[i].Hint == "" {
			why[i].Hint = "its people store a policy that compiles: hallmark signing-policy lint"
		}
		why[i].Message = fmt.Sprintf("version %d of the policy of %s: %s", s.Version, s.Key, why[i].Message)
	}
	return p, why, err
}
