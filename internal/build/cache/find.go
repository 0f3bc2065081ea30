package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Build is a build that looks for an entry, or makes one.
type Build struct {
	Repo     *registry.Repository // of caches
	Verifier *verify.Verifier
	Signer   gate.Requirements // exactly who signs this build: who must have signed an entry
	Who      string            // the same in words, for the tag
	Job      bool              // who signs is a CI job, whose certificate says what it is for
	This     *Entry            // what this build's own entry says
	Default  string            // ref of the default branch; "" unknown
	Now      func() time.Time
}

// Found is an entry that passed.
type Found struct {
	Entry    *Entry
	Desc     ocispec.Descriptor // of its manifest
	manifest []byte
	blobs    []ocispec.Descriptor
}

// Find looks for the entry of this ref, and then for that of the default branch; a pull
// request's own, which could be another one's of the same number or branch name, is not looked
// at. Reasons say why entries that are there were not taken. An error means that ctx ended.
func (b *Build) Find(ctx context.Context) (*Found, []policy.Reason, error) {
	var why []policy.Reason
	refs := []string{b.This.Ref, b.Default}
	if b.This.foreign() {
		refs[0] = ""
	}
	at := b.Repo.Ref()
	at.Digest = ""
	for i, ref := range refs {
		if ref == "" || i > 0 && ref == refs[0] {
			continue
		}
		at.Tag = b.This.tag(ref, b.Who)
		desc, err := b.Repo.Resolve(ctx, at)
		var found *Found
		var reasons []policy.Reason
		switch {
		case err == nil:
			found, reasons, err = b.Check(ctx, desc, ref)
		case errors.Is(err, registry.ErrNotFound):
			err = ctx.Err()
		default:
			reasons, err = broken(at.String(), err), ctx.Err()
		}
		why = append(why, reasons...)
		if err != nil || found != nil {
			return found, why, err
		}
	}
	return nil, why, nil
}

// Check judges the manifest as the entry of a ref: the signer is demanded as the build's own
// result is held to it, and then what is signed and who signed must be about this build.
func (b *Build) Check(ctx context.Context, desc ocispec.Descriptor, ref string) (*Found, []policy.Reason, error) {
	name := b.Repo.RefOf(desc.Digest)
	manifest, err := b.Repo.Manifest(ctx, desc)
	var blobs []ocispec.Descriptor
	if err == nil {
		blobs, err = read(manifest)
	}
	if err != nil {
		return nil, broken(name, err), ctx.Err()
	}
	q := b.Signer
	if q.AttestationType = PredicateType; !q.Keys {
		q.MaxAge = MaxAge
	}
	res, err := gate.Image(ctx, gate.Request{Repo: b.Repo, Ref: b.Repo.Ref().WithDigest(evidence.Digest(desc.Digest)), Verifier: b.Verifier, Policy: &q, Now: b.Now})
	if err != nil {
		return nil, broken(name, err), ctx.Err()
	}
	if !res.Decision.Allowed {
		why := because(CodeUnverified, name, "the cache entry is not signed by who signs this build, or longer ago than 30 days")
		return nil, append(why, res.Decision.Reasons...), nil
	}
	var why []policy.Reason
	for i := range res.Tried {
		if t := &res.Tried[i]; t.Counts {
			entry, code, reason := b.check(t.Fact, ref)
			if code == "" {
				return &Found{entry, desc, manifest, blobs}, nil, nil
			}
			why = append(why, because(code, name, reason)...)
		}
	}
	return nil, why, nil
}

func because(code, subject, message string) []policy.Reason {
	return []policy.Reason{{Code: code, Subject: subject, Message: message}}
}

func broken(name string, err error) []policy.Reason {
	return because(CodeBroken, name, "the cache entry cannot be read: "+err.Error())
}

// check compares a statement with the certificate that it was signed with, and both with
// this build. The code of what is wrong is "" when nothing is.
func (b *Build) check(f *policy.Fact, ref string) (e *Entry, code, why string) {
	e, err := Parse(f.Predicate)
	if err != nil {
		return nil, CodeClaims, "the statement about the cache entry cannot be read: " + err.Error()
	}
	if b.Job {
		if why := differs("%s %q, which is %q there", certified, e.certified(), OfCertificate(f.Signer.Extensions).certified()); why != "" {
			return nil, CodeClaims, "the statement about the cache entry is not what its certificate says: " + why
		}
	}
	if why := e.origin(b.Job); why != "" {
		return nil, CodeEvent, "the cache entry is of a build whose results are not reused: " + why
	}
	const format = "the cache entry is for the %s %q, and this build is for %q"
	if why := differs(format, told, e.told(), b.This.told()); why != "" {
		return nil, CodeOther, why
	}
	if e.Ref != ref {
		return nil, CodeOther, fmt.Sprintf(format, "ref", e.Ref, ref)
	}
	return e, "", ""
}

// OfCertificate is the part of an entry that the extensions of a job's certificate say.
func OfCertificate(x map[string]string) *Entry {
	e := &Entry{Repository: x["sourceRepositoryURI"], RepositoryID: x["sourceRepositoryIdentifier"], Ref: x["sourceRepositoryRef"],
		Commit: x["sourceRepositoryDigest"], Event: x["buildTrigger"]}
	if e.Builder.Workflow = x["buildSignerDigest"]; e.Builder.Workflow == e.Commit {
		e.Builder.Workflow = "" // of the source itself: each commit would be another builder
	}
	return e
}

// Keeps says why this build leaves no entry, nil when it may.
func (b *Build) Keeps() []policy.Reason {
	why := b.This.origin(b.Job)
	if why == "" {
		return nil
	}
	return because(CodeEvent, b.This.Ref, "nothing of this build is kept in the cache: "+why)
}
