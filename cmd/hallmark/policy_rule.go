package main

import (
	"context"
	"crypto/x509"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

type policyRuleOptions struct {
	signerOptions
	rule  bundlefile.Rule
	byKey string
}

func newPolicyRuleCommand(a *app) *cobra.Command {
	o := &policyRuleOptions{}
	c := &cobra.Command{
		Use:   "rule IMAGE",
		Short: "Attach to an image who signs the releases of its repository",
		Long: `Attach to an image a signed rule: who signs the releases of its repository, an
identity with its issuer, or a key. Who uses the image sees it in words, and pins it
once: hallmark trust pin --from-image.

The first rule is signed by the signer that it names. A later one, with a higher
--number, is followed by who has pinned the one before if that one's signer signed
it: so a publisher moves to another signer, and nobody else can.

Who signs and with which services: see hallmark sign --help.`,
		Example: `  hallmark policy rule 127.0.0.1:8420/app:1.0 --number 1 --by alice@example.com --issuer http://127.0.0.1:8420 --identity-token token
  hallmark policy rule 127.0.0.1:8420/tool:1.0 --number 1 --by-key release.pub --key release.key`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.policyRule(c.Context(), o, argv) },
	}
	f := c.Flags()
	f.IntVar(&o.rule.Version, "number", 0, "`N` of the rule: 1, and higher for each later one")
	f.StringVar(&o.rule.Identity, "by", "", "`IDENTITY` that signs releases")
	f.StringVar(&o.rule.Issuer, "issuer", "", "`URL` of the issuer that vouches for it")
	f.StringVar(&o.rule.SourceRepository, "source", "", "`URI` of the source repository in its certificates")
	f.StringVar(&o.rule.Log, "log", "", "`ORIGIN` of the log that has its signatures")
	f.StringVar(&o.byKey, "by-key", "", "the public key in `FILE` signs releases")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	o.addWho(c)
	return c
}

func (a *app) policyRule(ctx context.Context, o *policyRuleOptions, argv []string) error {
	if err := o.check(); err != nil {
		return err
	}
	ref, err := registry.ParseRef(argv[0])
	switch {
	case err != nil:
		return err
	case ref.Scheme != registry.SchemeRegistry:
		return fault.Usagef("%s: a rule is about a repository in a registry", argv[0])
	case o.rule.Version < 1:
		return fault.Usagef("--number: want 1 for the first rule, and a higher one for each later")
	case (o.rule.Identity == "") == (o.byKey == ""):
		return fault.Usagef("say who signs releases: --by and --issuer, or --by-key")
	}
	o.rule.Repository = ref.Name()
	if o.byKey != "" {
		public, err := cli.ReadPublicKey(o.byKey)
		if err != nil {
			return err
		}
		if o.rule.PublicKey, err = x509.MarshalPKIXPublicKey(public); err != nil {
			return err
		}
	}
	predicate, err := o.rule.Encode()
	if err != nil {
		return fault.As(fault.Usage, err)
	}
	subjects, err := a.resolve(ctx, &o.signerOptions, argv)
	if err != nil {
		return err
	}
	if !o.json {
		a.Print("%s", o.rule.Words())
	}
	return a.attachAll(ctx, &o.signerOptions, subjects, func(ref registry.Ref, t sign.Target) (*sign.Statement, error) {
		return sign.AttestStatement(ref.Name(), t.Digest(), bundlefile.PredicateRule, predicate)
	})
}
