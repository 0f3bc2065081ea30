package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

type buildOptions struct {
	source      string
	ref         string
	commit      string // that ref led to when the job was started
	policy      string
	storeConfig string // of a policy store
	image       string
	args        []string
	labels      []string
	options     build.Options

	sourcePolicies []string
	verified       bool // every source is in the lock, or signed by who is pinned

	trusted string // the builder file, or installedBuilder; "" is a plain build
	output  string // --output
	result  output // what it says
	inputs  string // --inputs
	cache   string // --cache
	bake    bool   // hallmark bake: the bake file says image and parameters

	check    bool
	export   bool
	noSign   bool
	progress string          // --progress
	show     *build.Progress // what it says
	json     bool
	signer   signerOptions
}

func newBuildCommand(a *app) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build SOURCE[#REF] -t IMAGE",
		Short: "Build and sign an image of a tag that the policy allows",
		Long: `Build checks a tag of a git repository (a path or URL) against a policy, builds
exactly the commit that it names with BuildKit, pushes the image by digest with
SLSA provenance, signs the index, every image and every attestation in it, and
only then lets the image's tag point to it.

The policy directory lies outside the repository. It is a signing policy, whose
authority.json names people and keys (docs/signing-policy.md); or it has *.rego
files with package hallmark.signing, and whose signatures on tags count:
allowed_signers (SSH, the format of ssh-keygen) or keyring.asc (OpenPGP), or both.

Source policies judge everything that the build uses (docs/build-policy.md): those
of --source-policy, and Dockerfile.rego beside the Dockerfile of the commit, which
can only forbid more. All must allow; what was denied fails the build. So does what
is not as hallmark.lock of the commit says. --verified demands that every source is in
that lock, or is signed: an image by who is pinned for it (hallmark trust pin), a git
tag or commit by a key of the trust bundle.

With --trusted whoever calls chooses the source, a URL, and parameters, and nothing
else: what runs is verified, what comes out is signed and verified
(docs/trusted-build.md). A signing policy may then be left out, or be that which a
policy store has for the job's repository (--store-config).

BuildKit is the one that BUILDKIT_HOST names, also in a container or pod
(docs/build-policy.md). Without it one is started for this build and ended with it,
which needs root, buildkitd (make tools) and runc.`,
		Example: `  hallmark build . --ref v1.0.0 --policy ../release-policy --check
  hallmark build . --ref v1.0.0 --policy ../release-policy -t 127.0.0.1:8420/app:1.0 --identity-token token
  hallmark build . --ref v1.0.0 --policy ../release-policy -t 127.0.0.1:8420/app:1.0 --key release.key
  hallmark build . --trusted --ref v1.0.0 -t 127.0.0.1:8420/app:1.0    # exit 2: a folder is no source that others can look at`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			o.source = argv[0]
			return a.runBuild(c.Context(), &o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.ref, "ref", "", "`TAG` to build, short or as refs/tags/TAG")
	f.StringVarP(&o.image, "tag", "t", "", "`IMAGE` to push, host/repository:tag")
	f.StringVarP(&o.options.File, "file", "f", "", "`PATH` of the Dockerfile inside the repository (default Dockerfile)")
	f.StringSliceVar(&o.options.Platforms, "platform", nil, "`OS/ARCH` to build for, several separated by commas")
	f.StringVar(&o.options.Target, "target", "", "build `STAGE` to stop at")
	f.StringArrayVar(&o.args, "build-arg", nil, "build argument `NAME=VALUE`; may repeat")
	f.StringArrayVar(&o.labels, "label", nil, "image label `NAME=VALUE`; may repeat")
	f.BoolVar(&o.options.NoCache, "no-cache", false, "run every step again")
	f.StringVar(&o.options.BuilderID, "builder-id", "", "`URI` that provenance names as its builder")
	f.StringVar(&o.trusted, "trusted", "", "build so that only source and parameters are the caller's choice, with the tools of the builder file `FILE` (docs/trusted-build.md)")
	f.StringVar(&o.inputs, "inputs", "", "with --trusted: `FILE` with github-builder's inputs, - for stdin (docs/github.md)")
	f.BoolVar(&o.check, "check", false, "only check the tag against the policy")
	f.BoolVar(&o.export, "export", false, "hand BuildKit the exported commit even when SOURCE is a URL (for repositories that need a login)")
	f.BoolVar(&o.noSign, "no-sign", false, "push and tag the image without signing it")
	f.StringVar(&o.storeConfig, "store-config", "", "with --trusted: `FILE` that says which policy store is asked for the job's own repository (docs/signing-policy.md)")
	o.addShared(c)
	return c
}

