package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

type signOptions struct {
	signerOptions
	annotations []string
	ci          bool
	resume      string
}

func newSignCommand(a *app) *cobra.Command {
	o := &signOptions{}
	c := &cobra.Command{
		Use:   "sign IMAGE... | FILE --bundle FILE",
		Short: "Sign images, or a file",
		Long: `Sign images, or a file.

Without --key the signature is keyless: an identity token (of --identity-token, of
SIGSTORE_ID_TOKEN, of the CI system or cloud that this runs on, else of a login)
buys a certificate for minutes; a timestamp and a log entry prove when it was used.
The signature is attached to the image as an OCI referrer, as cosign v3 does it.

Services are those of --signing-config, else of HALLMARK_SIGNING_CONFIG, else
Sigstore's public instance. With --key and neither of the first two, the key signs
alone. What the same signer already signed is not signed again.

A service that does not answer is asked again for HALLMARK_PATIENCE, and others that
the signing config names in its place. What is unfinished then is kept with --later,
and finished with --resume, which needs neither the key nor the identity.`,
		Example: `  hallmark sign --identity-token token 127.0.0.1:8420/app:1.0
  hallmark sign --key release.key -a env=prod --recursive --later ./unfinished 127.0.0.1:8420/app:1.0 127.0.0.1:8420/tool:1.0
  hallmark sign --resume ./unfinished
  hallmark sign --key release.key app.tar --bundle app.sigstore.json`,
		Args: func(c *cobra.Command, argv []string) error {
			if o.resume != "" {
				return cli.Args(cobra.NoArgs)(c, argv)
			}
			return cli.Args(cobra.MinimumNArgs(1))(c, argv)
		},
		RunE: func(c *cobra.Command, argv []string) error { return a.runSign(c.Context(), o, argv) },
	}
	o.addFlags(c)
	c.Flags().StringArrayVarP(&o.annotations, "annotation", "a", nil, "sign `KEY=VALUE` with the image; may be repeated")
	c.Flags().StringVar(&o.resume, "resume", "", "finish what --later kept in `FOLDER`, and attach it")
	c.Flags().BoolVar(&o.ci, "ci", false, "sign commit, branch and repository of the CI job (Jenkins, GitHub, GitLab) as annotations")
	return c
}

func (a *app) runSign(ctx context.Context, o *signOptions, argv []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.resume != "" {
		return a.resume(ctx, o)
	}
	annotations, err := a.signAnnotations(o)
	if err != nil {
		return err
	}
	if o.bundle != "" {
		if len(annotations) > 0 {
			return fault.Usagef("a file's signature has no room for annotations; attest the file instead")
		}
		return a.signFile(ctx, &o.signerOptions, argv)
	}
	subjects, err := a.resolve(ctx, &o.signerOptions, argv)
	if err != nil {
		return err
	}
	return a.attachAll(ctx, &o.signerOptions, subjects, func(_ registry.Ref, t sign.Target) (*sign.Statement, error) {
		return sign.ImageStatement(t.Digest(), annotations)
	})
}

// signAnnotations are those of -a over those of --ci.
func (a *app) signAnnotations(o *signOptions) (map[string]string, error) {
	all := map[string]string{}
	if o.ci {
		ci, err := ciAnnotations(a.Env)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, ci)
	}
	given := map[string]bool{}
	for _, kv := range o.annotations {
		k, v, ok := strings.Cut(kv, "=")
		switch {
		case !ok || k == "":
			return nil, fault.Usagef("-a %s: want KEY=VALUE", kv)
		case given[k]:
			return nil, fault.Usagef("-a %s: given twice", k)
		}
		given[k], all[k] = true, v
	}
	return all, nil
}

