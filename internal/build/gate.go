package build

import (
	"context"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Policy decides which commits may be built. A denial is a decision, an error
// means that it could not be found out.
type Policy interface {
	Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error)
}

// Gate judges a fetched source: first the tag itself (every TAG_ code), which no
// policy can wave through, then the owner's policy over what was verified. The
// input is returned for whoever wants to show or record it.
func Gate(ctx context.Context, src *git.Source, trust git.Trust, p Policy, now time.Time) (policy.Input, policy.Decision, error) {
	why := src.Verify(trust, now)
	in := policy.Input{Kind: "build", Action: "build", Now: now.UTC(), Git: &src.Git}
	if why != nil {
		return in, policy.Deny(*why), nil
	}
	d, err := p.Evaluate(ctx, in)
	if err != nil {
		return in, policy.Decision{}, err
	}
	return in, d, nil
}