// addShared adds the flags that build and bake have in common, but for --trusted, which has
// another default in each.
func (o *buildOptions) addShared(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.policy, "policy", "", "`DIR` with the policy and the keys that may sign tags")
	f.StringArrayVar(&o.sourcePolicies, "source-policy", nil, "`FILE` or folder with a policy for what the build uses, or oci://REFERENCE; may repeat, all must allow")
	f.BoolVar(&o.verified, "verified", false, "demand of every source that it is in the commit's hallmark.lock or signed by whom the trust bundle names")
	f.StringVarP(&o.output, "output", "o", "", "image, with policies=DIR also policies for consumers; of a trusted build also `local,dest=DIR`, and part,dest=FILE and image,parts=DIR for several machines")
	f.BoolVar(&o.options.Hermetic, "hermetic", false, "build steps have no network")
	f.StringVar(&o.cache, "cache", "", "of a trusted build: take steps from, and leave them in, `REPOSITORY[,mode=max][,scope=NAME]`, each entry signed")
	f.StringVar(&o.progress, "progress", progressAuto, "`HOW` the build is shown on stderr: auto (on a terminal), plain, tty, rawjson (events, docs/json.md) or quiet")
	f.BoolVar(&o.json, "json", false, "print one JSON object at the end")
	f.Lookup("trusted").NoOptDefVal = installedBuilder
	o.signer.addWho(c)
	c.SetFlagErrorFunc(explainFlag)
}

// buildAnswer is what build prints with --json; docs/json.md has the table.
type buildAnswer struct {
	Allowed  bool            `json:"allowed"`
	Source   *policy.Git     `json:"source"`
	Reasons  []policy.Reason `json:"reasons,omitempty"`
	Warnings []policy.Reason `json:"warnings,omitempty"`

	Image      string           `json:"image,omitempty"` // host/repository:tag
	Digest     string           `json:"digest,omitempty"`
	Manifests  []builtManifest  `json:"manifests,omitempty"`
	Verdict    string           `json:"verdict,omitempty"` // reference of the signing policy's verdict
	Signed     bool             `json:"signed"`
	Signatures []string         `json:"signatures,omitempty"` // references of the signatures' manifests
	Signer     *evidence.Signer `json:"signer,omitempty"`
	MadePublic *madePublic      `json:"madePublic,omitempty"` // when something about a private source became public
	BuilderID  string           `json:"builderID,omitempty"`

	SourcePolicies []build.UsedPolicy  `json:"sourcePolicies,omitempty"`
	Sources        []sourcegate.Source `json:"sources,omitempty"` // what they were asked about

	Trusted *trustedAnswer `json:"trusted,omitempty"` // of a trusted build
	Part    *builtPart     `json:"part,omitempty"`    // of a distributed one
	inputsResult

	ElapsedMilli int64 `json:"elapsedMilliseconds,omitempty"`

	*forConsumers // of a plain build that was signed

	logIndex   *int64            // of the first signature
	extensions map[string]string // of the certificate of a job that signed
	named      []string          // tags that were set, in their order
}

type builtManifest struct {
	Kind     string `json:"kind"` // "image" or "attestation"
	Platform string `json:"platform,omitempty"`
	Digest   string `json:"digest"`
}

