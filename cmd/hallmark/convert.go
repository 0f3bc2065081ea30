package main

import (
	"context"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/rekor"
	"github.com/hallmark-dev/hallmark/internal/rewrite"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

type convertOptions struct {
	output      string
	dryRun      bool
	offline     bool
	keys        []string
	trustedRoot string
	trust       string
	signatures  string
	tagPrefix   string
	json        bool
}

func newConvertCommand(a *app) *cobra.Command {
	o := &convertOptions{}
	c := &cobra.Command{
		Use:   "convert IMAGE | FILE",
		Short: "Turn cosign's older attestations into bundles, unsigned anew",
		Long: `Turn the attestations that cosign's older versions attached to an image (.att),
and bundles of version 0.1 or 0.2, into bundles of version 0.3, without signing
again. The old stays; a bundle that is there already is not added twice. An
argument that is a file is taken for bundles in it, not for an image.

An entry that a log has only promised to include needs the log's proof, which the
log is asked for: the trust root says where it is. With --offline the result is of
version 0.1, as the promise allows.

What a bundle cannot say all of is refused: cosign's older signatures (.sig), and
what cosign 1 logged. What verifies under the trust is never turned into something
that does not; what does not verify is converted as it is, and that is said.`,
		Example: `  hallmark convert --dry-run 127.0.0.1:8420/legacy:1.0
  hallmark convert --key release.pub 127.0.0.1:8420/legacy:1.0
  hallmark convert app.sigstore.json --output new.sigstore.json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.runConvert(c.Context(), o, argv[0]) },
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "write the bundles to `FILE`, one a line, or into a folder, and attach none")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and write nothing")
	f.BoolVar(&o.offline, "offline", false, "ask no log for proofs")
	f.StringArrayVar(&o.keys, "key", nil, "the public key in `FILE` may have signed; may be repeated")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
	f.StringVar(&o.trust, "trust", "", "trust bundle, a `FILE` that hallmark trust keeps")
	f.StringVar(&o.signatures, "signature-repository", "", "look in this `REPOSITORY`, too; else in that of COSIGN_REPOSITORY")
	f.StringVar(&o.tagPrefix, "attachment-tag-prefix", "", "`PREFIX` of the tags of cosign's older formats")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

func (a *app) runConvert(ctx context.Context, o *convertOptions, arg string) error {
	info, err := os.Stat(arg)
	isFile := err == nil && info.Mode().IsRegular()
	if isFile && o.json && o.output == "" && !o.dryRun {
		return fault.Usagef("--json: say where the bundles go: --output FILE")
	}
	r, err := a.rewriter(ctx, o)
	if err != nil {
		return err
	}
	answer := &convertAnswer{DryRun: o.dryRun, Output: o.output}
	report := a.Print
	var outcomes []rewrite.Outcome
	if isFile {
		outcomes, err = convertFile(ctx, r, arg)
		if o.output == "" && !o.dryRun {
			report = a.Say // the bundles are the answer
		}
	} else {
		outcomes, err = a.convertImage(ctx, o, r, arg, answer)
	}
	if err != nil {
		return err
	}
	if !o.dryRun && (isFile || o.output != "") {
		if err := a.writeBundles(o.output, outcomes, isFile); err != nil {
			return err
		}
	}
	return a.reportConverted(o, answer, outcomes, report)
}

// rewriter has the trust of the call: as for verify, and the keys of --key.
func (a *app) rewriter(ctx context.Context, o *convertOptions) (*rewrite.Rewriter, error) {
	file, err := a.TrustBundle(o.trust)
	if err != nil {
		return nil, err
	}
	cfg, stale, err := a.Believed(ctx, file, o.trustedRoot, true)
	if err != nil {
		return nil, err
	}
	a.WarnOf(stale)
	for _, path := range o.keys {
		public, err := cli.ReadPublicKey(path)
		if err != nil {
			return nil, err
		}
		cfg.Keys = append(cfg.Keys, public)
	}
	v, err := verify.New(cfg)
	if err != nil {
		return nil, err
	}
	r := &rewrite.Rewriter{Verifier: v, Roots: cfg.Roots}
	if !o.offline {
		r.Log = &rekor.Client{UserAgent: a.UserAgent(), PlainHTTP: a.PlainHTTP}
	}
	return r, nil
}

func convertFile(ctx context.Context, r *rewrite.Rewriter, path string) ([]rewrite.Outcome, error) {
	items, err := collect.Files(path)
	if err != nil {
		return nil, err
	}
	var outcomes []rewrite.Outcome
	for _, it := range items {
		outcomes = append(outcomes, r.Item(ctx, it, nil, verify.Artifact{}))
	}
	return outcomes, ctx.Err()
}

func (a *app) convertImage(ctx context.Context, o *convertOptions, r *rewrite.Rewriter, arg string, answer *convertAnswer) ([]rewrite.Outcome, error) {
	ref, err := registry.ParseRef(arg)
	if err != nil {
		return nil, fault.Hint(fault.As(fault.Usage, err), "there is no file of this name, either")
	}
	client := a.RegistryClient()
	image := rewrite.Image{Options: collect.Options{TagPrefix: o.tagPrefix}}
	if image.Repo, err = client.Open(ctx, ref); err != nil {
		return nil, err
	}
	if image.Desc, err = image.Repo.Resolve(ctx, ref); err != nil {
		return nil, err
	}
	// A referrer's subject has a type, a digest and a size, and nothing else.
	image.Desc = ocispec.Descriptor{MediaType: image.Desc.MediaType, Digest: image.Desc.Digest, Size: image.Desc.Size}
	if image.Options.SignatureRepository, err = a.SignatureRepository(ctx, client, o.signatures); err != nil {
		return nil, err
	}
	answer.Image = image.Repo.RefOf(image.Desc.Digest)
	attach := !o.dryRun && o.output == ""
	outcomes, err := r.Convert(ctx, image, attach)
	if err != nil {
		return nil, err
	}
	if len(outcomes) == 0 {
		return nil, fault.NotFoundf("nothing is attached to %s", answer.Image)
	}
	return outcomes, nil
}