// ciAnnotations are what a CI system says about the job's source. The variables
// are documented in: Jenkins, "Git plugin"; GitHub, "Default environment
// variables"; GitLab, "Predefined CI/CD variables".
func ciAnnotations(env func(string) string) (map[string]string, error) {
	var commit, branch, repository string
	switch {
	case env("GITHUB_ACTIONS") == "true":
		commit, branch = env("GITHUB_SHA"), env("GITHUB_REF_NAME")
		repository = strings.TrimSuffix(env("GITHUB_SERVER_URL"), "/") + "/" + env("GITHUB_REPOSITORY")
		if env("GITHUB_REPOSITORY") == "" {
			repository = ""
		}
	case env("GITLAB_CI") != "":
		commit, branch, repository = env("CI_COMMIT_SHA"), env("CI_COMMIT_REF_NAME"), env("CI_PROJECT_URL")
	case env("JENKINS_URL") != "" || env("GIT_COMMIT") != "":
		commit, branch, repository = env("GIT_COMMIT"), env("GIT_BRANCH"), env("GIT_URL")
	default:
		return nil, fault.Hint(fault.Usagef("--ci: this is neither a Jenkins, nor a GitHub, nor a GitLab job"), "give the annotations with -a")
	}
	all := map[string]string{}
	for _, v := range []struct{ name, value string }{{"commit", commit}, {"branch", branch}, {"repository", withoutCredentials(repository)}} {
		if v.value == "" {
			return nil, fault.Hint(fault.Usagef("--ci: the job does not say its %s, or not in a way that can be made public", v.name), "give the annotations with -a")
		}
		all[v.name] = v.value
	}
	return all, nil
}

// withoutCredentials is a clone URL without user, password, query and fragment: it
// is about to be signed and pushed. "" is a text of which that cannot be said.
func withoutCredentials(raw string) string {
	if !strings.Contains(raw, "://") { // scp-like, git@host:path, or a path
		user, _, _ := strings.Cut(raw, "@")
		if strings.ContainsAny(user, ":?") && strings.Contains(raw, "@") {
			return ""
		}
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	return u.String()
}

// signedFile is a file and its bundle.
type signedFile struct {
	Path     string          `json:"path"`
	Digest   evidence.Digest `json:"digest"`
	Bundle   string          `json:"bundle"` // path
	LogIndex *int64          `json:"logIndex,omitempty"`
}

// oneFile checks that the one argument of --bundle is a file other than the bundle.
func oneFile(o *signerOptions, argv []string) (string, error) {
	if len(argv) != 1 {
		return "", fault.Usagef("with --bundle there is one file to sign, not %d", len(argv))
	}
	st, err := os.Stat(argv[0])
	if err != nil {
		return "", fault.Hint(err, "with --bundle the argument is a file; an image is signed without it")
	}
	if st.IsDir() {
		return "", fault.Usagef("%s is a directory", argv[0])
	}
	if out, err := os.Stat(o.bundle); err == nil && os.SameFile(st, out) {
		return "", fault.Usagef("--bundle %s would overwrite the file that is signed", o.bundle)
	}
	return argv[0], nil
}

// signFile signs a file's bytes.
func (a *app) signFile(ctx context.Context, o *signerOptions, argv []string) error {
	path, err := oneFile(o, argv)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	signer, err := a.newSigner(ctx, o)
	if err != nil {
		return err
	}
	if err := a.consent(signer, o, nil); err != nil {
		return err
	}
	claim, data, err := signer.Blob(ctx, f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := writeFileFrom(o.bundle, bytes.NewReader(data)); err != nil {
		return err
	}
	who, err := signer.Who(ctx)
	if err != nil {
		return err
	}
	digest := evidence.Digest(fmt.Sprintf("%s:%x", digestNames[claim.Message.DigestAlgorithm], claim.Message.Digest))
	return a.fileDone(o, who, claim, signedFile{Path: path, Digest: digest, Bundle: o.bundle})
}

// digestNames are the OCI names of the hashes in message signatures.
var digestNames = map[string]string{"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}

// fileDone writes the certificate and prints the answer about a file.
func (a *app) fileDone(o *signerOptions, who evidence.Signer, claim *evidence.Claim, file signedFile) error {
	if len(claim.LogEntries) > 0 {
		file.LogIndex = &claim.LogEntries[0].LogIndex
	}
	if o.outputCertificate != "" {
		if err := a.writeCertificate(o.outputCertificate, claim.Certificates[0]); err != nil {
			return err
		}
	}
	if o.json {
		return a.PrintJSON(signedAnswer{Signer: &who, File: &file, MadePublic: o.madePublic})
	}
	a.Print("signed  %s  (%s)", filepath.Clean(file.Path), file.Digest)
	a.Say("  by %s, bundle %s", who, file.Bundle)
	a.sayMadePublic(o, true)
	return nil
}
