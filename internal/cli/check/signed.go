package check

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Wanted says who must have signed: an identity, a key, or, where both are left out, whom
// the trust bundle pins.
type Wanted struct{ o verifyOptions }

// AddFlags adds the flags of hallmark verify that say it.
func (w *Wanted) AddFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&w.o.keys, "key", nil, "want a signature by the public key in `FILE`; may be repeated: any of them")
	f.StringVar(&w.o.identity.Subject, "identity", "", "want a signature by this `IDENTITY`: an e-mail address, a workflow's URI")
	f.StringVar(&w.o.identity.Issuer, "issuer", "", "`URL` of the issuer that vouched for the identity")
	f.StringVar(&w.o.trust, "trust", "", "trust bundle, a `FILE` that hallmark trust keeps")
	f.StringVar(&w.o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
}

// Signed judges who signed an image, as hallmark verify does. Where nobody is wanted and
// nobody is pinned, it is denied.
func (a *Commands) Signed(ctx context.Context, w *Wanted, image string) (gate.Result, error) {
	q, err := w.o.requirements(a)
	if err != nil {
		return gate.Result{}, err
	}
	w.o.program = a.Program
	j, err := a.newJob(ctx, &w.o, q)
	if err != nil {
		return gate.Result{}, err
	}
	if !j.demands(image) {
		return gate.Result{}, fault.Hint(fault.Usagef("nobody said who must have signed %s", image),
			"give --identity and --issuer, or --key; or pin the signer once: hallmark trust pin %s", image)
	}
	return j.judge(ctx, image)
}

// SignedBy names whose signature counted.
func SignedBy(r gate.Result) (policy.Fact, bool) {
	for _, t := range r.Tried {
		if t.Counts && t.Fact != nil {
			return *t.Fact, true
		}
	}
	return policy.Fact{}, false
}