func (a *app) runBuild(ctx context.Context, o *buildOptions) error {
	started := time.Now()
	job, err := a.prepareBuild(ctx, o)
	if err != nil {
		return err
	}
	defer job.close()
	answer := &buildAnswer{}
	src, d, err := job.gate(ctx, answer)
	if err != nil {
		return err
	}
	if src != nil {
		defer src.Close()
	}
	a.buildWarnings(answer, d)
	if !d.Allowed {
		return a.buildDenied(o, answer, d)
	}
	if err := job.derive(src, answer); err != nil {
		return err
	}
	if d, err = job.askSources(ctx, src); err != nil {
		return err
	}
	if job.sources != nil {
		answer.SourcePolicies = job.sources.Used()
	}
	a.buildWarnings(answer, d)
	if !d.Allowed {
		return a.buildDenied(o, answer, d)
	}
	if o.check {
		if d, err = job.belongs(ctx, src); err != nil {
			return err
		}
		if !d.Allowed {
			return a.buildDenied(o, answer, d)
		}
	}
	answer.Allowed = true
	if o.check {
		return a.printBuild(o, answer)
	}
	d, err = job.make(ctx, src, answer)
	if err != nil {
		return a.buildFailed(err)
	}
	d.Warnings = append(d.Warnings, job.cache.warnings()...)
	if d.Allowed && job.trusted != nil { // of a plain build they were told before
		d.Warnings = append(d.Warnings, job.release.warnings()...)
	}
	a.buildWarnings(answer, d)
	if !d.Allowed {
		return a.buildDenied(o, answer, d)
	}
	answer.ElapsedMilli = time.Since(started).Milliseconds()
	return a.printBuild(o, answer)
}

// buildWarnings tells what a decision warns of.
func (a *app) buildWarnings(answer *buildAnswer, d policy.Decision) {
	for _, w := range d.Warnings {
		a.Warn("[%s] %s", w.Code, cli.OneLine(w.Message))
	}
	answer.Warnings = append(answer.Warnings, d.Warnings...)
}

