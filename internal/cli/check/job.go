package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// job is what all subjects of one call share: connections, trust and policy.
type job struct {
	o        *verifyOptions
	q        gate.Requirements
	pins     bundlefile.Pins // that are demanded, because the call demands nobody
	pinned   bundlefile.Pins // all
	notary   *notation.Trust
	stale    []policy.Reason
	client   *registry.Client
	verifier *verify.Verifier
	collect  collect.Options
	many     bool // images, so that only what was asked is fetched
}

func (a *Commands) newJob(ctx context.Context, o *verifyOptions, q gate.Requirements) (*job, error) {
	j := &job{o: o, q: q, client: a.RegistryClient()}
	bundle, err := a.TrustBundle(o.trust)
	if err != nil {
		return nil, err
	}
	keys, err := o.trustedKeys()
	if err != nil {
		return nil, err
	}
	cfg, stale, err := a.Believed(ctx, bundle, o.trustedRoot, len(keys) == 0 || q.WantsIdentities() || a.HasTrustedRoot(o.trustedRoot))
	if err != nil {
		return nil, err
	}
	if o.notation != "" {
		if cfg.Notary, err = notationFolder(o.notation, bundle); err != nil {
			return nil, err
		}
	}
	j.stale, j.notary, j.pinned = stale, cfg.Notary, bundle.Pins
	known := cfg.NamedKeys
	if len(keys) > 0 {
		cfg.NamedKeys = nil // the call says which keys may sign
	}
	if !q.Demands() {
		j.pins = bundle.Pins
		keys = append(keys, cli.PinnedKeys(bundle.Pins)...)
	}
	cfg.NamedKeys = append(cfg.NamedKeys, cli.InTheirWindows(keys, known)...)
	if j.collect, err = a.options(ctx, j); err != nil {
		return nil, err
	}
	j.verifier, err = verify.New(cfg)
	return j, err
}

// notationFolder is the trust of --notation, with what the trust bundle knows of
// revocations: lists and answers are signed, and more of them can hide nothing.
func notationFolder(dir string, f *bundlefile.File) (*notation.Trust, error) {
	parts, err := notation.ReadFolder(dir)
	if err != nil {
		return nil, fault.As(fault.Usage, fmt.Errorf("--notation: %w", err))
	}
	if f.Notary != nil {
		for _, c := range f.Notary.CRLs {
			parts.CRLs = append(parts.CRLs, c.DER)
		}
		parts.OCSP = append(parts.OCSP, f.Notary.OCSP...)
	}
	t, err := notation.New(parts)
	if err != nil {
		return nil, fault.As(fault.Usage, fmt.Errorf("--notation: %w", err))
	}
	return t, nil
}

// options are the limits and places of the call's flags.
func (a *Commands) options(ctx context.Context, j *job) (collect.Options, error) {
	o := collect.Options{TagPrefix: j.o.tagPrefix}
	err := j.o.limits(&o)
	if err == nil {
		o.SignatureRepository, err = a.SignatureRepository(ctx, j.client, j.o.signatures)
	}
	return o, err
}

// judge sends an image, a file or a digest through the gate.
func (j *job) judge(ctx context.Context, arg string) (gate.Result, error) {
	r, err := j.ask(ctx, arg)
	if err != nil {
		return r, err
	}
	if r.Decision.Allowed {
		for _, t := range r.Tried {
			if t.Counts {
				r.Decision.Warnings = append(r.Decision.Warnings, t.Fact.Warnings...)
			}
		}
	}
	if why := j.besidePin(r); why != nil {
		r.Decision.Warnings = append(r.Decision.Warnings, *why)
	}
	switch {
	case len(j.stale) == 0:
	case j.o.freshTrust:
		r.Decision.Allowed = false
		r.Decision.Reasons = append(slices.Clone(j.stale), r.Decision.Reasons...)
	default:
		r.Decision.Warnings = append(slices.Clone(j.stale), r.Decision.Warnings...)
	}
	return r, nil
}

func (j *job) ask(ctx context.Context, arg string) (gate.Result, error) {
	switch {
	case j.o.bundle != "":
		return j.file(ctx, arg)
	case j.o.image != "":
		return j.archive(ctx, arg)
	}
	return j.image(ctx, arg)
}

