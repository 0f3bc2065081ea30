package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// anyRule is the policy of who looks for a publisher's rule: a verified one of anybody.
type anyRule struct{}

func (anyRule) Evaluate(_ context.Context, in policy.Input) (policy.Decision, error) {
	if len(rulesOf(in)) == 0 {
		return policy.Deny(policy.Reason{Code: gate.CodeNoAttestation, Subject: string(in.Image.Digest),
			Message: "no rule of who signs releases, signed by anybody, is attached to " + in.Image.Ref, Hint: "hallmark trust pin without --from-image pins who signed the image"}), nil
	}
	return policy.Decision{Allowed: true}, nil
}

func rulesOf(in policy.Input) []policy.Fact {
	var out []policy.Fact
	for _, f := range in.Attestations {
		if f.PredicateType == bundlefile.PredicateRule {
			out = append(out, f)
		}
	}
	return out
}

// signedRule is a rule, and the signature of it.
type signedRule struct {
	rule bundlefile.Rule
	by   policy.Fact
}

// pinRule pins what the publisher's rule says.
func (t *trustCommands) pinRule(ctx context.Context, o *pinOptions, bundle *bundlefile.File, ref registry.Ref) error {
	result, _, err := t.signedBy(ctx, o, bundle, ref, anyRule{})
	if err != nil {
		return err
	}
	if !result.Decision.Allowed {
		return t.Deny(result.Decision)
	}
	found, denied := followable(o, bundle, ref.Name(), rulesOf(result.Input))
	if len(found) == 0 {
		return t.Deny(policy.Deny(denied...))
	}
	newest := found[0]
	old, pinned := bundlefile.Pins(bundle.Pins).For(ref.Name())
	// Who is pinned vouches for the highest number. Before that anybody can attach one that is higher.
	shown := found[:1]
	if slices.ContainsFunc(found, func(s signedRule) bool {
		return (!pinned || s.rule.Version == newest.rule.Version) && !s.rule.Pin(time.Time{}).Same(newest.rule.Pin(time.Time{}))
	}) {
		shown = found
	}
	t.Print("%s is %s", cli.Plain(ref.String()), result.Subject.Digest)
	for _, s := range shown {
		t.Print("")
		t.Print("%s", cli.Plain(s.rule.Words()))
		t.Print("  says rule %d, signed by %s", s.rule.Version, cli.Plain(s.by.Signer.String()))
	}
	t.Print("")
	if len(shown) > 1 {
		return fault.Hint(fault.Usagef("nothing is pinned: there are %d rules, and they do not name the same signer", len(found)),
			"find out from the publisher who signs, and give --identity and --issuer, or --key; where that is one signer, --source or --log")
	}
	if pinned && old.Rule == newest.rule.Version {
		t.done("rule %d of %s is pinned already", old.Rule, cli.Plain(old.Repository))
		return nil
	}
	if !pinned && !o.named() {
		if !t.Interactive() {
			return fault.Hint(fault.Usagef("nothing is pinned: nobody has said whether that is the right publisher, and there is no terminal to ask on"),
				"find out from the publisher who signs, and give --identity and --issuer, or --key")
		}
		if err := t.confirm("Is that who must sign every image of " + cli.Plain(ref.Name())); err != nil {
			return err
		}
	}
	err = t.change(func(f *bundlefile.File) error {
		if why := f.Follow(newest.rule, newest.by, time.Now().UTC()); why != nil { // somebody else was quicker
			return t.Deny(policy.Deny(*why))
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.done("pinned: %s", cli.Plain(newest.rule.Words()))
	return nil
}

// followable are the rules that could be pinned, the newest first; denied says why others
// could not.
func followable(o *pinOptions, bundle *bundlefile.File, repository string, facts []policy.Fact) (out []signedRule, denied []policy.Reason) {
	for _, f := range facts {
		rule, why := bundlefile.RuleOf(repository, f)
		if why == nil && len(o.matching([]candidate{{pin: rule.Pin(time.Time{})}})) == 0 {
			why = &policy.Reason{Code: gate.CodeWrongIdentity, Subject: repository,
				Message: fmt.Sprintf("the rule names %s; to be pinned is %s", rule.Pin(time.Time{}).Signer(), o.want())}
		}
		if why == nil {
			probe := bundlefile.File{Pins: slices.Clone(bundle.Pins)}
			why = probe.Follow(rule, f, time.Now().UTC())
		}
		if why != nil {
			denied = append(denied, *why)
			continue
		}
		out = append(out, signedRule{rule, f})
	}
	sorted.Func(out, func(a, b signedRule) int { return bundlefile.Newest(a.rule, b.rule) })
	return out, denied
}
