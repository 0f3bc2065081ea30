// Package admission decides whether a Kubernetes object may run: every image in
// it is resolved to a digest once, judged by the ClusterImagePolicies, and pinned
// as name:tag@digest. It does not link Kubernetes; it reads the few fields that
// name images, and refuses kinds whose images it does not know.
//
// Trusted: the policies and their trust roots. Not trusted: the object, the
// registry and everything in it. An attacker who can modify the registry can
// only make an image denied.
package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeImageInvalid = "IMAGE_INVALID"    // the image is no reference that a node can pull
	CodeImageUnknown = "IMAGE_UNRESOLVED" // there is no such image
	CodeUndecided    = "UNDECIDED"        // a service that is needed to decide did not answer
)

// Config is what an admission decides with.
type Config struct {
	Policies *clusterimage.Set
	Registry *registry.Client
	// Verifier makes a verifier for a trust that a policy names. Each trust is
	// asked for at most once in the life of an Admission.
	Verifier    func(ctx context.Context, t clusterimage.Trust) (*verify.Verifier, error)
	Revoked     trust.Revoked    // images in it are denied; signers in it are for Verifier to refuse
	Now         func() time.Time // default time.Now
	Collect     collect.Options  // limits
	Concurrency int              // images that are judged at once, default 4
}

// Admission judges objects. It is safe for concurrent use.
type Admission struct {
	cfg Config

	mu        sync.Mutex
	verifiers map[string]func() (*verify.Verifier, error)
}