func (j *job) image(ctx context.Context, arg string) (gate.Result, error) {
	var none gate.Result
	ref, err := registry.ParseRef(arg)
	if err != nil {
		return none, onDisk(arg, fault.Hint(fault.As(fault.Usage, err), "to verify a file, name its signature: --bundle FILE"))
	}
	repo, err := j.client.Open(ctx, ref)
	if err != nil {
		return none, err
	}
	p, demands := j.policyFor(ref.Name())
	if !demands && !j.asksMore() {
		if name, skipped := j.verifier.NotarySkipped(ref.Name()); skipped {
			p = skips{name, ref.Name()}
		}
	}
	r := gate.Request{Repo: repo, Ref: ref, Verifier: j.verifier, Policy: p, Now: time.Now, Collect: j.collect,
		Platform: j.o.platform, Images: j.o.coverage()}
	if j.q.Also != nil {
		r.OfIndex = j.q.Also.Type
	}
	if !j.many || j.q.AttestationType != "" {
		r.Statements = statementTypes(j.q.AttestationType)
	}
	result, err := gate.Image(ctx, r)
	return result, onDisk(arg, err)
}

// onDisk tells who names a file or folder, which is taken for an image in a
// registry, how it is named.
func onDisk(arg string, err error) error {
	if err == nil {
		return nil
	}
	info, statErr := os.Stat(arg)
	switch {
	case statErr != nil:
		return err
	case info.IsDir():
		return fault.Hint(err, "an image layout in the folder %s is oci:%s", arg, arg)
	}
	return fault.Hint(err, "a file's signature is named with --bundle FILE; an archive of images is oci-archive:%s or docker-archive:%s", arg, arg)
}

// demands reports whether the call, or a pin, says who must have signed an image.
func (j *job) demands(image string) bool {
	if j.q.Demands() {
		return true
	}
	ref, err := registry.ParseRef(image)
	if err != nil {
		return false
	}
	_, pinned := j.pins.For(ref.Name())
	return pinned
}

// besidePin warns that the signature that the call demands is not by who is pinned
// for the repository.
func (j *job) besidePin(r gate.Result) *policy.Reason {
	pin, ok := j.pinned.For(r.Subject.Name)
	if !ok || !r.Decision.Allowed || !j.q.Demands() || j.q.AttestationType != "" {
		return nil
	}
	var counted policy.Input
	for _, t := range slices.Concat([][]gate.Tried{r.Tried}, triedOf(r.Images)) {
		for _, one := range t {
			if one.Counts {
				counted.Signatures = append(counted.Signatures, *one.Fact)
			}
		}
	}
	by, why := pin.Filter(counted)
	if why == nil || len(by.Signatures) > 0 {
		return nil
	}
	why.Code, why.Message = bundlefile.CodePinConflict, why.Message+", whom the call does not demand"
	return why
}

func triedOf(images []gate.ImageResult) [][]gate.Tried {
	var out [][]gate.Tried
	for _, i := range images {
		out = append(out, i.Tried)
	}
	return out
}

// statementTypes are the types of builders' statements that are read: those that
// are wanted, and provenance, which says how far it can be traced.
func statementTypes(wanted string) []string {
	types := []string{evidence.PredicateSLSA1, evidence.PredicateSLSA02}
	if wanted != "" && !slices.Contains(types, wanted) {
		types = append(types, wanted)
	}
	return types
}

// policyFor is the policy for a repository. What the call demands comes first;
// when it demands nobody, a pin of the trust bundle, and then Notation's trust policy.
func (j *job) policyFor(repository string) (p gate.Policy, demands bool) {
	q := j.q
	if q.Demands() {
		return q, true
	}
	if pin, ok := j.pins.For(repository); ok {
		if identity, _ := pin.Requirement(); identity != nil {
			q.Identities = []policy.Identity{*identity}
		} else {
			q.Keys = true
		}
		return pinned{pin, q}, true
	}
	q.Notary = j.notary != nil && j.notary.Policy.For(repository) != nil
	return q, false
}

// pinned judges what the pinned signer signed, and nothing else.
type pinned struct {
	pin bundlefile.Pin
	q   gate.Requirements
}

var _ gate.Policy = pinned{}

// Evaluate is Judge without the account.
func (p pinned) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	v, err := p.Judge(ctx, in)
	return v.Decision, err
}

// Judge says no with the names of both when the pinned signer signed nothing that
// was asked for and somebody else did.
func (p pinned) Judge(ctx context.Context, in policy.Input) (gate.Verdict, error) {
	signatures, attestations := p.places(in.Signatures), p.places(in.Attestations)
	filtered, why := p.pin.Filter(in)
	v, err := p.q.Judge(ctx, filtered)
	if err != nil {
		return v, err
	}
	for i := range v.Counted {
		place := &v.Counted[i].Place
		if place.Attestation {
			place.Index = attestations[place.Index]
		} else {
			place.Index = signatures[place.Index]
		}
	}
	if !v.Allowed && why != nil {
		v.Reasons = []policy.Reason{*why}
	}
	v.Steps = append([]gate.Step{{Text: "pinned for " + p.pin.Repository + ": " + p.pin.Signer(), OK: true}}, v.Steps...)
	return v, nil
}

