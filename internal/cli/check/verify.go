package check

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

type verifyOptions struct {
	trustedRoot   string
	keys          []string
	signers       string
	threshold     int
	maxAge        time.Duration
	identity      policy.Identity
	cosigns       policy.Identity // by cosign's names for the same flags
	annotations   []string
	attestation   string
	policies      []string
	signingPolicy string
	bundle        string
	list          string
	explain       bool
	asJSON        bool

	trust      string
	notation   string
	freshTrust bool
	platform   string
	recursive  string
	image      string
	signatures string
	tagPrefix  string
	limit      []string

	signerKeys []crypto.PublicKey // of the file of --signers
	program    string             // that was called, for commands to repeat
}

// Verify is the command verify.
func (a *Commands) Verify() *cobra.Command {
	o := &verifyOptions{}
	c := &cobra.Command{
		Use:   "verify IMAGE | FILE --bundle FILE",
		Short: "Check that who you want signed an image or a file",
		Long: `Check who signed an image or a file, and that it is the one you want.

Say whom you want: --identity and --issuer, or --key. Without that nothing is ever
ok: what was found is listed, with the command that demands exactly it. A tag is
resolved once; everything after is about its digest.

Only a signature counts as one, an SBOM or provenance does not. --attestation
demands one of those instead, and --policy what it must say.

The trust root is that of --trusted-root, else of HALLMARK_TRUSTED_ROOT, else those
of the trust bundle (hallmark trust), else that of Sigstore's public instance as it
is in this binary; with --key and neither of the first two, the key is all that is
checked. What the trust bundle revokes is refused always. Nothing is fetched from logs: what a signature brings must
prove itself. An image layout on disk is oci:DIR[:TAG].`,
		Example: `  hallmark verify 127.0.0.1:8420/app:1.0    # exit 3: lists who signed, and how to demand them
  hallmark verify --identity alice@example.com --issuer http://127.0.0.1:8420 127.0.0.1:8420/app:1.0
  hallmark verify --key release.pub --attestation slsaprovenance1 --policy provenance.cue 127.0.0.1:8420/app:1.0
  hallmark verify --key release.pub --bundle app.sigstore.json app.tar`,
		Args: cli.Args(o.someSubject),
		RunE: func(c *cobra.Command, argv []string) error { return a.runVerify(c.Context(), o, argv) },
	}
	o.addFlags(c)
	c.Flags().StringVar(&o.attestation, "attestation", "", "want an attestation of this `TYPE` instead of a signature: "+strings.Join(cli.PredicateNames(), ", ")+", or a URI")
	return c
}

// VerifyAttestation is verify --attestation under cosign's name.
func (a *Commands) VerifyAttestation() *cobra.Command {
	o := &verifyOptions{}
	c := &cobra.Command{
		Use:   "verify-attestation IMAGE --type TYPE",
		Short: "Check an attestation: verify --attestation TYPE",
		Long:  "Check an attestation of an image or a file. This is hallmark verify --attestation TYPE, which see.",
		Example: `  hallmark verify-attestation --type slsaprovenance1 --key release.pub 127.0.0.1:8420/app:1.0
  hallmark verify-attestation --type spdx --policy sbom.rego --key release.pub 127.0.0.1:8420/app:1.0`,
		Args:   cli.Args(o.someSubject),
		Hidden: true,
		RunE: func(c *cobra.Command, argv []string) error {
			if o.attestation == "" {
				return fault.Usagef("--type: say which attestation is wanted")
			}
			return a.runVerify(c.Context(), o, argv)
		},
	}
	o.addFlags(c)
	c.Flags().StringVar(&o.attestation, "type", "", "the `TYPE` that is wanted: "+strings.Join(cli.PredicateNames(), ", ")+", or a URI")
	return c
}

// ofImages are the flags that say nothing about a file.
var ofImages = []string{"platform", "recursive", "signature-repository", "attachment-tag-prefix"}

// someSubject wants something to verify, files one at a time, and of each flag that
// it could have an effect: one that is passed over would be taken for a check.
func (o *verifyOptions) someSubject(c *cobra.Command, argv []string) error {
	for _, name := range ofImages {
		if o.bundle != "" && c.Flags().Changed(name) {
			return fmt.Errorf("--bundle is about a file, --%s about images", name)
		}
	}
	switch {
	case c.Flags().Changed("threshold") && o.threshold < 1:
		return errors.New("--threshold: want 1 or more signers")
	case c.Flags().Changed("max-age") && o.maxAge <= 0:
		return errors.New("--max-age: want a duration above 0, as 720h")
	case o.recursive == coverAny && len(argv) > 1 && slices.Contains(argv, coverAll):
		return fmt.Errorf("--recursive %s names an image %s: write --recursive=%s", coverAll, coverAll, coverAll)
	case o.list == "" && len(argv) == 0:
		return errors.New("nothing to verify: name an image, or a list of them with --file")
	case o.list != "" && len(argv) > 0:
		return errors.New("--file has the images: leave the others out")
	case o.bundle != "" && (o.list != "" || len(argv) > 1):
		return errors.New("--bundle is about one file")
	case o.image != "" && (o.bundle != "" || o.list != "" || len(argv) > 1):
		return errors.New("--image is about one docker-archive")
	case o.platform != "" && o.recursive != "":
		return errors.New("--platform is about one image of an index, --recursive about all")
	case o.explain && (o.list != "" || len(argv) > 1):
		return errors.New("--explain is about one image")
	}
	return nil
}