func (a *app) buildDenied(o *buildOptions, answer *buildAnswer, d policy.Decision) error {
	answer.Allowed, answer.Reasons = false, d.Reasons
	if o.json {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	return a.Deny(d)
}

// buildFailed shows what helps to understand a failed step, then the error.
func (a *app) buildFailed(err error) error {
	var be *build.Error
	if errors.As(err, &be) {
		for _, part := range []string{be.Log, be.Excerpt} {
			if part != "" {
				a.Say("%s\n", part)
			}
		}
		if strings.Contains(be.Error(), "failed to read dockerfile") {
			return fault.Hint(err, "is it committed? -f FILE names another one of the commit")
		}
	}
	return err
}

func (a *app) printBuild(o *buildOptions, b *buildAnswer) error {
	if o.json {
		return a.PrintJSON(b)
	}
	if o.check {
		a.Print("allowed: %s at commit %s", b.Source.Ref, b.Source.CommitChecksum)
	} else {
		a.Print("%s", b.made())
		a.Print("  source     %s at commit %s", b.Source.Ref, b.Source.CommitChecksum)
	}
	a.printTag(b)
	a.printSources(o, b)
	if o.check {
		return nil
	}
	for _, m := range b.Manifests {
		if m.Kind == "image" {
			a.Print("  image      %s %s", m.Digest, m.Platform)
		} else {
			a.Print("  provenance %s SLSA v1, builder %s", m.Digest, b.BuilderID)
		}
	}
	switch {
	case b.Signed && len(b.Manifests) > 0:
		if len(b.named) > 1 {
			a.Print("  tags       %s", strings.Join(b.named, ", "))
		}
		a.Print("  signed     by %s: the index and all %d manifests in it", b.Signer, len(b.Manifests))
	case b.Signed:
		a.Print("  signed     by %s: each file, with its provenance", b.Signer)
	default:
		a.Print("  signed     no (--no-sign)")
	}
	if b.Verdict != "" {
		a.Print("  verdict    %s of the signing policy, signed, too", b.Verdict[strings.LastIndexByte(b.Verdict, '@')+1:])
	}
	if b.MadePublic != nil {
		a.Print("  public     %s", b.MadePublic)
	}
	a.printTrusted(b)
	a.printConsumers(b.forConsumers, "verify     with:")
	return nil
}

// printTag says who signed the tag, when that was asked.
func (a *app) printTag(b *buildAnswer) {
	if b.Source.Tag == nil || b.Source.Tag.Signer == nil {
		return
	}
	signer := b.Source.Tag.Signer
	names := strings.Join(signer.Principals, ", ")
	if names == "" {
		names = "a key without a name"
	}
	a.Print("  tag        signed by %s (%s %s)", names, signer.Kind, signer.Fingerprint)
}

// buildJob is a build whose flags were read and whose policy is compiled.
type buildJob struct {
	app      *app
	o        *buildOptions
	location git.Location
	trust    git.Trust
	policy   build.Policy
	release  *releaseGate    // the signing policy; nil without one
	denied   []policy.Reason // a policy itself is not acceptable
	image    registry.Ref

	sources  *build.SourcePolicies // nil: none
	believed *sourceTrust          // nil until it is wanted
	logins   *build.GitLogins      // of git servers, for BuildKit; nil without one
	tree     string                // the exported commit; "" until it is needed
	trusted  *trustedJob           // nil: a plain build
	inputs   *inputs.Inputs        // nil: flags
	tags     []string              // beside the image's
	others   []registry.Ref        // further repositories that the image goes to
	worker   *sandbox.Worker       // of the policy of the commit; nil without one
	cache    *buildCache           // nil: none
}

// prepareBuild reads everything that can be wrong before anything is fetched.
func (a *app) prepareBuild(ctx context.Context, o *buildOptions) (*buildJob, error) {
	j := &buildJob{app: a, o: o}
	if err := o.showProgress(a); err != nil {
		return nil, err
	}
	if err := o.splitSource(); err != nil {
		return nil, err
	}
	if err := j.prepareTrusted(); err != nil {
		return nil, err
	}
	switch {
	case o.ref == "":
		what := "tag"
		if o.trusted != "" {
			what = "tag, branch or commit"
		}
		return nil, fault.Usagef("which %s? give --ref", what)
	case o.storeConfig != "" && (o.policy != "" || o.trusted == "" || o.check):
		return nil, fault.Hint(fault.Usagef("--store-config is of a trusted build, without --policy and --check: the store is asked about the job's own repository"),
			"hallmark gate check asks beforehand")
	case o.policy == "" && o.trusted == "":
		return nil, fault.Hint(fault.Usagef("which policy? give --policy"), "the policy says who may release; it lies outside the repository")
	case o.image == "" && !o.check && o.result.dest == "" && o.inputs == "" && !o.bake:
		return nil, fault.Usagef("which image? give -t HOST/REPOSITORY:TAG")
	}
	err := o.signer.check()
	if o.noSign && (o.signer.key != "" || o.signer.identityToken != "" || o.signer.identityProvider != "") {
		err = fault.Usagef("--no-sign: and yet a key or an identity is given to sign with")
	}
	if err != nil {
		return nil, err
	}
	if o.options.Args, err = pairs("--build-arg", o.args); err != nil {
		return nil, err
	}
	if o.options.Labels, err = pairs("--label", o.labels); err != nil {
		return nil, err
	}
	if err := o.options.Check(); err != nil {
		return nil, err
	}
	if o.image != "" {
		if j.image, err = registry.ParseRef(o.image); err != nil {
			return nil, err
		}
		if j.image.Scheme != registry.SchemeRegistry || j.image.Digest != "" {
			return nil, fault.Usagef("-t %s: want HOST/REPOSITORY:TAG in a registry", o.image)
		}
	}
	if j.location, err = git.ParseLocation(o.source, a.PlainHTTP); err != nil {
		return nil, err
	}
	if err := j.takeLogins(); err != nil {
		return nil, err
	}
	if err := j.loadBuilder(); err != nil {
		return nil, err
	}
	if err := j.loadPolicy(ctx); err != nil {
		return nil, err
	}
	return j, j.loadSourcePolicies(ctx)
}

// pairs reads NAME=VALUE flags.
func pairs(flag string, values []string) (map[string]string, error) {
	m := map[string]string{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, fault.Usagef("%s %q: want NAME=VALUE", flag, v)
		}
		if _, twice := m[name]; twice {
			return nil, fault.Usagef("%s %s is given twice", flag, name)
		}
		m[name] = value
	}
	return m, nil
}

// insecure reports whether the image's registry is spoken to in plain HTTP.
func (j *buildJob) insecure() bool { return j.app.PlainHTTP || loopback.Host(j.image.Host) }

// toolsFolder is where make tools puts what building needs.
func (a *app) toolsFolder() string {
	if dir := a.Env("HALLMARK_TOOLS"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache", "hallmark", "tools", "bin")
}

// inside reports whether path is dir or lies in it; both are absolute and
// without symbolic links.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