// places are the indexes of the facts that the pin leaves.
func (p pinned) places(facts []policy.Fact) []int {
	var out []int
	for i := range facts {
		if one, _ := p.pin.Filter(policy.Input{Signatures: facts[i : i+1]}); len(one.Signatures) == 1 {
			out = append(out, i)
		}
	}
	return out
}

// skips is what Notation's level "skip" asks for: nothing that is found is
// demanded, and that is said. What is revoked is refused all the same.
type skips struct{ statement, repository string }

var _ gate.Policy = skips{}

// Evaluate is Judge without the account.
func (s skips) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	v, err := s.Judge(ctx, in)
	return v.Decision, err
}

// Judge lets everything pass, with a warning.
func (s skips) Judge(context.Context, policy.Input) (gate.Verdict, error) {
	return gate.Verdict{
		Decision: policy.Decision{Allowed: true, Warnings: []policy.Reason{{Code: verify.TrustPolicySkips, Subject: s.repository,
			Message: fmt.Sprintf("Notation's trust policy %q wants nothing of %s verified, so no signature was demanded", s.statement, s.repository)}}},
		Steps: []gate.Step{{Text: "Notation's trust policy " + s.statement + " skips verification", OK: true}},
	}, nil
}

// asksMore reports whether the call demands something that a trust policy of
// Notation's cannot wave through.
func (j *job) asksMore() bool {
	return j.q.AttestationType != "" || j.q.Also != nil || len(j.q.Annotations) > 0 || j.q.MaxAge > 0 || j.q.Threshold > 0
}

func (j *job) file(ctx context.Context, arg string) (gate.Result, error) {
	var none gate.Result
	artifact, err := FileArtifact(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return none, fault.Hint(err, "--bundle is about a file; of an image, name the digest instead, as sha256:HEX")
	}
	if err != nil {
		return none, err
	}
	items, err := collect.Files(j.o.bundle)
	if err != nil {
		return none, err
	}
	return gate.Blob(ctx, gate.BlobRequest{Name: arg, Artifact: artifact, Items: items, Verifier: j.verifier, Policy: j.q, Now: time.Now})
}

// archive judges the image of --image and compares a file of docker save with it.
func (j *job) archive(ctx context.Context, arg string) (gate.Result, error) {
	var none gate.Result
	path, ok := strings.CutPrefix(arg, "docker-archive:")
	if !ok {
		return none, fault.Usagef("--image says which image a docker-archive:FILE is; %s is none", arg)
	}
	path, tag, err := splitArchive(path)
	if err != nil {
		return none, err
	}
	archive, err := registry.OpenDockerArchive(path, tag)
	if err != nil {
		return none, err
	}
	r, err := j.image(ctx, j.o.image)
	if err != nil || !r.Decision.Allowed {
		return r, err
	}
	ref, err := registry.ParseRef(j.o.image)
	if err != nil {
		return none, err
	}
	repo, err := j.client.Open(ctx, ref)
	if err != nil {
		return none, err
	}
	if r.Subject.MediaType == ocispec.MediaTypeImageIndex {
		return none, fault.Usagef("%s is an index: say with --platform which of its images the archive holds", j.o.image)
	}
	manifest, err := repo.Manifest(ctx, ocispec.Descriptor{MediaType: r.Subject.MediaType, Digest: digest.Digest(r.Subject.Digest), Size: r.Subject.Size})
	if err != nil {
		return none, err
	}
	differs, err := archive.Check(ctx, manifest)
	if err != nil {
		return none, err
	}
	r.Steps = append(r.Steps, gate.Step{Text: arg + " holds the same configuration and layers", OK: len(differs) == 0})
	if len(differs) > 0 {
		r.Decision.Allowed, r.Decision.Reasons = false, differs
	}
	return r, nil
}

// splitArchive splits FILE[:TAG]; a file whose own name has a colon is taken whole.
func splitArchive(s string) (path, tag string, err error) {
	if s == "" {
		return "", "", errors.New("docker-archive: names no file")
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 && !strings.ContainsRune(s[i:], '/') {
		return s[:i], s[i+1:], nil
	}
	return s, "", nil
}