func (o *verifyOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "want a signature by the public key in `FILE`; may be repeated: any of them")
	f.StringVar(&o.signers, "signers", "", "YAML `FILE` with who may sign, each with all identities and keys that are theirs")
	f.IntVar(&o.threshold, "threshold", 0, "want `N` distinct signers")
	f.DurationVar(&o.maxAge, "max-age", 0, "want it signed at most this `DURATION` ago, as 720h, by a trusted time")
	for names, v := range map[[2]string]*policy.Identity{{"identity", "issuer"}: &o.identity, {"certificate-identity", "certificate-oidc-issuer"}: &o.cosigns} {
		f.StringVar(&v.Subject, names[0], "", "want a signature by this `IDENTITY`: an e-mail address, a workflow's URI")
		f.StringVar(&v.SubjectRegexp, names[0]+"-regexp", "", "the same as an anchored `EXPRESSION`, ^…$")
		f.StringVar(&v.Issuer, names[1], "", "`URL` of the issuer that vouched for the identity")
		f.StringVar(&v.IssuerRegexp, names[1]+"-regexp", "", "the same as an anchored `EXPRESSION`, ^…$")
	}
	for _, cosigns := range []string{"certificate-identity", "certificate-identity-regexp", "certificate-oidc-issuer", "certificate-oidc-issuer-regexp"} {
		_ = f.MarkHidden(cosigns) // fails only for flags that do not exist
	}
	f.StringVar(&o.identity.Source, "source-repository", "", "want the identity to have built this repository, a `URI`, by its certificate")
	f.StringVar(&o.identity.Runner, "runner-environment", "", "want the identity's job to have run on this `KIND` of machine by its certificate, as github-hosted")
	f.StringArrayVarP(&o.annotations, "annotation", "a", nil, "want `KEY=VALUE` signed with the image; may be repeated")
	f.StringArrayVar(&o.policies, "policy", nil, "what the attestation must say: a .cue or .rego `FILE`; may be repeated")
	f.StringVar(&o.signingPolicy, "require-signing-policy", "", "want the same signer's verdict that a signing policy was met: `DEMAND`, policy=sha256:…[,repository=KEY]")
	f.StringVar(&o.bundle, "bundle", "", "the argument is a file, or sha256:HEX of one: its signature is in `FILE`")
	f.StringVarP(&o.list, "file", "f", "", "verify each image of `LIST`, one a line; - is standard input")
	f.StringVar(&o.trust, "trust", "", "trust bundle, a `FILE` that hallmark trust keeps")
	f.StringVar(&o.notation, "notation", "", "Notation's configuration `FOLDER`: its trust policy and stores judge Notary signatures")
	f.BoolVar(&o.freshTrust, "fresh-trust", false, "deny when trust material is stale, instead of a warning")
	f.StringVar(&o.platform, "platform", "", "judge this image of an index, `OS/ARCH[/VARIANT]`; signatures of the index count, too")
	f.StringVar(&o.recursive, "recursive", "", "judge each image of an index, too: \"any\", by its own signatures or the index's, or \"all\", the index and each image by their own")
	f.Lookup("recursive").NoOptDefVal = coverAny
	f.StringVar(&o.image, "image", "", "the argument is a docker-archive:FILE of this signed `IMAGE`")
	f.StringVar(&o.signatures, "signature-repository", "", "look for signatures in this `REPOSITORY`, too; else in that of COSIGN_REPOSITORY")
	f.StringVar(&o.tagPrefix, "attachment-tag-prefix", "", "`PREFIX` of the tags of cosign's older formats")
	f.StringArrayVar(&o.limit, "limit", nil, "read at most `WHAT=N`: referrers (1000), or bytes of a manifest, envelope or bundle; may be repeated")
	f.BoolVar(&o.explain, "explain", false, "print how the decision was reached, too")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
}

func (a *Commands) runVerify(ctx context.Context, o *verifyOptions, argv []string) error {
	o.program = a.Program
	q, err := o.requirements(a)
	if err != nil {
		return err
	}
	if o.list != "" || len(argv) > 1 {
		return a.verifyMany(ctx, o, q, argv)
	}
	j, err := a.newJob(ctx, o, q)
	if err != nil {
		return err
	}
	result, err := j.judge(ctx, argv[0])
	if err != nil {
		a.WarnOf(j.stale)
		return err
	}
	subject := argv[0]
	if o.image != "" { // what is signed, and what the file was compared with
		subject = o.image
	}
	answer := o.answer(subject, q, result, j.demands(subject))
	switch {
	case o.asJSON:
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	case o.explain:
		a.printVerified(answer)
		a.printExplained(answer)
	default:
		a.printVerified(answer)
	}
	a.WarnOf(answer.Warnings)
	if answer.Allowed {
		if o.image != "" {
			a.Say("%s holds this image: the same configuration and layers", argv[0])
		}
		return nil
	}
	denied := a.Deny(result.Decision)
	if answer.nothingFound() {
		return cli.DeniedError{Nothing: true}
	}
	return denied
}

// nothingFound tells "nothing is there" from "what is there does not do".
func nothingFound(d policy.Decision) bool {
	for _, r := range d.Reasons {
		if r.Code != gate.CodeNotSigned && r.Code != gate.CodeNoAttestation {
			return false
		}
	}
	return len(d.Reasons) > 0
}

// FileArtifact is the file with this name, or the digest of one.
func FileArtifact(arg string) (verify.Artifact, error) {
	if d, err := evidence.ParseDigest(arg); err == nil {
		return verify.Image(d), nil
	}
	f, err := os.Open(arg)
	if err != nil {
		return verify.Artifact{}, err
	}
	defer f.Close()
	artifact, err := verify.HashFile(f)
	if err != nil {
		return artifact, fmt.Errorf("read %s: %w", arg, err)
	}
	return artifact, nil
}