// New checks the configuration.
func New(cfg Config) (*Admission, error) {
	if cfg.Policies == nil || cfg.Registry == nil || cfg.Verifier == nil {
		return nil, errors.New("admission: policies, registry and verifier are all needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 4
	}
	return &Admission{cfg: cfg, verifiers: map[string]func() (*verify.Verifier, error){}}, nil
}

// Verdict is the answer about one object. It is allowed when every image is.
type Verdict struct {
	Kind      string         `json:"kind"`
	Namespace string         `json:"namespace,omitempty"`
	Name      string         `json:"name"`
	Allowed   bool           `json:"allowed"`
	Images    []ImageVerdict `json:"images"`
}

// ImageVerdict is the answer about one image field.
type ImageVerdict struct {
	Field    string          `json:"field"`            // spec.containers[0].image
	Image    string          `json:"image"`            // as the object has it
	Pinned   string          `json:"pinned,omitempty"` // name:tag@digest, once resolved
	Digest   evidence.Digest `json:"digest,omitempty"`
	Allowed  bool            `json:"allowed"`
	Reasons  []policy.Reason `json:"reasons,omitempty"`
	Warnings []policy.Reason `json:"warnings,omitempty"`

	// Err is why there is no decision; Reasons then say so with code UNDECIDED.
	Err error `json:"-"`
}

// Review judges objects together: an image that several fields name is resolved
// and judged once, so that all get the same digest. Allowed objects have their
// images pinned. The error is the end of ctx.
func (a *Admission) Review(ctx context.Context, objects []*Object) ([]Verdict, error) {
	var names []string
	index := map[string]int{}
	for _, o := range objects {
		for _, i := range o.Images {
			if _, ok := index[i.Ref()]; !ok {
				index[i.Ref()] = len(names)
				names = append(names, i.Ref())
			}
		}
	}
	answers := make([]ImageVerdict, len(names))
	var group errgroup.Group
	group.SetLimit(a.cfg.Concurrency)
	for i, name := range names {
		group.Go(func() error { answers[i] = a.image(ctx, name); return nil })
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := make([]Verdict, len(objects))
	for i, o := range objects {
		v := Verdict{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Allowed: true, Images: []ImageVerdict{}}
		for _, field := range o.Images {
			one := answers[index[field.Ref()]]
			one.Field = field.Field
			v.Allowed = v.Allowed && one.Allowed
			v.Images = append(v.Images, one)
		}
		out[i] = v
	}
	for i, o := range objects {
		if out[i].Allowed {
			for j, field := range o.Images {
				field.scalar.Set(out[i].Images[j].Pinned)
			}
		}
	}
	return out, nil
}

// image resolves and judges one image.
func (a *Admission) image(ctx context.Context, name string) ImageVerdict {
	v := ImageVerdict{Image: name}
	ref, err := registry.ParseRef(name)
	if err == nil && ref.Scheme != registry.SchemeRegistry {
		err = errors.New("a node pulls images from registries only")
	}
	if err != nil {
		return v.deny(policy.Reason{Code: CodeImageInvalid, Message: err.Error(), Subject: name})
	}
	repo, err := a.cfg.Registry.Open(ctx, ref)
	if err != nil {
		return v.undecided(err)
	}
	desc, err := repo.Resolve(ctx, ref)
	if errors.Is(err, registry.ErrNotFound) {
		return v.deny(policy.Reason{Code: CodeImageUnknown, Message: err.Error(), Subject: name})
	}
	if err != nil {
		return v.undecided(err)
	}
	v.Digest = evidence.Digest(desc.Digest)
	pinned := ref // keeps the tag, for people
	pinned.Digest = v.Digest
	v.Pinned = pinned.String()
	img := policy.Image{Ref: name, Host: ref.Host, Repo: ref.Repository, Tag: ref.Tag, Digest: v.Digest}
	d, err := a.decide(ctx, img, &prover{a: a, repo: repo, ref: ref, desc: desc})
	if err != nil {
		return v.undecided(err)
	}
	v.Allowed, v.Reasons, v.Warnings = d.Allowed, d.Reasons, d.Warnings
	return v
}

// decide asks the policies. What is revoked is denied whatever they say; what cosign
// stored under tags of old is looked for when they are not satisfied without.
func (a *Admission) decide(ctx context.Context, img policy.Image, p *prover) (policy.Decision, error) {
	if why := a.cfg.Revoked.Artifact(img.Digest, a.cfg.Now()); why != "" {
		return policy.Deny(policy.Reason{Code: verify.Revoked, Message: why, Subject: string(img.Digest),
			Hint: "do not run it; ask its publisher for the one that replaces it"}), nil
	}
	d, err := a.cfg.Policies.Evaluate(ctx, img, p)
	satisfied := err == nil && d.Allowed && len(d.Warnings) == 0
	if satisfied || err != nil && fault.KindOf(err) != fault.Unreachable {
		return d, err
	}
	if p.evidence == nil || p.evidence.Extend(ctx) == 0 || ctx.Err() != nil {
		return d, err
	}
	return a.cfg.Policies.Evaluate(ctx, img, p)
}

func (v ImageVerdict) deny(r policy.Reason) ImageVerdict {
	v.Allowed, v.Reasons = false, []policy.Reason{r}
	return v
}

// undecided denies because it could not be found out; nothing is admitted for
// want of an answer.
func (v ImageVerdict) undecided(err error) ImageVerdict {
	v.Err = err
	return v.deny(policy.Reason{Code: CodeUndecided, Message: err.Error(), Subject: v.Image, Hint: fault.HintOf(err)})
}

// prover collects the evidence of one image once and verifies it under each
// trust that is asked for.
type prover struct {
	a    *Admission
	repo *registry.Repository
	ref  registry.Ref
	desc ocispec.Descriptor

	evidence *gate.Evidence
}

var _ clusterimage.Prover = (*prover)(nil)

// Facts implements clusterimage.Prover.
func (p *prover) Facts(ctx context.Context, t clusterimage.Trust) (clusterimage.Facts, error) {
	v, err := p.a.verifier(ctx, t)
	if err != nil {
		return clusterimage.Facts{}, fmt.Errorf("%s: %w", t, err)
	}
	if p.evidence == nil {
		if p.evidence, err = gate.Attached(ctx, p.repo, p.ref, p.desc, p.a.cfg.Collect); err != nil {
			return clusterimage.Facts{}, err
		}
	}
	in, tried := p.evidence.Verify(v, p.a.cfg.Now())
	facts := clusterimage.Facts{Signatures: in.Signatures, Attestations: in.Attestations, Rejected: gate.Rejected(tried)}
	for _, one := range tried {
		if one.Item.Err != nil && fault.KindOf(one.Item.Err) == fault.Unreachable {
			facts.Missing = one.Item.Err
		}
	}
	return facts, nil
}

// verifier is the one for a trust, made at first use. A failure is not kept: the
// next review tries again.
func (a *Admission) verifier(ctx context.Context, t clusterimage.Trust) (*verify.Verifier, error) {
	a.mu.Lock()
	get, ok := a.verifiers[t.String()]
	if !ok {
		get = sync.OnceValues(func() (*verify.Verifier, error) { return a.cfg.Verifier(ctx, t) })
		a.verifiers[t.String()] = get
	}
	a.mu.Unlock()
	v, err := get()
	if err != nil {
		a.mu.Lock()
		delete(a.verifiers, t.String())
		a.mu.Unlock()
	}
	return v, err
}
