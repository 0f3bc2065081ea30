package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// merge puts the parts of a distributed build together. Nothing is built here: each part
// must be one of this very build, what it names must be in the registry as it says, and
// the index of all is signed, verified and named as that of a build by one daemon.
func (j *buildJob) merge(ctx context.Context, src *git.Source, answer *buildAnswer) (policy.Decision, error) {
	repo, err := j.open(ctx)
	if err != nil {
		return policy.Decision{}, err
	}
	signing, d, err := j.whoSigns(ctx, src)
	if err != nil || !d.Allowed {
		return d, err
	}
	j.trusted.build.Facts = j.trusted.facts()
	r, err := j.request(ctx, src, "")
	if err != nil {
		return policy.Decision{}, err
	}
	r.Repo = repo
	pieces, err := j.readParts(ctx, src, r, signing)
	if err != nil {
		return d, err
	}
	res, err := build.Merge(ctx, *r, pieces)
	if err != nil {
		return d, err
	}
	for _, p := range pieces {
		for _, tool := range p.Facts.Tools {
			if !slices.Contains(j.trusted.build.Facts.Tools, tool) {
				j.trusted.build.Facts.Tools = append(j.trusted.build.Facts.Tools, tool)
			}
		}
	}
	answer.fill(j, r, res)
	return j.finishAll(ctx, src, r, res, signing, answer)
}

// readParts reads all parts, in the order of the platforms that are asked for. What is
// wrong with them is a *[trusted.Denied].
func (j *buildJob) readParts(ctx context.Context, src *git.Source, r *build.Request, signing *buildSigning) ([]*build.Piece, error) {
	ours, err := j.partOf(src, r)
	if err != nil {
		return nil, err
	}
	plan := &part.Plan{Part: ours, Platforms: j.o.options.Platforms, File: j.trusted.builder, Extensions: j.trusted.extensions}
	dir := j.o.result.parts
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Usagef("--output parts=%s: %v", dir, err)
	}
	if len(entries) > part.MaxList {
		return nil, noPart(dir, fmt.Errorf("there are %d files; a build has at most %d parts", len(entries), part.MaxList))
	}
	parts, err := j.partReader(ctx, signing)
	if err != nil {
		return nil, err
	}
	var all []*part.Named
	no := &trusted.Denied{}
	for _, e := range entries {
		p, err := parts.read(ctx, filepath.Join(dir, e.Name()))
		var why *trusted.Denied
		switch {
		case err == nil:
			all, no.Reasons = append(all, p), append(no.Reasons, plan.Check(p)...)
		case errors.As(err, &why):
			no.Reasons = append(no.Reasons, why.Reasons...)
		default:
			return nil, err
		}
	}
	if len(no.Reasons) == 0 {
		all, no.Reasons = plan.Complete(all)
	}
	if len(no.Reasons) > 0 {
		return nil, no
	}
	var pieces []*build.Piece
	for _, p := range all {
		pieces = append(pieces, &build.Piece{Name: p.Name, Platform: p.Platform, Index: p.Index, Facts: p.Facts, Policies: p.Policies})
	}
	return pieces, nil
}

// noPart is the denial of a file that is no part.
func noPart(path string, err error) error {
	return &trusted.Denied{Reasons: []policy.Reason{part.Reason(part.CodeInvalid, filepath.Base(path), err.Error())}}
}

// partReader verifies parts as what who signs here signed.
type partReader struct {
	who      string
	verifier *verify.Verifier
	wants    gate.Requirements
}

func (j *buildJob) partReader(ctx context.Context, signing *buildSigning) (*partReader, error) {
	who, err := signing.signer.Who(ctx)
	if err != nil {
		return nil, err
	}
	r := &partReader{who: who.String()}
	if r.verifier, r.wants, err = j.consumer(ctx, &who); err != nil {
		return nil, fmt.Errorf("verifying parts: %w", err)
	}
	r.wants.AttestationType = part.PredicateType
	for i := range r.wants.Identities {
		r.wants.Identities[i].Source, r.wants.Identities[i].Runner = "", "" // which the plan compares, with all else that the certificate says
	}
	return r, nil
}

// read reads a file as the part that it may be, and verifies who signed it; what is wrong
// with it is a *[trusted.Denied]. That it is of this build is another question.
func (r *partReader) read(ctx context.Context, path string) (*part.Named, error) {
	item, p, err := readPartFile(path)
	if err != nil {
		return nil, noPart(path, err)
	}
	result, err := gate.Blob(ctx, gate.BlobRequest{Name: path, Artifact: verify.Image(p.Index), Items: []collect.Item{item}, Verifier: r.verifier, Policy: r.wants})
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	if d := &result.Decision; !d.Allowed {
		why := part.Reason(part.CodeSigner, name, "it does not verify as what was signed by "+r.who)
		return nil, &trusted.Denied{Reasons: append([]policy.Reason{why}, d.Reasons...)}
	}
	return &part.Named{Name: name, Part: p, Signer: result.Tried[0].Fact.Signer}, nil
}

// readPartFile reads a regular file that is no larger than a part can be: a bundle with a
// part in it, which nobody has verified.
func readPartFile(path string) (item collect.Item, p *part.Part, err error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err == nil && info.Size() > part.MaxFile {
		err = fmt.Errorf("it has more than %d bytes", part.MaxFile)
	}
	if err != nil {
		return item, nil, err
	}
	items, err := collect.Files(path)
	if err == nil && len(items) != 1 {
		err = errors.New("it holds several bundles")
	}
	if err == nil {
		item, err = items[0], items[0].Err
	}
	if err == nil && item.Claim.Envelope == nil {
		err = errors.New("it holds no statement")
	}
	if err != nil {
		return item, nil, err
	}
	p, err = part.Parse(item.Claim.Envelope.Payload)
	return item, p, err
}
